"""The weights cache: every file verified before it is used, published whole or not at all.

Layout: ``CACHE/NAME/`` holds a card's files and ``.complete.json``; ``CACHE/.partial/NAME`` is a fetch in progress: a killed
one leaves it behind, and the next goes on with what its source can continue and clears the rest; ``CACHE/.locks/NAME`` lets
one process at a time fetch a card.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from models.audio import file_sha256
from models.card import ModelCard, WeightSource, find_card
from models.errors import WeightsError
from models.marker import MARKER, check_unchanged, mark, origin_of, read_marker
from models.pickles import is_pickle, is_pickle_name
from models.sources import Artifacts, Delivery, Order, Progress, Unavailable, describe, obtain, possible, resumes

PARTIAL = ".partial"
LOCKS = ".locks"
NO_PICKLES = "is a pickle, which can run any code when it is read; convert it to safetensors where you trust it"


@dataclass(frozen=True, slots=True)
class Located:
    """Verified weights, ready for an engine."""

    folder: Path
    """The folder that holds the files; it need not exist where there are none."""
    sha256: dict[str, str]
    """File name → sha256 of what lies there."""


@dataclass(frozen=True, slots=True)
class WeightsStatus:
    """Whether a model's weights are here, and if not, what to do."""

    present: bool
    """The files are complete and unchanged in size."""
    note: str
    """Where they came from, or the command that fetches them."""


def locate(card: ModelCard, cache: Path) -> Located:
    """Find weights that were fetched and verified earlier.

    Fast: a file whose size and modification time are those of the marker is not read again.

    Raises:
        WeightsError: They were never fetched, a file is missing or changed, or the card now names other weights.
    """
    folder = cache / card.name
    if not card.weights.needed:
        return Located(folder, {})
    marker = read_marker(card, folder)
    check_unchanged(card, folder, marker)
    return Located(folder, marker.sha256)


def status(card: ModelCard, cards: Mapping[str, ModelCard], cache: Path) -> WeightsStatus:
    """Say whether the weights are here, without reading them.

    Args:
        card: The model asked about.
        cards: All cards, for weights that are converted from another card's.
        cache: The weights cache.
    """
    folder = cache / card.name
    if not card.weights.needed:
        return WeightsStatus(True, "needs none")
    if not (folder / MARKER).exists():
        ways = "; ".join(dict.fromkeys(describe(source) for source in card.weights.sources if possible(source, cards)))
        noted = " (sha256 noted at first fetch)" if card.weights.noted_at_first_fetch else ""
        if not ways and (folders := [source.path for source in card.weights.sources if source.kind == "path"]):
            ways = f"put by hand into {' or '.join(folders)}, as the card says"
        return WeightsStatus(False, f"{ways or 'no source'}{noted}: modellab models fetch {card.name}")
    try:
        marker = read_marker(card, folder)
    except WeightsError as error:
        return WeightsStatus(False, str(error))
    for name, entry in marker.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry.size:
            return WeightsStatus(False, f"{name} is missing or cut short: modellab models fetch {card.name}")
    return WeightsStatus(True, f"from {marker.source}{', sha256 noted at first fetch' if marker.origin else ''}")


def fetch(
    card: ModelCard,
    cards: Mapping[str, ModelCard],
    cache: Path,
    progress: Progress,
    artifacts: Artifacts | None = None,
) -> Located:
    """Get the weights from the first source that has them, unless they are here already.

    Safe to call from several processes at once: one fetches, the others wait and find the result. Killed, it leaves nothing
    in the cache, and what a web server or the hub had sent is gone on with next time.

    Args:
        card: The model whose weights are wanted.
        cards: All cards, for weights that are converted from another card's.
        cache: The weights cache; made if it does not exist.
        progress: Told in short lines what is going on.
        artifacts: Reads MLflow's artifacts; None where MLflow is not set up.

    Raises:
        WeightsError: No source could give them; says of each why not.
    """
    return _Fetch(cards, cache, progress, artifacts).run(card, ())


@dataclass(frozen=True)
class _Fetch:
    """One call of `fetch`."""

    cards: Mapping[str, ModelCard]
    cache: Path
    say: Progress
    artifacts: Artifacts | None

    def run(self, card: ModelCard, chain: tuple[str, ...]) -> Located:
        if card.name in chain:  # would wait for its own lock for ever
            raise WeightsError(f"The cards convert in a circle: {' → '.join((*chain, card.name))}.", "Mend the cards.")
        if (found := self._already(card)) is not None:
            return found
        with _locked(card, self.cache, self.say):
            if (found := self._already(card)) is not None:  # another process was first
                return found
            failures: dict[str, None] = {}  # ordered, and two paths that fail alike are named once
            for source in card.weights.sources:
                if source.kind != "path":  # folders answer at once
                    self.say(f"{card.name}: from {describe(source)}")
                try:
                    self._fetch_from(source, card, chain)
                except (Unavailable, OSError) as error:
                    failures[f"{describe(source)}: {str(error).rstrip('.')}"] = None
                else:
                    return locate(card, self.cache)
        raise WeightsError(
            f"No source has the weights of {card.name}: {'; '.join(failures) or 'the card names none'}.",
            "Mend one of these, or put the files in a folder and name it in MODELLAB_LOCAL_WEIGHTS.",
        )

    def _already(self, card: ModelCard) -> Located | None:
        if card.weights.needed and not (self.cache / card.name / MARKER).exists():
            return None
        try:
            return locate(card, self.cache)
        except WeightsError as error:
            self.say(f"{error.message} Fetching again.")
            return None

    def _fetch_from(self, source: WeightSource, card: ModelCard, chain: tuple[str, ...]) -> None:
        def fetch_other(name: str) -> Path:
            other = find_card(name, self.cards)
            if not other.weights.needed:
                raise WeightsError(f"{name} has no weights to convert.", "Mend the card.")
            return self.run(other, (*chain, card.name)).folder

        wanted = card.weights.files_of(source)
        if source.kind != "convert" and (pickles := [name for name in wanted if is_pickle_name(name)]):
            raise Unavailable(f"{pickles[0]} {NO_PICKLES}")
        partial = self.cache / PARTIAL / card.name
        into, scratch = partial / "files", partial / _key(source)
        if not resumes(source):
            shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(into, ignore_errors=True)
        try:
            for name in wanted:
                (into / name).parent.mkdir(parents=True, exist_ok=True)
            scratch.mkdir(parents=True, exist_ok=True)
            delivery = obtain(source, Order(wanted, into, scratch, self.say, fetch_other, self.artifacts))
            try:
                digests = _verified(into, card, source, delivery, self._noted(card))
            except Unavailable:
                shutil.rmtree(scratch)  # nothing to go on with: these bytes are wrong
                raise
            mark(into, digests, delivery.origin, origin_of(source) if None in wanted.values() else "")
            _publish(into, self.cache / card.name)
            shutil.rmtree(partial, ignore_errors=True)
        finally:
            shutil.rmtree(into, ignore_errors=True)
            if not resumes(source):
                shutil.rmtree(scratch, ignore_errors=True)
            for folder in (scratch, partial):
                with suppress(OSError):  # not empty: a later fetch goes on with it
                    folder.rmdir()

    def _noted(self, card: ModelCard) -> dict[str, str]:
        try:
            return read_marker(card, self.cache / card.name).sha256
        except WeightsError:
            return {}


def take_verified(source: Path, target: Path, digest: str) -> None:
    """Link or copy one weight file, and read it once more: what leaves the cache is what was verified.

    Args:
        source: In the cache.
        target: The new file; its folder is made.
        digest: The sha256 that it was verified by, 64 hex digits.

    Raises:
        WeightsError: The file has changed since.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system
        shutil.copyfile(source, target)
    if file_sha256(target) != digest:
        raise WeightsError(f"{source} has changed since it was verified.", "Run: modellab models fetch MODEL")


def _key(source: WeightSource) -> str:
    return hashlib.sha256(origin_of(source).encode()).hexdigest()[:16]


@contextmanager
def _locked(card: ModelCard, cache: Path, progress: Progress) -> Iterator[None]:
    from filelock import FileLock, Timeout

    try:
        (cache / LOCKS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(f"The weights folder {cache} cannot be written: {error}.", "Check MODELLAB_HOME.") from error
    lock = FileLock(cache / LOCKS / card.name)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(f"{card.name}: waiting for another process that is fetching it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _verified(
    folder: Path, card: ModelCard, source: WeightSource, delivery: Delivery, noted: Mapping[str, str]
) -> dict[str, str]:
    """Hold the files to the card, to what the source states, and to what was noted when they were first fetched."""
    digests = {}
    for name, digest in card.weights.files_of(source).items():
        path = folder / name
        if not path.is_file():
            raise Unavailable(f"it has no {name}")
        if source.kind != "convert" and is_pickle(path):
            raise Unavailable(f"{name} {NO_PICKLES}")
        got = file_sha256(path)
        for who, expected in (("", digest), (" by the source", delivery.stated.get(name))):
            if expected not in (None, got):
                raise Unavailable(f"{name}: expected sha256 {expected}{who}, got {got}")
        if digest is None and noted.get(name, got) != got:
            raise Unavailable(
                f"{name}: sha256 {noted[name]} was noted when it was first fetched, it is {got} now; if that is meant, "
                f"remove the folder {card.name} of the weights cache"
            )
        digests[name] = got
    return digests


def _publish(files: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # was refused by `locate`, or is no cache of ours
    files.rename(folder)

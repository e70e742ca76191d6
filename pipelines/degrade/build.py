"""A variant of a corpus as a corpus of its own: the same utterances, each recording degraded.

The result is the same bytes however often it is made: what is random is drawn by the utterance's id, audio is FLAC (whose
encoder draws nothing, unlike Ogg's serial numbers), and nothing is dated. What was finished before a kill is kept in a
folder beside the result and not made again; the result appears whole, by a rename.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from filelock import FileLock, Timeout
from pydantic import ValidationError

from models.audio import decode, file_sha256
from models.errors import AudioError, CorpusError
from pipelines.corpus import CONFIG, Corpus
from pipelines.degrade.effects import Means, Sound, degrade
from pipelines.degrade.recipe import RECORD, Made, Recipe, Variant, VariantReport, describe, read_variant
from pipelines.degrade.steps import VARIANT
from pipelines.home import write_atomically
from pipelines.manifest import MANIFEST
from pipelines.types import Utterance

DONE = "done.jsonl"
FAULTS_SHOWN = 5


@dataclass(frozen=True)
class Order:
    """What to make and where."""

    corpus: Corpus
    recipe: Recipe
    means: Means
    into: Path
    """The folder that has the variants as its children."""

    @property
    def name(self) -> str:
        """Name of the new corpus and its folder."""
        return f"{self.corpus.name}-{self.recipe.variant}"

    @property
    def folder(self) -> Path:
        """Where it will be."""
        return self.into / self.name

    @property
    def partial(self) -> Path:
        """Where it grows; no name of a corpus begins with a dot."""
        return self.into / f".{self.name}.partial"


def build(order: Order, workers: int, advance: Callable[[int], None]) -> VariantReport:
    """Make one variant, or what is missing of it.

    Args:
        order: What to make.
        workers: Recordings at a time; the libraries compute outside Python's lock.
        advance: Told how many recordings are done, by ones.

    Raises:
        CorpusError: Recordings cannot be read, the place is taken by something else, or another process is making it.
    """
    _check_place(order)
    order.into.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(order.into / f".{order.name}.lock", timeout=0):
            return _build(order, workers, advance)
    except Timeout as error:
        raise CorpusError(f"Another process is making {order.name}.", "Wait for it to end.") from error


def _build(order: Order, workers: int, advance: Callable[[int], None]) -> VariantReport:
    audio = order.partial / "audio"
    audio.mkdir(parents=True, exist_ok=True)
    kept = _finished(order)
    faults: list[str] = []
    made: dict[str, Made] = {}
    fresh = 0
    with (order.partial / DONE).open("a", encoding="utf-8") as log, ThreadPoolExecutor(workers) as pool:
        try:
            for found, is_fresh, fault in pool.map(lambda u: _make_one(order, u, kept.get(u.id)), order.corpus.utterances):
                if found is None:
                    faults.append(fault)
                    continue
                if is_fresh:
                    fresh += 1
                    log.write(json.dumps({"recipe": order.recipe.digest, **found.model_dump(mode="json")}) + "\n")
                    log.flush()
                made[found.id] = found
                advance(1)
        except BaseException:
            # Ctrl-C must not wait for everything that is queued.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if faults:
        more = f" (and {len(faults) - FAULTS_SHOWN} more)" if len(faults) > FAULTS_SHOWN else ""
        raise CorpusError(
            f"{len(faults)} recording(s) of {order.corpus.name} cannot be degraded: {' '.join(faults[:FAULTS_SHOWN])}{more}",
            "Mend them or take their lines out of the manifest; the others are kept.",
        )
    rows = [made[utterance.id] for utterance in order.corpus.utterances]
    variant = Variant(recipe=order.recipe, recordings=tuple(rows))
    _write_corpus(order, variant)
    _publish(order)
    return VariantReport(
        corpus=order.name,
        variant=order.recipe.variant,
        folder=order.folder,
        recordings=len(rows),
        made=fresh,
        minutes=round(sum(row.duration for row in rows) / 60, 2),
        clipped=sum(row.clipped > 0 for row in rows),
    )


def _make_one(order: Order, utterance: Utterance, kept: tuple[Path, Made] | None) -> tuple[Made | None, bool, str]:
    """Make one recording, or take it from where it was made: the record, whether it is new, or the fault."""
    source = order.corpus.audio_path(utterance)
    name = f"audio/{_file_name(utterance.id)}"
    target = order.partial / name
    try:
        digest = file_sha256(source)
        if kept is not None and kept[1].source_sha256 == digest and (_take(kept[0] / kept[1].audio_filepath, target)):
            return kept[1], False, ""
        sound = degrade(decode(source).samples.astype(np.float64), order.recipe.steps, utterance.id, order.means)
    except OSError as error:
        return None, False, f"{utterance.audio_filepath} cannot be read ({error.strerror}); run `dvc pull`."
    except AudioError as error:
        return None, False, error.message
    write_atomically(target, _flac(sound))
    return (
        Made(
            id=utterance.id,
            source_sha256=digest,
            audio_filepath=name,
            duration=round(len(sound.samples) / sound.rate_hz, 4),
            facts=dict(sound.facts),
            tags=dict(sound.tags),
            clipped=sound.clipped,
        ),
        True,
        "",
    )


def _take(source: Path, target: Path) -> bool:
    """Put a finished recording into the folder that grows; False where it is gone."""
    if source == target:
        return target.is_file()
    try:
        target.unlink(missing_ok=True)
        target.hardlink_to(source)
    except OSError:
        try:
            shutil.copyfile(source, target)
        except OSError:
            return False
    return True


def _finished(order: Order) -> dict[str, tuple[Path, Made]]:
    """What an earlier run made by the same recipe: id → the folder it lies in, and its record."""
    found: dict[str, tuple[Path, Made]] = {}
    before = read_variant(order.folder)
    if before is not None and before.recipe == order.recipe:
        found |= {made.id: (order.folder, made) for made in before.recordings}
    log = order.partial / DONE
    if log.is_file():
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
                recipe = row.pop("recipe")
                made = Made.model_validate(row)
            except (ValueError, KeyError, AttributeError, ValidationError):
                continue  # the line that a kill cut
            if recipe == order.recipe.digest:
                found[made.id] = (order.partial, made)
    return found


def _check_place(order: Order) -> None:
    if order.folder.exists() and not (order.folder / RECORD).is_file() and any(order.folder.iterdir()):
        raise CorpusError(
            f"{order.folder} is there and was not made by `modellab corpus degrade`; it is not overwritten.",
            "Move it away, or name another folder by --out.",
        )


def _write_corpus(order: Order, variant: Variant) -> None:
    config = order.corpus.config
    text = {
        "name": order.name,
        "tasks": ["asr"],
        "normalizer": config.normalizers.model_dump(mode="json"),
        "licence": config.licence,
        "description": f"{order.corpus.name}, degraded as {order.recipe.variant}: {describe(order.recipe.steps)}. "
        f"Made by `modellab corpus degrade`; {RECORD} has the recipe.",
    }
    lines = _manifest(order, variant)
    write_atomically(order.partial / CONFIG, yaml.safe_dump(text, sort_keys=False, allow_unicode=True, width=100))
    write_atomically(order.partial / RECORD, variant.model_dump_json(indent=1) + "\n")
    write_atomically(order.partial / MANIFEST, "".join(f"{line}\n" for line in lines))


def _manifest(order: Order, variant: Variant) -> Iterator[str]:
    for utterance, made in zip(order.corpus.utterances, variant.recordings, strict=True):
        untrue = {key: value for key, value in made.tags.items() if key in utterance.tags}
        row = utterance.model_copy(
            update={
                "audio_filepath": made.audio_filepath,
                "duration": made.duration,
                "source": f"{utterance.source}; degraded as {variant.recipe.variant}",
                "tags": {**utterance.tags, **untrue, VARIANT: variant.recipe.variant},
                "variant_of": f"{order.corpus.name}/{utterance.id}",
            }
        )
        yield json.dumps(row.model_dump(mode="json"), ensure_ascii=False)


def _publish(order: Order) -> None:
    """Put the finished folder in its place; the old one goes only when the new one is whole."""
    (order.partial / DONE).unlink(missing_ok=True)
    wanted = {_file_name(utterance.id) for utterance in order.corpus.utterances}
    for file in (order.partial / "audio").iterdir():
        if file.name not in wanted:
            file.unlink()  # of a recording that is not in the corpus any more
    old = order.into / f".{order.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if order.folder.exists():
        order.folder.rename(old)
    order.partial.rename(order.folder)
    shutil.rmtree(old, ignore_errors=True)


def _file_name(utterance: str) -> str:
    """A file's name that any id can have: readable, and unique by a digest."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", utterance).strip("-")[:60]
    return f"{readable}-{hashlib.sha256(utterance.encode('utf-8')).hexdigest()[:10]}.flac"


def _flac(sound: Sound) -> bytes:
    import soundfile

    buffer = io.BytesIO()
    samples = np.clip(sound.samples, -1.0, 1.0)
    soundfile.write(buffer, samples, sound.rate_hz, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()

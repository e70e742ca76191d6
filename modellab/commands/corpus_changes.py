"""`modellab corpus add`, `push` and `pull`: what changes test data, and what shares it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modellab.commands.common import Json, open_lab, with_progress
from modellab.commands.validation import EXIT_INVALID, print_validation
from modellab.console import out, print_json

if TYPE_CHECKING:
    from pipelines.ingest.add import Added

Commit = Annotated[bool, typer.Option("--commit", help="Do the git step too: commit data.dvc, and nothing else.")]


def add(
    folder: Annotated[Path, typer.Argument(help="The folder, or a manifest in it.")],
    name: Annotated[str, typer.Option("--name", help="Name of the corpus under data/.")],
    update: Annotated[bool, typer.Option("--update", help="Make a new version of a corpus that is there.")] = False,
    link: Annotated[bool, typer.Option("--link", help="Link the recordings instead of copying them.")] = False,
    commit: Commit = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell the layout and validate; add nothing.")] = False,
    layout: Annotated[str | None, typer.Option("--layout", help="The layout, where a folder could have several.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Which table of several, such as test.")] = None,
    text: Annotated[str | None, typer.Option("--text", help="Column of the text, where it has an unusual name.")] = None,
    audio: Annotated[
        Path | None, typer.Option("--audio", help="Another folder that paths of recordings may lead into.")
    ] = None,
    licence: Annotated[str | None, typer.Option("--licence", help="Licence of lines that name none.")] = None,
    language: Annotated[str | None, typer.Option("--language", help="Language of lines that name none.")] = None,
    speaker: Annotated[str | None, typer.Option("--speaker", help="Speaker of lines that name none.")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Where it comes from.")] = None,
    tags: Annotated[list[str] | None, typer.Option("--tag", help="key=value for every line; repeat for more.")] = None,
    normalizer: Annotated[str | None, typer.Option("--normalizer", help="Preset for the texts.")] = None,
    description: Annotated[str | None, typer.Option("--description", help="A sentence for corpus.yaml.")] = None,
    apart_from: Annotated[
        list[str] | None, typer.Option("--apart-from", help="A corpus that must not share speakers with it; repeat.")
    ] = None,
    json_: Json = False,
) -> None:
    """Add a corpus: find its layout, validate it, copy it to data/, make it a DVC version. Exits with 1 if it is refused."""
    _, lab = open_lab()
    from pipelines.corpus import parse_slice
    from pipelines.ingest.add import AddRequest, add_corpus
    from pipelines.ingest.found import SourceOptions
    from pipelines.normalize import find_normalizer

    if normalizer is not None:
        find_normalizer(normalizer)
    settings = {
        "licence": licence,
        "normalizer": normalizer,
        "description": description,
        "apart_from": tuple(apart_from) if apart_from else None,
    }
    request = AddRequest(
        folder=folder,
        name=name,
        options=SourceOptions(
            layout=layout,
            split=split,
            text=text,
            audio=audio,
            language=language,
            speaker=speaker,
            source=source,
            tags=dict(parse_slice(tag) for tag in tags or ()),
        ),
        settings={key: value for key, value in settings.items() if value is not None},
        link=link,
        update=update,
        dry_run=dry_run,
        commit=commit,
    )
    with with_progress():
        added = add_corpus(lab, request)
    if json_:
        print_json(added)
    else:
        _print_added(added)
    if added.status == "refused":
        raise typer.Exit(EXIT_INVALID)


def _print_added(added: Added) -> None:
    if added.validation is not None:
        print_validation(added.validation)
    if added.difference is not None:
        for line in added.difference.lines():
            out.print(line, markup=False)
    told = {
        "added": f"{added.corpus} is added, from {added.layout}.",
        "updated": f"{added.corpus} is updated, from {added.layout}.",
        "unchanged": f"{added.corpus} is there already, the same.",
        "refused": f"Nothing was added: mend the errors above and run the command again ({added.layout}).",
        "checked": f"Nothing was added, as asked; {added.corpus} would be, from {added.layout}.",
    }
    out.print(told[added.status], markup=False)
    if added.power:
        out.print(added.power, markup=False)
    if added.data_version:
        out.print(f"data version {added.data_version}", markup=False)
    _print_git(added.git, added.commit)
    if added.status in ("added", "updated") and added.data_version:
        out.print("Then share it: `modellab corpus push`.", markup=False)


def _print_git(steps: tuple[str, ...], commit: str | None) -> None:
    if commit:
        out.print(f"committed {commit[:12]}", markup=False)
    if steps:
        out.print("Record it in git:")
        for step in steps:
            out.print(f"  {step}", markup=False)


def push(
    to: Annotated[
        str | None, typer.Option("--to", help="Where to, the first time: a folder, s3://BUCKET/PATH, ssh://HOST/PATH.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", help="Address of an S3-compatible server, with --to.")
    ] = None,
    commit: Commit = False,
    json_: Json = False,
) -> None:
    """Send data/ to the team's remote, and check that all of this version is there."""
    _, lab = open_lab()
    from pipelines import versions

    with with_progress():
        pushed = versions.push(
            lab.project, to=to, endpoint=endpoint, message="Push the data to the team's remote" if commit else None
        )
    if json_:
        print_json(pushed)
        return
    again = f", {pushed.repaired} sent again" if pushed.repaired else ""
    out.print(f"{pushed.pushed} objects pushed to {pushed.url}{again}; all {pushed.verified} of this version are there.")
    _print_git(pushed.git, pushed.commit)


def pull(
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing if all goes well.")] = False,
    json_: Json = False,
) -> None:
    """Bring data/ to the version that data.dvc names."""
    _, lab = open_lab()
    import contextlib

    from pipelines import versions

    with contextlib.nullcontext() if quiet else with_progress():
        pulled = versions.pull(lab.project)
    if json_:
        print_json(pulled)
    elif not quiet:
        out.print(f"data version {pulled.data_version}: {pulled.fetched} objects fetched", markup=False)

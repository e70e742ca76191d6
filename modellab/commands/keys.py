"""`modellab keys`: who may use a served model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from modellab.commands.common import Json, open_lab
from modellab.console import err, out, print_json

VARIABLE = "MODELLAB_SERVE_API_KEYS_FILE"
FILE = "api-keys"
"""Name of the keys file in the home."""

app = typer.Typer(help="API keys of the services.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Whose key it is; logs carry it. Letters, digits, dots, dashes, underscores.")]


def keys_file(home: Path) -> Path:
    """Give the file that services here read: MODELLAB_SERVE_API_KEYS_FILE, or the one in the home."""
    given = os.environ.get(VARIABLE)
    return Path(given) if given else home / FILE


@app.command("add")
def add(name: Name, json_: Json = False) -> None:
    """Make a key. It is shown once and kept nowhere: the file has its digest."""
    path = _path()
    from serving.keys import add_key

    first = not path.exists()
    key = add_key(path, name)
    if json_:
        print_json({"name": name, "key": key, "file": str(path)})
        return
    out.print(key, markup=False, soft_wrap=True)
    err.print(f"The key of {name}, shown this once. Its digest is in {path}.", markup=False)
    if first:
        err.print("Services that `modellab serve` starts from now on ask for a key; others read the file that", markup=False)
        err.print(f"{VARIABLE} names.", markup=False)


@app.command("list")
def list_(json_: Json = False) -> None:
    """List the keys: names and when they were made."""
    path = _path()
    from serving.keys import list_keys

    keys = list_keys(path)
    if json_:
        print_json({"file": str(path), "keys": [key.model_dump(mode="json") for key in keys]})
        return
    for key in keys:
        out.print(f"{key.name}  made {key.made or 'by hand'}", markup=False)
    if not keys:
        err.print(f"There are no keys in {path}. Make one: modellab keys add NAME", markup=False)


@app.command("revoke")
def revoke(name: Name, json_: Json = False) -> None:
    """Take a key back. Running services refuse it at once."""
    path = _path()
    from serving.keys import revoke_key

    revoke_key(path, name)
    if json_:
        print_json({"name": name, "revoked": True, "file": str(path)})
    else:
        out.print(f"The key of {name} is no longer valid.", markup=False)


def _path() -> Path:
    _, lab = open_lab()
    return keys_file(lab.home.root)

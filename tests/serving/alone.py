"""A service in a process of its own, so that its memory can be measured: `python alone.py WEIGHTS SETTINGS-AS-JSON`.

It prints its port when it is ready.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import uvicorn

from models.card import read_cards
from models.weights import fetch
from serving.app import create_app
from serving.served import load
from serving.settings import ServiceSettings

MODEL = "faster-whisper-tiny.en"


def main() -> None:
    weights, settings = Path(sys.argv[1]), ServiceSettings.model_validate(json.loads(sys.argv[2]))
    cards = read_cards()
    model = load(cards[MODEL], fetch(cards[MODEL], cards, weights, lambda line: None))
    model.warm_up()
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(create_app({MODEL: model}, settings), log_level="critical", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()

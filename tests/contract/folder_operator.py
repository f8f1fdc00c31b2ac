"""A program in the operator's place: brings the configuration of a folder of manifests to several gateways.

`python -m contract.folder_operator FOLDER STATE INTERNAL-ADDRESS…`

Beside `mounted` the one place of this folder that knows the product from inside: it reads and compiles as `hookstead
dev` does, and pushes as the operator does.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from contract.processes import INTERNAL_TOKEN, ask
from hookstead.cli.dev_environment import DevEnvironment
from hookstead.cli.folder import ManifestFolder
from hookstead.cli.manifests import read_objects
from hookstead.cli.state_folder import StateFolder
from hookstead.config import serial
from hookstead.config.model import DeliveryConfig
from hookstead.config.report import Running

NAMESPACE: Final = "default"
POLL_SECONDS: Final = 0.1
"""Between two looks at the folder; a change counts after two that agree."""
_HEADERS: Final = {"authorization": f"Bearer {INTERNAL_TOKEN}"}


def main(folder: str, state: str, *gateways: str) -> None:
    """Until it is killed."""
    os.umask(0o077)
    kept = StateFolder(Path(state))
    kept.create()
    manifests = ManifestFolder(Path(folder), namespace=NAMESPACE, state=kept, read_text=read_objects)
    environment = DevEnvironment(namespace=NAMESPACE, state=kept)
    sequence = max(_sequence(gateway) for gateway in gateways)
    while True:
        contents = manifests.contents()
        outcome = environment.update(contents, now_ms=time.time_ns() // 1_000_000)
        sequence += 1
        for gateway in gateways:
            _push(gateway, outcome.config, sequence)
        print(f"in force: {sequence}", *contents.troubles, *outcome.complaints, sep="\n", flush=True)
        while not manifests.settled_change():
            time.sleep(POLL_SECONDS)


def _sequence(gateway: str) -> int:
    """Of what it runs, which may be the saved copy of a life before."""
    reply = ask(gateway, "GET", "/internal/v1/running", headers=_HEADERS)
    assert reply.status == 200, reply
    return msgspec.json.decode(reply.body, type=Running).epoch.sequence


def _push(gateway: str, config: DeliveryConfig, sequence: int) -> None:
    document = serial.encode(config)
    told = {"hookstead-epoch": f"1.{sequence}", "hookstead-hash": serial.digest(document)}
    reply = ask(gateway, "PUT", "/internal/v1/config", headers={**_HEADERS, **told}, body=document)
    assert reply.status == 200, (gateway, reply)
    assert msgspec.json.decode(reply.body, type=Running).hash == told["hookstead-hash"]


if __name__ == "__main__":
    main(*sys.argv[1:])

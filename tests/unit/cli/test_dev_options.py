"""What `hookstead dev` asks of the gateway that it runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from hookstead.cli.dev import _options
from hookstead.gateway.options import AuthMode


def test_a_replay_that_comes_back_to_the_folder_is_known_for_ever() -> None:
    """Its identity is name and spec, so that the same manifest is the same replay: it is never run again."""
    given = argparse.Namespace(
        listen=("127.0.0.1", 0),
        admin_listen=("127.0.0.1", 0),
        namespace="default",
        drain_seconds=25.0,
        resolver=(),
    )
    options = _options(given, store=Path("store.sqlite3"))
    assert options.replays_come_back
    assert options.auth is AuthMode.NONE
    assert options.allow_loopback
    assert options.internal_listen is None

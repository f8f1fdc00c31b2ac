"""The state folder keeps what no manifest has, for its own user only."""

from __future__ import annotations

import base64
import stat
from typing import TYPE_CHECKING

import pytest

from hookstead.cli.ledger import Key, Ledger, Sighting
from hookstead.cli.outcome import CommandError
from hookstead.cli.state_folder import StateFolder
from hookstead.resources.kinds import Kind

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    return folder


def test_a_generated_key_is_a_standard_webhooks_secret_and_is_kept(state: StateFolder) -> None:
    assert state.signing_key("default", "acme") is None
    state.generate_signing_key("default", "acme")
    key = state.signing_key("default", "acme")
    assert key is not None
    text = key.reveal().decode().strip()
    assert text.startswith("whsec_")
    assert len(base64.b64decode(text.removeprefix("whsec_"), validate=True)) == 32
    again = StateFolder(state.path).signing_key("default", "acme")
    assert again == key


def test_the_key_of_an_endpoint_that_is_gone_is_removed_and_the_others_stay(state: StateFolder) -> None:
    for namespace, endpoint in (("default", "acme"), ("default", "gone"), ("prod", "gone")):
        state.generate_signing_key(namespace, endpoint)
    state.keep_signing_keys("default", {"acme"})
    assert state.signing_key("default", "acme") is not None
    assert state.signing_key("default", "gone") is None
    assert state.signing_key("prod", "gone") is not None


def test_what_somebody_else_put_beside_the_keys_is_left_alone(state: StateFolder) -> None:
    state.generate_signing_key("default", "acme")
    stray = state.path / "secrets" / "default" / "notes.txt"
    stray.write_text("mine")
    state.keep_signing_keys("default", {"acme"})
    assert stray.read_text() == "mine"


def test_everything_is_readable_by_its_user_only(state: StateFolder) -> None:
    state.generate_signing_key("default", "acme")
    state.keep_last_good("a.yaml", "kind: Secret\n")
    state.write_ledger(Ledger())
    for path in (state.path, *state.path.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_the_last_readable_content_of_a_file_is_kept_until_the_file_is_gone(state: StateFolder) -> None:
    state.keep_last_good("a.yaml", "a")
    state.keep_last_good("b.yaml", "b")
    state.keep_manifests(["a.yaml"])
    assert (state.last_good("a.yaml"), state.last_good("b.yaml")) == ("a", None)


def test_the_ledger_survives_and_a_broken_one_is_an_error_that_names_the_folder(state: StateFolder) -> None:
    ledger = Ledger().observe((Sighting(Key(Kind.CHANNEL, "default", "c"), "d"),), now_ms=7)
    state.write_ledger(ledger)
    assert StateFolder(state.path).read_ledger() == ledger
    (state.path / "objects.json").write_text("{")
    with pytest.raises(CommandError, match=r"the state folder .* cannot be used: objects.json"):
        state.read_ledger()

"""`hookstead plan --with-traffic` against a real `hookstead dev`: counted on what the gateway really saw."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from hookstead.cli.main import main
from integration.cli.dev_process import Dev, Receiver, endpoint, event_type

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_what_was_seen_is_replayed_against_the_changed_folder_and_what_waits_is_counted(
    folder: Path, tmp_path: Path, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "acme.yaml").write_text(endpoint("acme", receiver.url + "/acme"))
    (folder / "paused.yaml").write_text(endpoint("paused", receiver.url + "/paused", state="Paused"))
    wanted = tmp_path / "wanted"
    shutil.copytree(folder, wanted)
    (wanted / "acme.yaml").write_text(endpoint("acme", receiver.url + "/acme", filter="event.data.total > 10"))
    (wanted / "paused.yaml").unlink()
    (wanted / "fresh.yaml").write_text(endpoint("fresh", receiver.url + "/fresh", eventTypes=["bill.*"]))
    (wanted / "bill.yaml").write_text(event_type("bill.paid"))
    with Dev(folder, state=tmp_path / "state") as dev:
        for total in (5, 50, 500):
            dev.publish("order.created", {"total": total})
        dev.publish("bill.paid", {})
        arguments = ["plan", str(wanted), "--against", str(folder), "--server", dev.url, "--with-traffic", "24h"]

        def run(*more: str) -> tuple[int, str]:
            code = main([*arguments, *more])
            return code, capsys.readouterr().out

        code, out = run("-o", "json")
        _, text = run()
        _, markdown = run("-o", "markdown", "--traffic-limit", "2")
    plan: dict[str, Any] = json.loads(out)
    assert code == 0
    (environment,) = plan["environments"]
    assert environment["pending"] == {"paused": 4}
    assert plan["summary"]["deliveriesCancelled"] == 4
    traffic = environment["traffic"]
    assert (traffic["events"], traffic["undecided"], traffic["refused"]) == (4, 0, {})
    counts = {one["name"]: (one["before"], one["after"], one["added"], one["lost"]) for one in traffic["endpoints"]}
    assert counts == {"acme": (4, 2, 0, 2), "fresh": (0, 1, 1, 0), "paused": (4, 0, 0, 4)}
    lines = [line.split() for line in text.splitlines()]
    assert ["ENDPOINT", "BEFORE", "AFTER", "ADDED", "LOST"] in lines
    assert ["acme", "4", "2", "0", "2"] in lines
    assert "pending   cancelled (4 deliveries)" in text
    assert "There were more than 2 events: only the newest were replayed." in markdown
    assert "| paused | 2 | 0 | 0 | 2 |" in markdown


def test_a_gateway_that_is_not_there_is_an_error_that_names_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "http://127.0.0.1:1"
    code = main(["plan", str(folder), "--against", str(folder), "--server", url, "--with-traffic", "1h"])
    assert code == 1
    assert f"no answer from the gateway at {url}" in capsys.readouterr().err

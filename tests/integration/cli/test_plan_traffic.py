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


def test_what_a_gateway_tells_of_itself_is_live_where_no_cluster_is_named(
    folder: Path, tmp_path: Path, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "acme.yaml").write_text(endpoint("acme", receiver.url + "/acme"))
    (folder / "paused.yaml").write_text(endpoint("paused", receiver.url + "/paused", state="Paused"))
    (folder / "types.yaml").write_text(
        event_type("order.created", schema={"type": "object", "properties": {"id": {"type": "string"}}})
    )
    wanted = tmp_path / "wanted"
    shutil.copytree(folder, wanted)
    with Dev(folder, state=tmp_path / "state") as dev:
        for number in range(3):
            dev.publish("order.created", {"id": str(number)})

        def plan() -> tuple[int, dict[str, Any]]:
            arguments = ["plan", str(wanted), "--against", "live", "--server", dev.url, "--with-traffic", "1h"]
            code = main([*arguments, "-o", "json"])
            out, err = capsys.readouterr()
            assert err == ""
            return code, json.loads(out)

        code, same = plan()
        (wanted / "paused.yaml").unlink()
        (wanted / "acme.yaml").write_text(
            endpoint("acme", receiver.url + "/acme", state="Disabled", delivery={"timeoutSeconds": 3})
        )
        (wanted / "fresh.yaml").write_text(endpoint("fresh", receiver.url + "/fresh"))
        (wanted / "types.yaml").write_text(
            event_type("order.created", schema={"type": "object", "properties": {"id": {"type": "integer"}}})
        )
        failed, changed = plan()
    assert code == 0
    assert same["before"] == f"what the gateway at {dev.url} runs"
    (environment,) = same["environments"]
    assert [environment["changes"][key] for key in ("objects", "endpoints", "eventTypes")] == [[], [], []]
    assert all(one["added"] == one["lost"] == 0 for one in environment["traffic"]["endpoints"])
    assert same["notes"][0].startswith("A gateway does not tell what endpoints select")
    assert failed == 1
    assert [one["rule"] for one in changed["findings"]] == ["BreakingSchemaChange"]
    (environment,) = changed["environments"]
    fates = {one["name"]: (one["fate"], one["pending"]) for one in environment["changes"]["endpoints"]}
    assert fates == {"acme": ("Changed", "Cancelled"), "fresh": ("Gained", None), "paused": ("Lost", "Cancelled")}
    assert environment["pending"]["paused"] == 3
    (acme,) = [one for one in environment["changes"]["endpoints"] if one["name"] == "acme"]
    assert {"field": "delivery.timeoutSeconds", "before": 15, "after": 3} in acme["fields"]
    counts = {one["name"]: (one["added"], one["lost"]) for one in environment["traffic"]["endpoints"]}
    assert counts == {"acme": (0, 3), "fresh": (3, 0), "paused": (0, 3)}


def test_a_gateway_that_is_not_there_is_an_error_that_names_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "http://127.0.0.1:1"
    code = main(["plan", str(folder), "--against", str(folder), "--server", url, "--with-traffic", "1h"])
    assert code == 1
    assert f"no answer from the gateway at {url}" in capsys.readouterr().err

"""`kubectl hooks` against a stand-in for the gateway: requests, tables, errors, exit codes."""

from __future__ import annotations

import http.server
import json
import threading
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import yaml

from hookstead import __version__
from hookstead.cli.kubectl_hooks import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DELIVERY = {
    "id": "dlv_1",
    "eventId": "msg_1",
    "eventType": "order.created",
    "endpoint": "acme",
    "channels": ["client_7"],
    "status": "Delivered",
    "cancelReason": None,
    "attemptCount": 1,
    "createdTime": "2020-01-01T00:00:00Z",
    "nextAttemptTime": None,
    "completedTime": "2020-01-01T00:00:01Z",
}
ATTEMPT = {
    "number": 1,
    "time": "2020-01-01T00:00:00Z",
    "trigger": "Scheduled",
    "outcome": "Failed",
    "statusCode": 500,
    "errorCode": "http-status",
    "durationMilliseconds": 12,
    "message": "the receiver answered 500",
    "responseBody": "no \x1b[31m",
}
ENDPOINT = {
    "name": "acme",
    "host": "example.com",
    "scope": "SelectedChannels",
    "conditions": [
        {"type": "Ready", "status": "True", "reason": "Ready"},
        {"type": "Active", "status": "False", "reason": "Paused"},
        {"type": "Healthy", "status": "Unknown", "reason": "NoRecentDeliveries"},
    ],
    "activity": {"consecutiveFailures": 0, "pending": 3, "lastAttemptTime": None},
}
PROBLEM = {"type": "about:blank", "title": "Not found", "status": 404, "detail": 'no delivery "dlv_x"'}


class Stand(http.server.BaseHTTPRequestHandler):
    """Answers from a table and remembers what it was asked."""

    answers: ClassVar[dict[str, tuple[int, Any]]] = {}
    asked: ClassVar[list[tuple[str, dict[str, str], bytes]]] = []

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.asked.append((f"{self.command} {self.path}", headers, body))
        status, document = self.answers.get(f"{self.command} {self.path}", (404, PROBLEM))
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _answer  # noqa: N815  (the names that http.server looks for)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class names it)
        """Nothing: stderr belongs to the program under test."""


@pytest.fixture
def server() -> Iterator[str]:
    Stand.answers, Stand.asked = {}, []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stand) as stand:
        threading.Thread(target=stand.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{stand.server_port}"
        stand.shutdown()


@pytest.fixture
def hooks(
    server: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.setenv("HOOKSTEAD_SERVER", server)

    def run(*argv: str) -> tuple[int, str, str]:
        code = main(list(argv))
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_deliveries_are_a_table_and_filters_become_the_query(
    hooks: Callable[..., tuple[int, str, str]],
) -> None:
    path = (
        "/v1/deliveries?endpoint=acme&status=Delivered&eventType=order.created&channel=c"
        "&since=2020-01-01T00%3A00%3A00.000Z&limit=50"
    )
    Stand.answers = {f"GET {path}": (200, {"items": [DELIVERY], "nextCursor": None})}
    code, out, err = hooks(
        "deliveries",
        "--endpoint=acme",
        "--status=Delivered",
        "--event-type=order.created",
        "--channel=c",
        "--since=2020-01-01T01:00:00+01:00",
    )
    assert (code, err) == (0, "")
    header, row = out.splitlines()
    assert header.split() == ["ID", "ENDPOINT", "TYPE", "STATUS", "ATTEMPTS", "NEXT", "AGE"]
    assert row.split()[:6] == ["dlv_1", "acme", "order.created", "Delivered", "1", "<none>"]


def test_lists_go_on_over_pages_up_to_the_limit(hooks: Callable[..., tuple[int, str, str]]) -> None:
    Stand.answers = {
        "GET /v1/deliveries?limit=3": (200, {"items": [DELIVERY] * 2, "nextCursor": "n/1"}),
        "GET /v1/deliveries?limit=1&cursor=n%2F1": (200, {"items": [DELIVERY], "nextCursor": "n/2"}),
    }
    code, out, _ = hooks("deliveries", "--limit=3", "-o", "name")
    assert (code, out) == (0, "delivery/dlv_1\n" * 3)


def test_one_delivery_shows_its_attempts_and_bare_json(hooks: Callable[..., tuple[int, str, str]]) -> None:
    Stand.answers = {"GET /v1/deliveries/dlv_1": (200, {**DELIVERY, "attempts": [ATTEMPT]})}
    code, out, _ = hooks("deliveries", "dlv_1", "-o", "wide")
    assert code == 0
    assert "Scheduled" in out
    assert "http-status" in out
    assert "\x1b" not in out
    code, out, _ = hooks("deliveries", "dlv_1", "-o", "json")
    assert json.loads(out)["id"] == "dlv_1"


def test_nothing_found_is_no_error(hooks: Callable[..., tuple[int, str, str]]) -> None:
    Stand.answers = {"GET /v1/deliveries?limit=50": (200, {"items": [], "nextCursor": None})}
    assert hooks("deliveries") == (0, "", "No resources found\n")


def test_status_shows_the_environment_and_its_endpoints(hooks: Callable[..., tuple[int, str, str]]) -> None:
    Stand.answers = {
        "GET /v1/environment": (
            200,
            {"name": "default", "endpoints": {"total": 1, "failing": 0}, "conditions": []},
        ),
        "GET /v1/endpoints?limit=250": (200, {"items": [ENDPOINT], "nextCursor": None}),
        "GET /v1/endpoints/acme": (200, ENDPOINT),
    }
    code, out, _ = hooks("status", "-o", "wide")
    assert code == 0
    assert out.splitlines()[0].split()[0] == "ENVIRONMENT"
    assert out.splitlines()[-1].split() == [
        "acme",
        "True",
        "False",
        "Unknown",
        "<none>",
        "0",
        "example.com",
        "SelectedChannels",
        "3",
        "Ready",
        "Paused",
    ]
    code, out, _ = hooks("status", "acme", "-o", "yaml")
    assert yaml.safe_load(out)["host"] == "example.com"


def test_an_event_shows_its_payload_and_an_erased_one_says_so(
    hooks: Callable[..., tuple[int, str, str]],
) -> None:
    event = {
        "id": "msg_1",
        "type": "t",
        "channels": [],
        "timestamp": "2020-01-01T00:00:00Z",
        "deliveries": [],
    }
    Stand.answers = {"GET /v1/events/msg_1": (200, {**event, "data": {"a": 1}})}
    assert '{\n  "a": 1\n}' in hooks("events", "msg_1")[1]
    Stand.answers = {"GET /v1/events/msg_1": (200, {**event, "data": None})}
    assert "<erased>" in hooks("events", "msg_1")[1]


def test_send_hands_the_data_on_byte_for_byte(hooks: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    Stand.answers = {"POST /v1/events": (202, {"id": "msg_9", "endpoints": 1})}
    data = '{"n": 1.0, "big": 12345678901234567890, "ü": [ ]}'
    file = tmp_path / "data.json"
    file.write_text(data + "\n", encoding="utf-8")
    code, out, err = hooks("send", "order.created", "--data", f"@{file}", "--channel", "client_7", "--id", "me-1")
    assert (code, out, err) == (0, "event/msg_9 accepted for 1 endpoint\n", "")
    sent = next(body for what, _, body in Stand.asked if what == "POST /v1/events").decode()
    assert sent == f'{{"type": "order.created", "channels": ["client_7"], "id": "me-1", "data": {data}}}'
    hooks("send", "order.created")
    assert json.loads(Stand.asked[-1][2]) == {"type": "order.created", "data": {}}


@pytest.mark.parametrize("data", ['{"a": NaN}', '{}, "channels": []', "", "{'a': 1}", "[" * 100_000])
def test_send_refuses_what_is_not_one_json_value(hooks: Callable[..., tuple[int, str, str]], data: str) -> None:
    code, out, err = hooks("send", "order.created", f"--data={data}")
    assert (code, out) == (1, "")
    assert err.startswith("error: --data: not valid JSON")
    assert Stand.asked == []


def test_a_failed_test_exits_1_and_says_how_it_ended(hooks: Callable[..., tuple[int, str, str]]) -> None:
    result = {"outcome": "Failed", "statusCode": 0, "errorCode": "connect", "durationMilliseconds": 3}
    Stand.answers = {"POST /v1/endpoints/acme/test": (200, result)}
    code, out, _ = hooks("test", "acme", "--event-type", "order.created")
    assert code == 1
    assert out.splitlines()[1].split() == ["acme", "Failed", "<none>", "connect", "3ms"]
    assert json.loads(Stand.asked[-1][2]) == {"eventType": "order.created"}


def test_redeliver_asks_for_each_and_tells_the_problem_of_those_refused(
    hooks: Callable[..., tuple[int, str, str]],
) -> None:
    Stand.answers = {"POST /v1/deliveries/dlv_1/redeliver": (202, b"")}
    code, out, err = hooks("redeliver", "dlv_x", "delivery/dlv_1")
    assert code == 1
    assert out == "delivery/dlv_1 redelivery requested\n"
    assert err == 'error: delivery/dlv_x: no delivery "dlv_x" (404)\n'


def test_the_token_comes_from_the_variable_or_a_file_and_is_never_printed(
    hooks: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Stand.answers = {"GET /v1/events?limit=50": (200, {"items": [], "nextCursor": None})}
    monkeypatch.setenv("HOOKSTEAD_TOKEN", "from-the-variable")
    hooks("events")
    assert Stand.asked[-1][1]["authorization"] == "Bearer from-the-variable"
    (tmp_path / "token").write_text("from-a-file\n")
    hooks("events", "--token-file", str(tmp_path / "token"))
    assert Stand.asked[-1][1]["authorization"] == "Bearer from-a-file"
    assert Stand.asked[-1][1]["user-agent"] == f"kubectl-hooks/{__version__}"
    (tmp_path / "token").write_text("two tokens\n")
    code, _, err = hooks("events", "--token-file", str(tmp_path / "token"))
    assert code == 1
    assert "expected one token and nothing else" in err
    assert "two tokens" not in err
    for broken in ("two\nlines", "two words", "snow\N{SNOWMAN}"):
        monkeypatch.setenv("HOOKSTEAD_TOKEN", broken)
        assert hooks("events") == (1, "", "error: HOOKSTEAD_TOKEN: expected one token and nothing else\n")


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (
            ["deliveries", "--server", "http://127.0.0.1:1"],
            1,
            "no answer from the gateway at http://127.0.0.1:1",
        ),
        (["deliveries", "--server", "localhost:8080"], 2, "is not a gateway's URL"),
        (["deliveries", "--server", "http://me:secret@localhost"], 2, "has no user name or password in it"),
        (["deliveries", "--since", "yesterday"], 2, "--since: 'yesterday' is neither a duration"),
        (["deliveries", "--until", "999999w"], 2, "--until: '999999w' is neither a duration"),
        (["deliveries", "--status", "Done"], 2, "is not one of Pending, Delivered, DeadLettered, Cancelled"),
        (["deliveries", "dlv_x"], 1, 'error: no delivery "dlv_x" (404)'),
        (["redeliver"], 2, "the following arguments are required: DELIVERY"),
        (["replays"], 2, "unknown command 'replays'"),
        (["replay", "acme"], 2, "--since is required"),
        (["replay", "acme", "--since", "1h"], 1, "give --into DIR"),
        (["resume", "acme"], 1, "this needs the API server"),
        (["secret", "acme"], 1, "this needs the API server"),
        (["status", "-l", "a=b"], 1, "this needs the API server"),
        (["status", "acme", "-l", "a=b"], 2, "give one of them"),
        (["deliveries", "--endpoint", "acme", "-l", "a=b"], 2, "give one of them"),
        (["send", "order.created", "--sample", "--data", "1"], 2, "give one of them"),
        (["diagnose", "acme"], 2, "which event?"),
        (["diagnose", "acme", "msg_1", "--event-type", "a"], 2, "no flags"),
        (["catalog", "a.b", "--format", "openapi"], 2, "without TYPE"),
        (["secret", "acme", "--apply"], 2, "--apply belongs to --rotate"),
        ([], 2, "a command is required"),
    ],
)
def test_errors_are_said_on_stderr(
    hooks: Callable[..., tuple[int, str, str]], argv: list[str], code: int, message: str
) -> None:
    got, out, err = hooks(*argv)
    assert (got, out) == (code, "")
    assert message in err


def test_an_answer_that_is_no_gateways_is_told_apart(hooks: Callable[..., tuple[int, str, str]]) -> None:
    Stand.answers = {"GET /v1/events?limit=50": (200, b"<html>hello</html>")}
    code, _, err = hooks("events")
    assert code == 1
    assert "which is no Hookstead gateway's answer. Is --server right?" in err


def test_without_kubectl_it_says_what_to_give(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HOOKSTEAD_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["status"]) == 1
    assert "Install kubectl, or name a gateway with --server URL" in capsys.readouterr().err


DIAGNOSIS = {
    "endpoint": "acme",
    "event": {"id": "msg_1", "type": "order.created", "channels": ["client_7"], "acceptedTime": "2020-01-01T00:00:00Z"},
    "selected": True,
    "excludedBy": None,
    "checks": [
        {"rule": "state", "passed": True, "sentence": "the endpoint is not Disabled", "detail": "spec.state \x1b[31m"},
        {"rule": "filter", "passed": None, "sentence": "its filter (if any) is true", "detail": "not known"},
    ],
    "deliveries": [DELIVERY],
}


def test_a_diagnosis_says_what_holds_deliveries_back(hooks: Callable[..., tuple[int, str, str]]) -> None:
    Stand.answers = {
        "POST /v1/endpoints/acme/diagnose": (200, DIAGNOSIS),
        "GET /v1/endpoints/acme": (200, ENDPOINT),
    }
    code, out, err = hooks("diagnose", "webhookendpoint.hookstead.dev/acme", "event/msg_1")
    assert (code, err) == (0, "")
    assert out.splitlines()[:7] == [
        "acme gets msg_1 (order.created for client_7)",
        "  yes  the endpoint is not Disabled",
        "       spec.state �[31m",
        "  ?    its filter (if any) is true",
        "       not known",
        "Its deliveries are held now: Paused: ",
        "",
    ]
    assert json.loads(Stand.asked[0][2]) == {"eventId": "msg_1"}
    assert json.loads(hooks("diagnose", "acme", "msg_1", "-o", "json")[1]) == DIAGNOSIS
    assert hooks("diagnose", "acme", "msg_1", "-o", "name")[1] == "webhookendpoint.hookstead.dev/acme\n"


@pytest.mark.parametrize(
    ("changes", "code", "verdict"),
    [
        (
            {"deliveries": []},
            0,
            "acme would get msg_1 (order.created for client_7) now; when it was accepted, it was not",
        ),
        ({"selected": None}, 0, "acme gets msg_1 (order.created for client_7) if its filter is true: give --data"),
        (
            {"selected": False, "excludedBy": "filter"},
            1,
            "acme got msg_1 (order.created for client_7), and would not get it now: its filter (if any) is true",
        ),
        (
            {"selected": False, "excludedBy": "state", "deliveries": []},
            1,
            "acme does not get msg_1 (order.created for client_7): the endpoint is not Disabled",
        ),
    ],
)
def test_a_diagnosis_begins_with_its_verdict(
    hooks: Callable[..., tuple[int, str, str]], changes: dict[str, Any], code: int, verdict: str
) -> None:
    Stand.answers = {
        "POST /v1/endpoints/acme/diagnose": (200, {**DIAGNOSIS, **changes}),
        "GET /v1/endpoints/acme": (200, {**ENDPOINT, "conditions": []}),
    }
    got, out, _ = hooks("diagnose", "acme", "msg_1")
    assert got == code
    assert out.startswith(verdict)


def test_a_channel_is_not_doubted_by_who_may_not_see_which_there_are(
    hooks: Callable[..., tuple[int, str, str]],
) -> None:
    Stand.answers = {
        "POST /v1/events": (202, {"id": "msg_9", "endpoints": 0}),
        "GET /v1/channels?limit=250": (200, {"items": [{"channelName": "client_7"}], "nextCursor": None}),
    }
    assert hooks("send", "a", "--channel", "client_7")[2] == ""
    assert (
        "declares the channel 'client_8' (did you mean \"client_7\"?)" in hooks("send", "a", "--channel", "client_8")[2]
    )
    Stand.answers["GET /v1/channels?limit=250"] = (403, PROBLEM)
    assert hooks("send", "a", "--channel", "client_8") == (0, "event/msg_9 accepted for 0 endpoints\n", "")


def test_a_sample_that_does_not_exist_is_not_made_up(hooks: Callable[..., tuple[int, str, str]]) -> None:
    items = [{"type": "order.created", "sample": None}]
    Stand.answers = {"GET /v1/catalog?limit=250": (200, {"items": items, "nextCursor": None})}
    assert "has no spec.sample: give --data" in hooks("send", "order.created", "--sample")[2]
    assert (
        "no event type 'order.creatd' in the catalog (did you mean \"order.created\"?)"
        in hooks("send", "order.creatd", "--sample")[2]
    )
    assert not [what for what, _, _ in Stand.asked if what.startswith("POST")]


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        ({"conditions": [{"type": "Complete", "status": "True"}], "selected": 0}, 0, "complete: 0 deliveries selected"),
        (
            {"conditions": [{"type": "Complete", "status": "True"}], "selected": 2, "delivered": 1, "failed": 1},
            1,
            "2 deliveries selected, 1 delivered, 1 failed, 100 % done",
        ),
        (
            {"conditions": [{"type": "Failed", "status": "True", "reason": "EndpointDisabled", "message": "it is"}]},
            1,
            "failed: EndpointDisabled: it is",
        ),
        ({"conditions": [{"type": "Ready", "status": "False", "reason": "Pending"}]}, 1, "has not ended within 1 s"),
    ],
)
def test_how_a_replay_ends_is_the_exit_code(
    hooks: Callable[..., tuple[int, str, str]], tmp_path: Path, status: dict[str, Any], code: int, said: str
) -> None:
    Stand.answers = {"GET /v1/replays/mine": (200, {"name": "mine", **status})}
    words = ("replay", "acme", "--since", "1h", "--name", "mine", "--into", str(tmp_path), "--wait", "--timeout", "1")
    got, out, err = hooks(*words)
    assert got == code
    assert said in out + err
    assert yaml.safe_load((tmp_path / "replay-mine.yaml").read_text())["kind"] == "WebhookReplay"

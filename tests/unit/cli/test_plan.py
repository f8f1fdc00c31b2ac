"""`hookstead plan`: what a change does to deliveries, between folders and Git revisions, in every output format."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from hookstead.cli.main import main
from hookstead.cli.plan_text import COMMENT_LIMIT, MARKER

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "apiVersion: hookstead.dev/v1alpha1\n"
ENVIRONMENT = f"{HEAD}kind: WebhookEnvironment\nmetadata: {{name: default}}\nspec: {{state: Enabled}}\n"
KEY = "d2hzZWNfQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQT0="
OTHER_KEY = "d2hzZWNfQkFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQT0="


def obj(kind: str, name: str, spec: str, annotations: str = "{}") -> str:
    return f"{HEAD}kind: {kind}\nmetadata: {{name: {name}, annotations: {annotations}}}\nspec: {{{spec}}}\n"


def endpoint(spec: str = "", name: str = "acme") -> str:
    return obj("WebhookEndpoint", name, f"url: 'https://a.example.com/in?token=hidden'{', ' * bool(spec)}{spec}")


def channel(name: str) -> str:
    return obj("WebhookChannel", name, f"channelName: {name}")


def event_type(name: str, extra: str = "", annotations: str = "{}") -> str:
    return obj(
        "WebhookEventType", name, f"type: {name}, description: An event.{', ' * bool(extra)}{extra}", annotations
    )


def secret(name: str, data: str) -> str:
    return (
        f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, labels: {{hookstead.dev/endpoint-secret: 'true'}}}}\n"
        f"data: {{{data}}}\n"
    )


class Site:
    """Two folders that are compared."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def write(self, side: str, *documents: str) -> Path:
        folder = self.folder / side
        folder.mkdir(exist_ok=True)
        file = folder / "all.yaml"
        file.write_text("---\n".join([ENVIRONMENT, *documents]))
        return folder

    def run(self, *arguments: str) -> tuple[int, str, str]:
        code = main(["plan", *arguments])
        out, err = self._capsys.readouterr()
        return code, out, err

    def text(self, before: list[str], after: list[str], *arguments: str) -> tuple[int, list[str]]:
        """The exit code, and the lines behind the heading."""
        old, new = self.write("old", *before), self.write("new", *after)
        code, out, err = self.run(str(new), "--against", str(old), *arguments)
        assert err == ""
        return code, [line.strip() for line in out.splitlines()[1:] if line]

    def plan(self, before: list[str], after: list[str], *arguments: str) -> tuple[int, dict[str, Any]]:
        old, new = self.write("old", *before), self.write("new", *after)
        code, out, _ = self.run(str(new), "--against", str(old), "-o", "json", *arguments)
        document: dict[str, Any] = json.loads(out)
        return code, document


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path, capsys)


TYPES = [event_type("order.created"), event_type("order.shipped"), event_type("bill.paid")]
CHANNELS = [channel("c1"), channel("c2")]
CREATED = event_type(
    "order.created", "schema: {type: object, properties: {id: {type: string}, total: {type: number}}, required: [id]}"
)

SIGNED = "signing: {keys: [{id: a, secretKeyRef: {name: s, key: a}}]}"


def schema(text: str, annotations: str = "{}") -> str:
    return event_type("order.created", f"schema: {{type: object, {text}}}", annotations)


# What changes, before and after, and the lines that must be told.
CHANGES: list[tuple[str, list[str], list[str], list[str]]] = [
    ("an endpoint comes", TYPES, [*TYPES, endpoint("eventTypes: [bill.paid], channelRefs: [{name: c1}]"), *CHANNELS],
     ["+ WebhookEndpoint acme", "+ types     bill.paid", "+ channels  c1", "host: none → a.example.com",
      "+ key       key (Secret acme-signing, key key) signs", "1 endpoint gained"]),
    ("an endpoint goes", [*TYPES, endpoint("eventTypes: [bill.paid]")], TYPES,
     ["- WebhookEndpoint acme", "- types     bill.paid", "- key       key (Secret acme-signing, key key) stops signing",
      "pending   cancelled (how many deliveries wait cannot be known from here)", "1 endpoint lost"]),
    ("types come and go", [*TYPES, endpoint("eventTypes: [order.*]")],
     [*TYPES, endpoint("eventTypes: [order.created, bill.paid]")],
     ["+ types     bill.paid", "- types     order.*, order.shipped"]),
    ("every type", [*TYPES, endpoint("eventTypes: [bill.paid]")], [*TYPES, endpoint()],
     ["+ types     every other, order.created, order.shipped"]),
    ("a wildcard within a wildcard", [*TYPES, endpoint("eventTypes: [order.*]")],
     [*TYPES, endpoint("eventTypes: ['order.eu.*']")], ["- types     order.*, order.created, order.shipped"]),
    ("channels come and go", [*CHANNELS, endpoint("channelRefs: [{name: c1}]")],
     [*CHANNELS, endpoint("channelRefs: [{name: c2}]")], ["+ channels  c2", "- channels  c1"]),
    ("every channel no more", [*CHANNELS, endpoint()], [*CHANNELS, endpoint("channelRefs: [{name: c2}]")],
     ["- channels  every other, c1"]),
    ("a channel is disabled", [*CHANNELS, endpoint("channelRefs: [{name: c1}]")],
     [obj("WebhookChannel", "c1", "channelName: c1, state: Disabled"), channel("c2"),
      endpoint("channelRefs: [{name: c1}]")],
     ["receives  nothing: ChannelDisabled", "- channels  c1", "state: Enabled → Disabled"]),
    ("a filter from the first day", [], [endpoint("filter: event.data.total > 10, state: Paused")],
     ["filter: none → event.data.total > 10", "state: none → Paused"]),
    ("an address from a Secret", [],
     [obj("WebhookEndpoint", "acme", "urlFrom: {secretKeyRef: {name: s, key: url}}")],
     ["host: none → Secret s, key url"]),
    ("a filter", [endpoint()], [endpoint("filter: event.data.total > 10")], ["filter: none → event.data.total > 10"]),
    ("disabled", [endpoint()], [endpoint("state: Disabled")],
     ["receives  nothing: EndpointDisabled",
      "pending   cancelled (how many deliveries wait cannot be known from here)"]),
    ("paused", [endpoint()], [endpoint("state: Paused")],
     ["pending   held (how many deliveries wait cannot be known from here)", "state: Enabled → Paused"]),
    ("resumed", [endpoint("state: Paused")], [endpoint()],
     ["pending   go on (how many deliveries wait cannot be known from here)"]),
    ("enabled again", [endpoint("state: Disabled")], [endpoint()],
     ["receives  again (before: nothing, EndpointDisabled)"]),
    ("a key more and one less", [endpoint("signing: {keys: [{id: a, secretKeyRef: {name: s, key: a}}]}")],
     [endpoint("signing: {keys: [{id: b, secretKeyRef: {name: s, key: b}}]}")],
     ["+ key       b (Secret s, key b) signs", "- key       a (Secret s, key a) stops signing"]),
    ("a key ends", [endpoint("signing: {keys: [{id: a, secretKeyRef: {name: s, key: a}}, "
                             "{id: b, secretKeyRef: {name: s, key: b}}]}")],
     [endpoint("signing: {keys: [{id: a, secretKeyRef: {name: s, key: a}}, "
               "{id: b, secretKeyRef: {name: s, key: b}, notAfterTime: '2999-01-01T00:00:00Z'}]}")],
     ["- key       b (Secret s, key b) at 2999-01-01T00:00:00.000Z: stops signing"]),
    ("a key's content", [secret("s", f"a: {KEY}"), endpoint(SIGNED)],
     [secret("s", f"a: {OTHER_KEY}"), endpoint(SIGNED)],
     ["+ key       a (Secret s, key a) signs", "- key       a (Secret s, key a) stops signing"]),
    ("delivery", [endpoint()], [endpoint("delivery: {timeoutSeconds: 5}")], ["delivery.timeoutSeconds: 15 → 5"]),
    ("another path", [endpoint()], [endpoint().replace("hidden", "other")],
     ["url: a.example.com/… → a.example.com/… (another path or query)"]),
    ("a header", [endpoint()], [endpoint("headers: [{name: x-key, valueFrom: {secretKeyRef: {name: s, key: k}}}]")],
     ["headers.x-key: none → Secret s, key k"]),
    ("a private CA", [endpoint()], [endpoint("tls: {caSecretRef: {name: ca}}")], ["tls.caSecretRef: none → ca"]),
    ("a type more", TYPES[:2], TYPES, ["+ WebhookEventType bill.paid (bill.paid)"]),
    ("a schema in words", [schema("properties: {a: {type: string}}")],
     [schema("properties: {a: {type: string, description: x}}")],
     ["schema    changes in nothing that matters to data"]),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "lines"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_each_change_is_told_in_words(before: list[str], after: list[str], lines: list[str], site: Site) -> None:
    code, said = site.text(before, after)
    assert code == 0
    assert [line for line in lines if line not in said] == []


def test_the_same_manifests_change_nothing(site: Site) -> None:
    everything = [*TYPES, *CHANNELS, endpoint("tls: {caSecretRef: {name: ca}}, channelRefs: [{name: c1}]")]
    code, said = site.text(everything, everything)
    assert code == 0
    assert said[-1] == "nothing changes for deliveries"


def test_defaults_that_are_written_out_are_no_change(site: Site) -> None:
    _, said = site.text([endpoint()], [endpoint("state: Enabled, payloadFormat: StandardWebhooks")])
    assert said[-1] == "nothing changes for deliveries"


def test_under_enforce_an_endpoint_stops_to_get_a_type_that_is_archived(site: Site) -> None:
    enforce = obj("WebhookEnvironment", "default", "state: Enabled, eventValidation: Enforce")
    old = site.folder / "old.yaml"
    new = site.folder / "new.yaml"
    old.write_text("---\n".join([enforce, *TYPES, endpoint()]))
    new.write_text("---\n".join([enforce, *TYPES[:2], event_type("bill.paid", "lifecycle: Archived"), endpoint()]))
    code, out, _ = site.run(str(new), "--against", str(old))
    assert code == 0
    assert "- types     bill.paid" in out
    assert "lifecycle: Active → Archived" in out


@pytest.mark.parametrize(
    ("validation", "after", "message"),
    [
        ("Enforce", [], "bill.paid is not declared any more: events of it are refused (422)"),
        (
            "Enforce",
            [event_type("bill.paid", "lifecycle: Archived")],
            "bill.paid is Archived: events of it are refused (422)",
        ),
        ("Warn", [], "bill.paid is not declared any more: events of it are delivered, and counted as rejected"),
        ("None", [], None),
        ("Enforce", [event_type("bill.paid", "lifecycle: Deprecated")], None),
    ],
)
def test_that_producers_of_a_type_are_refused_is_a_warning(
    validation: str, after: list[str], message: str | None, site: Site
) -> None:
    environment = obj("WebhookEnvironment", "default", f"state: Enabled, eventValidation: {validation}")
    old, new = site.folder / "old.yaml", site.folder / "new.yaml"
    old.write_text("---\n".join([environment, event_type("bill.paid")]))
    new.write_text("---\n".join([environment, *after]))
    code, out, _ = site.run(str(new), "--against", str(old), "-o", "json")
    assert code == 0
    found = [(one["severity"], one["rule"], one["message"]) for one in json.loads(out)["findings"]]
    assert found == ([] if message is None else [("warning", "EventTypeClosed", message)])


def test_a_kustomization_that_is_not_built_is_noted(site: Site) -> None:
    new = site.write("new", endpoint())
    (new / "kustomization.yaml").write_text("resources: [all.yaml]\n")
    _, out, _ = site.run(str(new), "--against", str(new))
    assert f"{new} is a kustomization: --kustomize plans what kubectl makes of it, not its parts." in out


def test_a_switched_off_environment_stops_everything_and_holds_what_waits(site: Site) -> None:
    old = site.write("old", endpoint())
    new = site.write("new", endpoint())
    (new / "all.yaml").write_text((new / "all.yaml").read_text().replace("state: Enabled", "state: Disabled"))
    code, out, _ = site.run(str(new), "--against", str(old))
    assert code == 0
    assert "state: Enabled → Disabled" in out
    assert "receives  nothing: EnvironmentDisabled" in out
    assert "pending   held" in out


TYPE = "order.created)"
BREAKS = [
    ("required", "properties: {id: {type: string}, total: {type: number}}, required: [id, total]",
     "data.total: is required now: data without it was valid (breaks producers of order.created)"),
    ("optional", "properties: {id: {type: string}, total: {type: number}}",
     "data.id: is no longer required: receivers may find it missing (breaks receivers of order.created)"),
    ("type", "properties: {id: {type: integer}, total: {type: number}}, required: [id]",
     "data.id: was string and is integer now (breaks producers and receivers of order.created)"),
    ("removed", "properties: {id: {type: string}}, required: [id]",
     "data.total: was removed: receivers that read it may find nothing, or anything (breaks receivers of " + TYPE),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), [row[1:] for row in BREAKS], ids=[row[0] for row in BREAKS])
def test_a_breaking_change_of_a_schema_fails_with_its_path(text: str, message: str, site: Site) -> None:
    code, plan = site.plan([CREATED], [schema(text)])
    assert code == 1
    (finding,) = plan["findings"]
    assert (finding["severity"], finding["rule"], finding["name"]) == ("error", "BreakingSchemaChange", "order.created")
    assert finding["message"] == message


def test_a_breaking_change_that_is_marked_is_a_warning(site: Site) -> None:
    text = "properties: {id: {type: integer}}, required: [id]"
    code, said = site.text([CREATED], [schema(text)])
    remedy = next(line for line in said if "annotate the type: " in line)
    mark = remedy.split("annotate the type: ")[1]
    assert code == 1
    assert mark.startswith("hookstead.dev/breaking-change: sha256:")
    for annotation in (mark, "hookstead.dev/breaking-change: allowed"):
        code, said = site.text([CREATED], [schema(text, f"{{{annotation!s}}}")])
        assert code == 0
        assert any("allowed by its annotation" in line for line in said)
    code, _ = site.text([CREATED], [schema("properties: {id: {type: boolean}}", f"{{{mark}}}")])
    assert code == 1, "the mark is for one schema, and this is another"


def test_what_no_longer_holds_after_the_change_fails_and_what_never_held_does_not(site: Site) -> None:
    dangling = endpoint("channelRefs: [{name: c1}]")
    code, said = site.text([*CHANNELS, dangling], [channel("c2"), dangling])
    assert code == 1
    assert any(
        line.startswith("error: WebhookEndpoint acme: spec.channelRefs[0].name: no WebhookChannel") for line in said
    )
    code, _ = site.text([channel("c2"), dangling], [channel("c2"), dangling])
    assert code == 0
    code, said = site.text([endpoint()], [endpoint("staet: Paused")])
    assert code == 1
    assert any('is not a field here (did you mean "state"?)' in line for line in said)
    assert not any("stops signing" in line for line in said)


def test_an_environment_that_becomes_invalid_keeps_its_last_valid_form(site: Site) -> None:
    old, new = site.write("old", endpoint()), site.write("new", endpoint())
    file = new / "all.yaml"
    file.write_text(file.read_text().replace("state: Enabled", "state: Enabled, suspendAfterSeconds: 5"))
    code, out, _ = site.run(str(new), "--against", str(old))
    assert code == 1
    assert "WebhookEndpoint" not in out


def test_unreadable_files_fail_on_the_new_side_and_are_left_out_on_the_old(site: Site) -> None:
    old, new = site.write("old", endpoint()), site.write("new", endpoint())
    (old / "broken.yaml").write_text("a: [")
    code, out, _ = site.run(str(new), "--against", str(old))
    assert code == 0
    assert "(before the change: left out)" in out
    code, out, _ = site.run(str(old), "--against", str(new))
    assert code == 1
    assert "broken.yaml:" in out
    assert "[Unreadable]" in out


def test_no_secret_and_no_url_beyond_its_host_is_printed(site: Site) -> None:
    key = secret("s", f"a: {KEY}")
    signed = endpoint("signing: {keys: [{id: a, secretKeyRef: {name: s, key: a}}]}, headers: [{name: x, value: pw1}]")
    other = endpoint("headers: [{name: x, value: pw2}]").replace("hidden", "secret2")
    for output in ("text", "json", "markdown"):
        old, new = site.write("old", key, signed), site.write("new", other)
        _, out, _ = site.run(str(new), "--against", str(old), "-o", output)
        assert not [word for word in ("whsec_", KEY[:20], "hidden", "secret2", "pw1", "pw2") if word in out]


def test_without_prune_what_is_not_there_stays(site: Site) -> None:
    before, after = [endpoint(), endpoint(name="beta")], [endpoint("state: Paused")]
    _, plan = site.plan(before, after, "--no-prune")
    assert [(one["name"], one["fate"]) for one in plan["environments"][0]["changes"]["endpoints"]] == [
        ("acme", "Changed")
    ]
    _, plan = site.plan(before, after)
    assert [one["fate"] for one in plan["environments"][0]["changes"]["endpoints"]] == ["Changed", "Lost"]


def test_namespaces_are_compared_each_with_itself(site: Site) -> None:
    one = endpoint().replace("{name: acme,", "{name: acme, namespace: one,")
    two = endpoint().replace("{name: acme,", "{name: acme, namespace: two,")
    _, plan = site.plan([one], [two])
    fates = {e["changes"]["namespace"]: [c["fate"] for c in e["changes"]["endpoints"]] for e in plan["environments"]}
    assert fates == {"default": [], "one": ["Lost"], "two": ["Gained"]}
    assert "Namespace one has no WebhookEnvironment here: an Enabled one was assumed." in plan["notes"]


def test_json_has_stable_names_and_a_summary(site: Site) -> None:
    code, plan = site.plan([*TYPES, endpoint("eventTypes: [order.*]")], [*TYPES, endpoint("state: Disabled")])
    assert code == 0
    assert set(plan) == {"before", "after", "environments", "findings", "notes", "summary"}
    (environment,) = plan["environments"]
    assert environment["pending"] == {"acme": None}
    assert environment["traffic"] is None
    (change,) = environment["changes"]["endpoints"]
    assert change["eventTypes"] == {
        "before": ["order.*"],
        "after": [],
        "started": [],
        "stopped": ["order.*", "order.created", "order.shipped"],
    }
    assert (change["receivesNothing"], change["pending"]) == ("EndpointDisabled", "Cancelled")
    assert plan["summary"] == {
        "endpointsGained": 0,
        "endpointsLost": 0,
        "endpointsChanged": 1,
        "deliveriesCancelled": 0,
        "errors": 0,
        "warnings": 0,
    }


def test_markdown_is_a_comment_that_can_be_found_again_and_fits(site: Site) -> None:
    old, new = site.write("old", CREATED, endpoint()), site.write("new", schema("properties: {}"))
    code, out, _ = site.run(str(new), "--against", str(old), "-o", "markdown")
    assert code == 1
    lines = out.splitlines()
    assert lines[0] == MARKER
    assert lines[1] == "### Hookstead plan: 1 endpoint lost, 3 errors"
    assert "- WebhookEndpoint acme" in lines
    assert lines.count("```diff") == lines.count("```") == 1
    many = [endpoint(name=f"e{number}") for number in range(800)]
    site.write("new", *many)
    _, out, _ = site.run(str(new), "--against", str(old), "-o", "markdown")
    assert len(out) < COMMENT_LIMIT + 200
    assert out.count("```") == 2
    assert "see the job's log" in out


def test_markdown_of_the_manifests_own_words_stays_text(site: Site) -> None:
    old, new = site.write("old", endpoint()), site.write("new", endpoint("description: '``` </details> <b>'"))
    _, out, _ = site.run(str(new), "--against", str(old), "-o", "markdown")
    assert out.count("```") == 2


def test_names_that_no_server_would_take_steer_neither_a_terminal_nor_a_comment(site: Site) -> None:
    head = (
        f'{HEAD}kind: WebhookEndpoint\nmetadata: {{name: "a\\e[31m\\n```\\nb", namespace: "n\\e</code><img src=x>"}}\n'
    )
    old, new = site.write("old", endpoint()), site.write("new", head + "spec: {url: 'https://a.example.com'}\n")
    for output in ("text", "markdown"):
        code, out, _ = site.run(str(new), "--against", str(old), "-o", output)
        assert code == 1
        assert "\x1b" not in out
        if output == "markdown":
            assert "<img" not in out.replace("\\<", "")
            assert out.count("```") == 2 * out.count("```diff")


# ---------------------------------------------------------------------------------------------------------------- Git


class Repository:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false")
        done = subprocess.run(
            ["git", "-C", str(self.folder), *identity, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout

    def commit(self, **files: str) -> None:
        for name, text in files.items():
            file = self.folder / name.replace("__", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            (file.with_suffix(".yaml")).write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", "x")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    folder = tmp_path / "repo"
    folder.mkdir()
    return Repository(folder)


def test_a_folder_is_compared_with_itself_at_a_revision_and_the_repository_is_left_alone(
    repository: Repository, site: Site
) -> None:
    repository.commit(hooks__a=ENVIRONMENT, hooks__b=endpoint(), other__c=endpoint(name="elsewhere"))
    (repository.folder / ".gitattributes").write_text("*.yaml export-ignore\n")
    repository.commit()
    hooks = repository.folder / "hooks"
    (hooks / "b.yaml").write_text(endpoint("state: Paused"))
    (hooks / "new.yaml").write_text(endpoint(name="fresh"))
    before = repository.git("status", "--porcelain"), repository.git("worktree", "list")
    for revision in ("main", "HEAD", repository.git("rev-parse", "HEAD").strip()):
        code, out, err = site.run(str(hooks), "--against", revision)
        assert (code, err) == (0, "")
        assert "~ WebhookEndpoint acme" in out
        assert "+ WebhookEndpoint fresh" in out
        assert "elsewhere" not in out
    assert (repository.git("status", "--porcelain"), repository.git("worktree", "list")) == before


def test_a_path_that_was_not_there_yet_is_all_new(repository: Repository, site: Site) -> None:
    repository.commit(readme=ENVIRONMENT)
    (repository.folder / "hooks").mkdir()
    (repository.folder / "hooks" / "a.yaml").write_text(ENVIRONMENT + "---\n" + endpoint())
    code, out, _ = site.run(str(repository.folder / "hooks"), "--against", "main")
    assert code == 0
    assert "where hooks is not" in out
    assert "+ WebhookEnvironment default" in out


def test_a_folder_that_was_deleted_loses_everything(repository: Repository, site: Site) -> None:
    repository.commit(hooks__a=ENVIRONMENT + "---\n" + endpoint())
    hooks = repository.folder / "hooks"
    (hooks / "a.yaml").unlink()
    hooks.rmdir()
    code, out, _ = site.run(str(hooks), "--against", "main")
    assert code == 0
    assert "- WebhookEnvironment default" in out
    assert "- WebhookEndpoint acme" in out
    code, _, err = site.run(str(repository.folder / "never"), "--against", "main")
    assert code == 2
    assert "no such file or folder, neither now nor at main" in err


def test_a_single_file_can_be_compared_with_a_revision(repository: Repository, site: Site) -> None:
    repository.commit(a=ENVIRONMENT + "---\n" + endpoint())
    (repository.folder / "a.yaml").write_text(ENVIRONMENT)
    code, out, _ = site.run(str(repository.folder / "a.yaml"), "--against", "HEAD")
    assert code == 0
    assert "- WebhookEndpoint acme" in out


def test_an_unreadable_file_of_a_revision_is_named_as_it_is_there(repository: Repository, site: Site) -> None:
    repository.commit(hooks__a=ENVIRONMENT, hooks__b="a: [")
    code, out, _ = site.run(str(repository.folder / "hooks"), "--against", "main")
    assert code == 1, "it is broken now, too"
    assert "main (" in out
    assert "/tmp/" not in out.split("Notes")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{new}"], "--against is required (or HOOKSTEAD_AGAINST)"),
        (["{new}", "--against", "no-such-thing"], "is neither `live`, nor a Git revision here, nor a file or folder"),
        (["{new}/absent", "--against", "{new}"], "no such file or folder"),
        (["{new}", "--against", "{new}", "--with-traffic", "soon"], "'soon' is not a duration such as 24h"),
        (["{new}", "--against", "{new}", "-o", "xml"], "'xml' is not one of text, json, markdown"),
        (["{new}", "--against", "{new}", "--kustomize"], "has no kustomization.yaml"),
        (["-", "--against", "main"], "with - for PATH it must be `live`, or a file or folder"),
    ],
)
def test_usage_errors_exit_2_and_say_what_to_do(
    arguments: list[str], message: str, site: Site, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = site.write("new", endpoint())
    monkeypatch.chdir(repository.folder)
    if arguments[0] == "-":
        import io
        import sys

        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    code, out, err = site.run(*(word.replace("{new}", str(new)) for word in arguments))
    assert (code, out) == (2, "")
    assert message in err

"""`hookstead validate`: exact findings at exact places, in every output format, from files, folders and stdin."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from textwrap import dedent
from typing import TYPE_CHECKING

import jsonschema_rs
import pytest

from hookstead.cli.findings import as_text
from hookstead.cli.main import main
from hookstead.cli.validate import check
from toolchain import debian, npm

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "apiVersion: hookstead.dev/v1alpha1\n"
ENVIRONMENT = f"""\
{HEAD}kind: WebhookEnvironment
metadata: {{name: default}}
spec: {{state: Enabled}}
"""
CHANNEL = f"""\
{HEAD}kind: WebhookChannel
metadata: {{name: client-7}}
spec: {{channelName: client_7}}
"""
TYPE = f"""\
{HEAD}kind: WebhookEventType
metadata: {{name: order-created}}
spec: {{type: order.created, description: An order was made.}}
"""


def endpoint(spec: str, name: str = "acme") -> str:
    head = f"{HEAD}kind: WebhookEndpoint\nmetadata:\n  name: {name}\nspec:\n"
    return head + "".join(f"  {line}\n" for line in dedent(spec).strip().splitlines())


ACME = endpoint("url: https://hooks.example.com/in")


def found(*documents: str) -> list[str]:
    """The findings' lines, without the excerpts below them: everything is one file, f.yaml."""
    text = as_text(check([("f.yaml", "---\n".join(documents))]))
    return [line for line in text.splitlines() if line.startswith("f.yaml")]


def test_a_good_environment_has_no_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in (("a.yaml", ENVIRONMENT + "---\n" + TYPE), ("b/c.yml", CHANNEL), ("d.yaml", ACME)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert main(["validate", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "4 objects in 3 files: no findings\n"


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        (
            [ENVIRONMENT, endpoint("url: https://a.example.com\nchanelRefs: [{name: client-7}]"), CHANNEL],
            (
                "f.yaml:12:3: error: WebhookEndpoint acme: spec.chanelRefs: is not a field here (did you mean "
                '"channelRefs"?): correct the name [InvalidSpec]'
            ),
        ),
        (
            [ENVIRONMENT, endpoint("state: Paused")],
            (
                "f.yaml:11:3: error: WebhookEndpoint acme: spec: must have exactly one of spec.url and spec.urlFrom: "
                "set url, or urlFrom where the URL itself is a secret, and remove the other [InvalidSpec]"
            ),
        ),
        (
            [ENVIRONMENT, endpoint("url: https://a.example.com\nchannelRefs:\n- name: client-77"), CHANNEL],
            (
                "f.yaml:13:11: error: WebhookEndpoint acme: spec.channelRefs[0].name: no WebhookChannel 'client-77' in "
                'namespace default (did you mean "client-7"?). The endpoint receives nothing until it exists. '
                "[ChannelNotFound]"
            ),
        ),
        (
            [ENVIRONMENT, TYPE, endpoint("url: https://a.example.com\neventTypes:\n- order.created\n- order.creatd")],
            (
                "f.yaml:19:5: error: WebhookEndpoint acme: spec.eventTypes[1]: no WebhookEventType declares "
                "'order.creatd' (did you mean \"order.created\"?). Declare it, or correct the name. [EventTypeNotFound]"
            ),
        ),
        (
            [ENVIRONMENT, CHANNEL, CHANNEL.replace("name: client-7}", "name: other}")],
            (
                "f.yaml:14:21: error: WebhookChannel other: spec.channelName: WebhookChannel 'client-7' came first and "
                "has 'client_7' already. Give this "
                "object another name, or delete one of the two. [DuplicateChannelName]"
            ),
        ),
        (
            [ENVIRONMENT, CHANNEL, CHANNEL],
            (
                "f.yaml:13:18: error: WebhookChannel client-7: metadata.name: a WebhookChannel called 'client-7' comes "
                "earlier in these manifests: delete one of the two, or rename it [DuplicateObject]"
            ),
        ),
        (
            [ACME],
            (
                'f.yaml:1:1: warning: WebhookEnvironment default: no WebhookEnvironment "default" in namespace default '
                "among these manifests: without one nothing is accepted or delivered there. The rest was checked as if "
                "there were one. [EnvironmentMissing]"
            ),
        ),
        (
            [ENVIRONMENT.replace("{state: Enabled}", "{}")],
            (
                "f.yaml:4:7: warning: WebhookEnvironment default: spec.state: is not set, so the environment is "
                "Disabled: write state: Enabled, or state: Disabled if that is meant [StateNotSet]"
            ),
        ),
        (
            [ENVIRONMENT, "a: [\n"],
            (
                "f.yaml:7:1: error: is not YAML: while parsing a flow node, did not find expected node content "
                "[Unreadable]"
            ),
        ),
        (
            [ENVIRONMENT, "just text\n"],
            "f.yaml:6:1: error: must be an object with apiVersion, kind and metadata [Unreadable]",
        ),
        (
            [HEAD + "kind: WebhookEndpont\nmetadata: {name: x}\n"],
            (
                "f.yaml:2:7: error: WebhookEndpont x: kind: must be one of WebhookEnvironment, WebhookEndpoint, "
                'WebhookChannel, WebhookEventType, WebhookReplay, not "WebhookEndpont" (did you mean '
                '"WebhookEndpoint"?) [InvalidSpec]'
            ),
        ),
        (
            [ENVIRONMENT, "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {k: '*'}\n"],
            (
                "f.yaml:9:11: error: Secret s: data.k: must be base64: encode it, or write it as it is under "
                "stringData [InvalidSecret]"
            ),
        ),
        ([ENVIRONMENT, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: s}\ndata: {k: v}\n"], ""),
    ],
)
def test_each_slip_is_found_at_its_place_with_a_remedy(documents: list[str], expected: str) -> None:
    assert "\n".join(found(*documents)) == expected


SIGNED = endpoint(
    """
    url: https://a.example.com
    signing:
      keys:
      - {id: a, secretKeyRef: {name: acme-key, key: key}}
    """
)
SECRET = """\
apiVersion: v1
kind: Secret
metadata:
  name: NAME
  labels: {hookstead.dev/endpoint-secret: "true"}
stringData: {key: KEY}
"""
KEY = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        (SECRET.replace("NAME", "acme-key").replace("KEY", KEY), []),
        (SECRET.replace("NAME", "acme-key").replace("KEY", "hello"), ["error [SecretInvalid]"]),
        (SECRET.replace("NAME", "acme-key").replace('"true"', '"yes"'), ["error [SecretNotPermitted]"]),
        (SECRET.replace("NAME", "acme-key").replace("{key: KEY}", f"{{other: {KEY}}}"), ["error [SecretKeyMissing]"]),
        (SECRET.replace("NAME", "unrelated"), ["error [SecretNotFound]"]),
        ("", ["warning [SecretNotFound]"]),
    ],
)
def test_secrets_are_read_by_the_operators_rules_and_may_live_elsewhere(secret: str, expected: list[str]) -> None:
    lines = found(ENVIRONMENT, SIGNED, secret)
    assert [f"{line.split(': ')[1]} {line.split()[-1]}" for line in lines] == expected
    assert "hello" not in "".join(lines)


@pytest.mark.parametrize(
    ("sample", "rule"),
    [
        ("{a: null}", "NullDropped"),
        ("{a: 'x ${name} y'}", "VariableSubstitution"),
        ("{a: 'x $${name} y'}", None),
        ("{a: 18446744073709551615}", "YamlValue"),
        ("{a: 9007199254740993}", None),
        ("{a: no}", "YamlValue"),
        ("{n: 1}", "YamlValue"),
        ("{a: 'no', b: [true, 1.5, {c: d}]}", None),
    ],
)
def test_what_changes_on_the_way_to_the_cluster_is_warned_of(sample: str, rule: str | None) -> None:
    lines = found(ENVIRONMENT, TYPE.replace("made.}", f"made., sample: {sample}}}"))
    assert [line.split()[-1] for line in lines] == ([] if rule is None else [f"[{rule}]"])
    assert all(": warning: " in line for line in lines)


def test_an_object_too_large_for_client_side_apply_is_warned_of() -> None:
    description = "x" * 63_000
    sample = ", ".join(f"a{number}: {description}" for number in range(5))
    lines = found(ENVIRONMENT, TYPE.replace("made.}", f"made., sample: {{{sample}}}}}"))
    assert any(line.endswith("[ObjectSize]") for line in lines)


def test_namespaces_are_environments_of_their_own() -> None:
    other = CHANNEL.replace("name: client-7}", "name: client-7, namespace: prod}")
    lines = found(ENVIRONMENT, other, endpoint("url: https://a.example.com\nchannelRefs: [{name: client-7}]"))
    assert [line.split()[-1] for line in lines] == ["[EnvironmentMissing]", "[ChannelNotFound]"]


def test_loopback_ranges_are_allowed_with_a_warning_unless_told_otherwise() -> None:
    egress = "egress: {privateNetworks: Allow, plaintextHTTP: Allow, allowedCIDRs: [127.0.0.0/8]}"
    documents = ENVIRONMENT.replace("Enabled}", f"Enabled, {egress}}}") + "---\n" + endpoint("url: http://127.0.0.1/in")
    for allowed, rules in (
        (None, ["LoopbackRange"]),
        (True, []),
        (False, ["InvalidSpec", "InvalidSpec"]),
    ):
        checked = check([("f.yaml", documents)], allow_loopback=allowed)
        assert [finding.rule for finding in checked.findings] == rules


@pytest.mark.parametrize(
    ("argv", "code"), [([], 0), (["--strict"], 1), (["--strict", "--no-strict"], 0), (["-o", "json"], 0)]
)
def test_warnings_exit_0_unless_strict(argv: list[str], code: int, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ACME)
    assert main(["validate", str(tmp_path), *argv]) == code


def test_errors_exit_1_and_json_has_every_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(ENVIRONMENT + "---\n" + endpoint("url: https://a.example.com\nfilter: event.data.n >"))
    assert main(["validate", str(file), "-o", "json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["summary"] == {"files": 1, "objects": 2, "errors": 1, "warnings": 0}
    (finding,) = document["findings"]
    assert finding.pop("message").startswith("must be a CEL expression: at column ")
    assert finding == {
        "severity": "error",
        "rule": "FilterInvalid",
        "file": str(file),
        "line": 12,
        "column": 11,
        "kind": "WebhookEndpoint",
        "namespace": "default",
        "name": "acme",
        "field": "spec.filter",
    }


def test_sarif_names_the_rule_the_place_and_the_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a b.yaml"
    file.write_text(ENVIRONMENT + "---\n" + endpoint("url: https://a.example.com\nfilter: '1'"))
    assert main(["validate", str(tmp_path), "-o", "sarif"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["version"] == "2.1.0"
    (run,) = document["runs"]
    assert run["tool"]["driver"]["rules"] == [{"id": "FilterInvalid"}]
    (result,) = run["results"]
    assert (result["ruleId"], result["ruleIndex"], result["level"]) == ("FilterInvalid", 0, "error")
    (location,) = result["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": file.as_uri()},
        "region": {"startLine": 12, "startColumn": 11},
    }
    assert location["logicalLocations"][0]["fullyQualifiedName"] == "default/WebhookEndpoint/acme/spec.filter"


def test_manifests_come_from_stdin_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text(ENVIRONMENT)
    stdin = io.TextIOWrapper(io.BytesIO(endpoint("url: https://a.example.com\nstate: Stopped").encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["validate", "-", str(tmp_path / "a.yaml")]) == 1
    assert capsys.readouterr().out.startswith(
        "<stdin>:7:10: error: WebhookEndpoint acme: spec.state: must be Enabled, "
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe", "it is not UTF-8: byte 0 is 0xff"), (b"a: \x00", "is not YAML: ")],
)
def test_an_unreadable_file_is_a_finding(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_bytes(content)
    assert main(["validate", str(tmp_path)]) == 1
    assert message in capsys.readouterr().out


def test_a_path_that_is_not_there_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err.endswith("nothing: no such file or folder\n")


def test_a_file_named_twice_is_read_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(ENVIRONMENT)
    assert main(["validate", str(tmp_path), str(tmp_path / "a.yaml")]) == 0
    assert capsys.readouterr().out == "1 object in 1 file: no findings\n"


# -------------------------------------------------------------------------------------------- excerpts and annotations


def test_below_each_finding_stands_the_line_with_a_caret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.yaml"
    text = endpoint("url: https://a.example.com\ndeliveri:\n  timeoutSeconds: 5\nstate: Paued")
    file.write_text(ENVIRONMENT + "---\n" + text)
    assert main(["validate", str(file)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{file}:12:3: error: WebhookEndpoint acme: spec.deliveri: is not a field here (did you")
    assert lines[1:3] == ["  12 |   deliveri:", "     |   ^"]
    assert lines[3].startswith(f"{file}:14:10: error: WebhookEndpoint acme: spec.state: must be Enabled, Disabled or")
    assert lines[4:6] == ["  14 |   state: Paued", "     |          ^"]


@pytest.mark.parametrize(
    "document",
    [
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {k: 'hidden*'}\n",
        'apiVersion: v1\nkind: "Secret"\nmetadata: {name: s}\nstringData: {k: hidden\n',
        '{"kind":"Secret","apiVersion":"v1","metadata":{"name":"s"},"data":{"k":"hidden*"}}',
    ],
)
def test_no_line_of_a_secret_is_shown(document: str) -> None:
    text = as_text(check([("f.yaml", ENVIRONMENT + "---\n" + document)]))
    assert "error" in text
    assert "hidden" not in text


def test_a_line_that_is_a_whole_document_is_not_shown() -> None:
    long = endpoint("url: https://a.example.com\ndescription: " + "x" * 300)
    assert " | " not in as_text(check([("f.yaml", ENVIRONMENT + "---\n" + long)]))


def test_what_a_manifest_says_steers_no_terminal() -> None:
    text = as_text(check([("f.yaml", ENVIRONMENT + "---\n" + endpoint('url: "https://a\\e[31m\\nb"'))]))
    assert "\x1b" not in text
    assert len([line for line in text.splitlines() if line.startswith("f.yaml")]) == len(text.splitlines()) - 3


def test_github_shows_findings_at_their_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a,b.yaml"
    file.write_text(ENVIRONMENT + "---\n" + endpoint("url: https://a.example.com\nfilter: 'event.data.a == 100%'"))
    assert main(["validate", str(file), "-o", "github"]) == 1
    first, last = capsys.readouterr().out.splitlines()
    where = str(file).replace(",", "%2C")
    assert first.startswith(
        f"::error file={where},line=12,col=11,title=FilterInvalid::WebhookEndpoint acme: spec.filter"
    )
    assert first.count("%25") + first.count("it ends too early") >= 1
    assert last == "2 objects in 1 file: 1 error, 0 warnings"


def test_gitlab_gets_a_code_quality_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(ENVIRONMENT)
    assert main(["validate", str(file), "-o", "gitlab"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    file.write_text(endpoint("url: https://a.example.com\nstate: Stopped"))
    assert main(["validate", str(file), "-o", "gitlab"]) == 1
    issues = json.loads(capsys.readouterr().out)
    assert [(issue["check_name"], issue["severity"], issue["location"]) for issue in issues] == [
        ("EnvironmentMissing", "minor", {"path": str(file), "lines": {"begin": 1}}),
        ("InvalidSpec", "major", {"path": str(file), "lines": {"begin": 7}}),
    ]
    fingerprints = [issue["fingerprint"] for issue in issues]
    assert len(set(fingerprints)) == 2
    file.write_text("# a comment moves everything\n" + file.read_text())
    main(["validate", str(file), "-o", "gitlab"])
    assert [issue["fingerprint"] for issue in json.loads(capsys.readouterr().out)] == fingerprints


# ------------------------------------------------------------------------------------------------- nothing, and others


def test_that_there_is_nothing_to_check_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["validate", str(tmp_path)]) == 1
    assert (
        f"{tmp_path}: error: no manifests in {tmp_path}: is the path right? [NothingFound]" in capsys.readouterr().out
    )
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    assert main(["validate", "-"]) == 1
    assert "no manifests in <stdin>: is the pipe empty?" in capsys.readouterr().out
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert main(["validate", str(tmp_path)]) == 1
    (tmp_path / "foreign.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: s}\n")
    assert main(["validate", str(tmp_path)]) == 0


def test_files_of_other_tools_among_manifests_are_left_out_with_a_warning() -> None:
    lines = found(ENVIRONMENT, "replicas: 3\nimage: {tag: x}\n")
    assert [line.split()[-1] for line in lines] == ["[NotAManifest]"]
    assert "warning" in lines[0]
    lines = found(ENVIRONMENT, "apiVersion: hookstead.dev/v1alpha1\nmetadata: {name: x}\n")
    assert "error: kind: is required" in lines[0]


# ---------------------------------------------------------------------------------------------- schemas and samples


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (
            "schema:\n    type: object\n    properties:\n      id: {type: strng}",
            (
                "f.yaml:15:18: error: WebhookEventType order-created: spec.schema.properties.id.type: must be one of "
                'array, boolean, integer, null, number, object, string, not "strng" (did you mean "string"?) '
                "[SchemaInvalid]"
            ),
        ),
        (
            "schema:\n    type: object\n    requried: [id]",
            (
                "f.yaml:14:5: warning: WebhookEventType order-created: spec.schema.requried: is no keyword of JSON "
                'Schema, so it checks nothing (did you mean "required"?): correct the name [UnknownKeyword]'
            ),
        ),
        (
            "schema: {properties: {id: {type: string}}}\n  sample:\n    id: 5",
            (
                'f.yaml:14:9: error: WebhookEventType order-created: spec.sample.id: 5 is not of type "string" '
                "[SampleInvalid]"
            ),
        ),
    ],
)
def test_slips_within_a_schema_and_a_sample_are_found_where_they_are(extra: str, expected: str) -> None:
    head = f"{HEAD}kind: WebhookEventType\nmetadata: {{name: order-created}}\nspec:\n"
    text = f"{head}  type: order.created\n  description: x\n  {extra}\n"
    assert found(ENVIRONMENT, text) == [expected]


def test_an_object_close_to_the_limit_of_client_side_apply_is_warned_of() -> None:
    def rules(size: int) -> list[str]:
        sample = ", ".join(f"a{number}: {'x' * (size // 4)}" for number in range(4))
        lines = found(ENVIRONMENT, TYPE.replace("made.}", f"made., sample: {{{sample}}}}}"))
        return [line for line in lines if line.endswith("[ObjectSize]")]

    assert rules(200_000) == []
    assert "close to the 262144 that client-side apply can keep" in rules(240_000)[0]


def test_sarif_is_what_its_official_schema_wants(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        folder = npm.unpacked("@microsoft/jest-sarif", "1.0.0-beta.0", purpose="the official schema of SARIF")
    except (debian.NotInstallableError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the official schema of SARIF cannot be fetched: {error}")
    schema = json.loads((folder / "package/lib/schemas/sarif-2.1.0-rtm.5.json").read_text())
    # A bracket that its author forgot to escape: browsers take it, the expressions of others do not.
    for name in ("run", "toolComponent"):
        schema["definitions"][name]["properties"]["language"].pop("pattern")
    validator = jsonschema_rs.Draft7Validator(schema)
    for text in (ENVIRONMENT, endpoint("url: 5\nstate: x"), "a: [", ""):
        (tmp_path / "ä b.yaml").write_text(text)
        main(["validate", str(tmp_path), "-o", "sarif"])
        document = json.loads(capsys.readouterr().out)
        assert [error.message for error in validator.iter_errors(document)] == []


# ----------------------------------------------------------------------------- Secrets that others make, kustomizations

TEMPLATE = '  target: {template: {metadata: {labels: {hookstead.dev/endpoint-secret: "true"}}}}\n'
EXTERNAL = f"""\
apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata: {{name: acme-key}}
spec:
{TEMPLATE}  data: [{{secretKey: key, remoteRef: {{key: a}}}}]
"""
SEALED = """\
apiVersion: bitnami.com/v1alpha1
kind: SealedSecret
metadata: {name: acme-key}
spec:
  encryptedData: {key: AgB}
  template: {metadata: {labels: {hookstead.dev/endpoint-secret: "true"}}}
"""


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (EXTERNAL, []),
        (SEALED, []),
        (EXTERNAL.replace("name: acme-key}", "name: other}").replace("target: {", "target: {name: acme-key, "), []),
        (EXTERNAL.replace("data: [{secretKey: key, remoteRef: {key: a}}]", "dataFrom: [{extract: {key: a}}]"), []),
        (
            EXTERNAL.replace(TEMPLATE, "").replace("-key}", "-key, labels: {hookstead.dev/endpoint-secret: 'true'}}"),
            [],
        ),
        (EXTERNAL.replace('"true"', '"no"'), ["error [SecretNotPermitted]"]),
        (SEALED.replace("hookstead.dev/endpoint-secret", "app"), ["error [SecretNotPermitted]"]),
        (EXTERNAL.replace("secretKey: key", "secretKey: other"), ["error [SecretKeyMissing]"]),
        (SEALED.replace("encryptedData: {key: AgB}", "encryptedData: {}"), ["error [SecretKeyMissing]"]),
        (EXTERNAL.replace("name: acme-key}", "name: acme-key, namespace: elsewhere}"), ["warning [SecretNotFound]"]),
        (EXTERNAL.replace("name: acme-key}", "name: other}"), ["error [SecretNotFound]"]),
        ("apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nmetadata: {name: acme-key}\nspec: [1]\n",
         ["error [SecretNotPermitted]"]),
    ],
)  # fmt: skip
def test_secrets_that_operators_make_are_there_with_their_keys_and_labels(document: str, expected: list[str]) -> None:
    lines = found(ENVIRONMENT, SIGNED, document)
    assert [f"{line.split(': ')[1]} {line.split()[-1]}" for line in lines] == expected


def test_certificates_and_urls_of_secrets_that_operators_make_are_not_judged() -> None:
    everything = endpoint(
        """
        urlFrom: {secretKeyRef: {name: acme-key, key: key}}
        tls: {caSecretRef: {name: acme-key}, clientCertSecretRef: {name: acme-key}}
        headers: [{name: x-a, valueFrom: {secretKeyRef: {name: acme-key, key: key}}}]
        """
    )
    assert found(ENVIRONMENT, everything, EXTERNAL) == []


def test_the_parts_of_a_kustomization_are_not_taken_for_the_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kustomization.yaml").write_text("patches: [{path: patch.yaml}]\n")
    (tmp_path / "patch.yaml").write_text(
        f"{HEAD}kind: WebhookEndpoint\nmetadata: {{name: acme}}\nspec: {{state: Paused}}\n"
    )
    assert main(["validate", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"{tmp_path} is a kustomization: with --kustomize what kubectl makes of it is checked, not its parts.\n"
    )
    (tmp_path / "kustomization.yaml").unlink()
    assert main(["validate", str(tmp_path), "--kustomize"]) == 2
    assert "has no kustomization.yaml" in capsys.readouterr().err

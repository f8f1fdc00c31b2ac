"""`hookstead catalog`: pages and documents of manifests, judged by the public validators."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from hookstead.cli.main import main
from toolchain import debian, npm

TOP = Path(__file__).resolve().parents[3]
HEAD = "apiVersion: hookstead.dev/v1alpha1\n"
ENVIRONMENT = f"{HEAD}kind: WebhookEnvironment\nmetadata: {{name: default}}\nspec: {{displayName: Shop}}\n"
HOSTILE = "<script>alert(1)</script> | `x` [y](javascript:z) & **b**"
ASYNCAPI_SPECS = ("@asyncapi/specs", "6.11.1")


def event_type(name: str, rest: str = "description: Something was done.") -> str:
    return (
        f"{HEAD}kind: WebhookEventType\nmetadata: {{name: {name.replace('.', '-')}}}\nspec: {{type: {name}, {rest}}}\n"
    )


def write(folder: Path, *documents: str) -> str:
    (folder / "all.yaml").write_text("---\n".join(documents))
    return str(folder)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(["catalog", *arguments]) == code
    return capsys.readouterr().out


def test_the_quickstart_s_catalog_is_openapi_by_the_public_validator(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(printed(capsys, str(TOP / "examples/quickstart"), "-o", "openapi"))
    OpenAPIV31SpecValidator(document).validate()
    assert sorted(document["webhooks"]) == ["agent.task.finished", "order.created", "order.shipped"]


def test_the_quickstart_s_catalog_is_asyncapi_by_the_official_schema(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        folder = npm.unpacked(*ASYNCAPI_SPECS, purpose="the official schema of AsyncAPI")
    except debian.NotInstallableError as problem:
        pytest.skip(str(problem))
    schema = json.loads((folder / "package/schemas/3.0.0-without-$id.json").read_text())
    document = json.loads(printed(capsys, str(TOP / "examples/quickstart"), "-o", "asyncapi"))
    official = jsonschema_rs.validator_for(schema)
    assert [error.message for error in official.iter_errors(document)] == []
    assert not official.is_valid({**document, "operations": {"sendWebhook": {"action": "shout"}}})


def test_the_list_has_what_the_manifests_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(
        tmp_path,
        ENVIRONMENT,
        event_type("b.b", "description: Old., lifecycle: Deprecated, replacedBy: a.a"),
        event_type("a.a", "description: New., group: G, schema: {type: object}, sample: {amount: 1}"),
    )
    assert json.loads(printed(capsys, folder, "-o", "json")) == {
        "title": "Shop webhooks",
        "items": [
            {
                "type": "a.a",
                "description": "New.",
                "group": "G",
                "lifecycle": "Active",
                "replacedBy": None,
                "schema": {"type": "object"},
                "sample": {"amount": 1},
            },
            {
                "type": "b.b",
                "description": "Old.",
                "group": None,
                "lifecycle": "Deprecated",
                "replacedBy": "a.a",
                "schema": None,
                "sample": None,
            },
        ],
    }


def test_the_markdown_page_groups_types_and_shows_fields_and_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = "schema: {type: object, required: [amount], properties: {amount: {type: integer, description: How many.}}}"
    folder = write(
        tmp_path,
        event_type("a.a", f"description: New., group: Orders, {schema}, sample: {{amount: 1}}"),
        event_type("b.b", "description: Old., lifecycle: Deprecated, replacedBy: a.a"),
    )
    page = printed(capsys, folder, "--title", "Our events")
    assert page.startswith("# Our events\n")
    assert page.index("## Orders") < page.index("### a.a") < page.index("## Other events") < page.index("### b.b")
    assert "| [`b.b`](#bb) | Deprecated; use a.a instead. Old. |" in page
    assert "| `amount` | integer | yes | How many. |" in page
    assert '"data": {\n    "amount": 1\n  }' in page


class Page(HTMLParser):
    """Every tag, and what would be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [f"{tag} {name}={value}" for name, value in attrs if name in ("src", "srcset", "data")]
        self.fetched += [
            f"{tag} {value}" for name, value in attrs if name == "href" and not (value or "").startswith("#")
        ]
        if tag not in ("meta", "link", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_html_page_needs_nothing_beside_itself(capsys: pytest.CaptureFixture[str]) -> None:
    page = Page(printed(capsys, str(TOP / "examples/quickstart"), "-o", "html"))
    assert page.fetched == []
    assert page.open == []
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert page.tags.count("article") == 3


def test_a_description_is_text_and_never_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path, event_type("a.a", f"description: {json.dumps(HOSTILE)}"))
    assert "script" not in Page(printed(capsys, folder, "-o", "html")).tags
    page = printed(capsys, folder)
    assert "<script" not in page
    assert "\\[y\\](javascript:z)" in page
    assert "\\| \\`x\\`" in page


def test_a_type_that_is_not_accepted_is_missing_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path, event_type("a.a"), event_type("b.b", "description: D., schema: {type: thing}"))
    assert main(["catalog", folder, "-o", "json"]) == 1
    told = capsys.readouterr()
    assert [item["type"] for item in json.loads(told.out)["items"]] == ["a.a"]
    assert told.err.startswith("not in the catalog: WebhookEventType b-b: ")
    assert "spec.schema" in told.err


def test_types_of_several_namespaces_need_a_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    documents = [event_type(name).replace("{name: ", f"{{namespace: {name[0]}, name: ", 1) for name in ("a.a", "b.b")]
    folder = write(tmp_path, *documents)
    assert main(["catalog", folder]) == 2
    assert "namespaces a, b: choose one with --namespace" in capsys.readouterr().err
    items = json.loads(printed(capsys, folder, "-n", "b", "-o", "json"))["items"]
    assert [item["type"] for item in items] == ["b.b"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("x", "--server", "http://127.0.0.1:1"), 2, "give one of the two"),
        (("no/such/folder",), 2, "no such file or folder"),
        (("x", "-o", "pdf"), 2, "markdown"),
    ],
)
def test_a_wrong_command_line_is_told(
    arguments: tuple[str, ...], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["catalog", *arguments]) == code
    assert words in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder: Any = write(tmp_path, "a: [")
    assert main(["catalog", folder]) == 1
    assert f"{folder}/all.yaml:2:1:" in capsys.readouterr().err

"""controller/Dockerfile: no container engine is at hand, so a linter and its own words have to do."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

from charts.helm import arguments, pod_templates, template

TOP: Final = Path(__file__).resolve().parents[2]
DOCKERFILE: Final = TOP / "controller" / "Dockerfile"


def hadolint(path: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """The linter, at its strictest."""
    command = [str(Path(sys.executable).with_name("hadolint")), "--no-color", "--failure-threshold=style", path]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """Word and rest of each instruction; continued lines are joined, comments are gone."""
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = [line.partition(" ") for line in text.splitlines() if line.strip()]
    return [(word, rest.strip()) for word, _, rest in found]


def test_the_linter_finds_nothing() -> None:
    result = hadolint(str(DOCKERFILE))
    assert result.returncode == 0, result.stdout


def test_the_linter_would_find_something() -> None:
    result = hadolint("-", "FROM python\nRUN apt-get install curl\nADD a b\n")
    assert result.returncode == 1
    assert "DL3006" in result.stdout


def test_the_second_stage_takes_only_the_environment(instructions: list[tuple[str, str]]) -> None:
    stages = [rest for word, rest in instructions if word == "FROM"]
    assert [stage.partition(" AS ")[2] for stage in stages] == ["build", ""]
    assert len({stage.partition(" ")[0] for stage in stages}) == 1, "the environment's interpreter is the image's"
    assert all(re.fullmatch(r"python:\d+\.\d+-slim-\w+( AS \w+)?", stage) for stage in stages)
    last = instructions[max(index for index, (word, _) in enumerate(instructions) if word == "FROM") :]
    assert [rest for word, rest in last if word == "COPY"] == ["--from=build /opt/hookstead /opt/hookstead"]
    assert not [word for word, _ in instructions if word in ("ADD", "ARG", "VOLUME", "ONBUILD")]


def test_the_image_runs_as_the_user_that_the_chart_asks_for(instructions: list[tuple[str, str]]) -> None:
    *_, user = [rest for word, rest in instructions if word == "USER"]
    for pod in pod_templates(template()).values():
        context = pod["spec"]["securityContext"]
        assert user == f"{context['runAsUser']}:{context['runAsGroup']}"
        assert context["fsGroup"] == context["runAsGroup"]


def test_the_image_has_the_chart_s_ports_and_program(instructions: list[tuple[str, str]]) -> None:
    said = dict(instructions)
    pod = pod_templates(template())["gateway"]
    (container,) = pod["spec"]["containers"]
    assert sorted(said["EXPOSE"].split()) == sorted(str(port["containerPort"]) for port in container["ports"])
    assert said["ENTRYPOINT"] == '["hookstead"]'
    assert container["command"] == ["hookstead"]
    assert arguments(pod)[0] == "gateway"


def test_what_is_built_from_is_copied_and_not_ignored(instructions: list[tuple[str, str]]) -> None:
    """Everything that pyproject.toml reads when it makes the package."""
    first = [rest for word, rest in instructions if word == "COPY" and not rest.startswith("--from")]
    copied = {name for rest in first for name in rest.split()[:-1]}
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
    targets = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {
        "pyproject.toml",
        project["project"]["readme"],
        *project["project"]["license-files"],
        *(name.partition("/")[0] for name in targets["packages"]),
        *targets["force-include"],
    }
    assert copied == needed
    ignored = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    assert {name.removeprefix("!") for name in ignored if name.startswith("!")} == needed

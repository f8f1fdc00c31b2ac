"""Runs the real helm, and reads what it renders. Knows nothing of pytest."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from toolchain.binaries import locate

if TYPE_CHECKING:
    from cluster.apiserver import ApiServer

CHARTS: Final = Path(__file__).resolve().parents[2] / "charts"
ENVIRONMENT: Final = CHARTS / "hookstead"
CRDS: Final = CHARTS / "hookstead-crds"
USUAL: Final = ("values-dev.yaml", "values-staging.yaml", "values-prod.yaml")

Manifest = dict[str, Any]
Values = Mapping[str, Any]


class HelmError(Exception):
    """helm ended with an exit code other than 0; the message is what it said."""


def helm(*words: str | Path, environment: Mapping[str, str] | None = None, seconds: float = 90.0) -> str:
    """Run helm; its stdout. Raises HelmError."""
    with tempfile.TemporaryDirectory() as home:
        folders = {f"HELM_{kind}_HOME": str(Path(home, kind)) for kind in ("CACHE", "CONFIG", "DATA")}
        result = subprocess.run(
            [str(locate("helm")), *map(str, words)],
            env={**(environment or os.environ), **folders},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    if result.returncode:
        raise HelmError(f"helm {words[0]}: {result.stderr.strip()}\n{result.stdout.strip()}")
    return result.stdout


def lint(chart: Path, *files: str) -> str:
    """`helm lint --strict`, with values files of the chart. Raises HelmError."""
    return helm("lint", "--strict", chart, *_files(chart, files))


def template(
    chart: Path = ENVIRONMENT,
    *files: str,
    values: Values | None = None,
    release: str = "demo",
    namespace: str = "prod",
    more: Sequence[str] = (),
) -> list[Manifest]:
    """The rendered objects, those of `helm test` among them. `values` come after the files. Raises HelmError."""
    given = json.dumps(values) if values else ""
    return list(yaml_documents(_rendered(chart, files, given, release, namespace, tuple(more))))


@functools.cache
def _rendered(
    chart: Path, files: tuple[str, ...], values: str, release: str, namespace: str, more: tuple[str, ...]
) -> str:
    """The same words give the same text, so helm is asked once."""
    with written(json.loads(values) if values else None) as given:
        return helm("template", release, chart, "--namespace", namespace, *_files(chart, files), *given, *more)


def yaml_documents(text: str) -> Iterator[Manifest]:
    """The documents that are not empty; by libyaml where PyYAML has it, which is ten times as fast."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    yield from (document for document in yaml.load_all(text, loader) if document)


def install(
    server: ApiServer,
    chart: Path = ENVIRONMENT,
    *files: str,
    values: Values | None = None,
    release: str,
    namespace: str,
    more: Sequence[str] = (),
) -> str:
    """`helm upgrade --install` on a real API server; what it said. Raises HelmError."""
    with written(values) as given:
        return helm(
            *("upgrade", "--install", release, chart, "--namespace", namespace),
            *_files(chart, files),
            *given,
            *more,
            environment=server.environment(namespace=namespace),
        )


class written:  # noqa: N801  (read as a word: `with written(values) as given`)
    """Values as a file for `--values`, for as long as the block runs; no words without values."""

    def __init__(self, values: Values | None) -> None:
        self._values = values
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> list[str]:
        if not self._values:
            return []
        self._folder = tempfile.TemporaryDirectory()
        file = Path(self._folder.name) / "values.json"
        file.write_text(json.dumps(self._values), encoding="utf-8")
        return ["--values", str(file)]

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()


def _files(chart: Path, files: Sequence[str]) -> list[str]:
    return [word for file in files for word in ("--values", str(chart / file))]


def of_kind(objects: Sequence[Manifest], kind: str) -> list[Manifest]:
    return [one for one in objects if one["kind"] == kind]


def named(objects: Sequence[Manifest], kind: str, name: str) -> Manifest:
    """The one object of this kind and name."""
    (found,) = [one for one in of_kind(objects, kind) if one["metadata"]["name"] == name]
    return found


def pod_templates(objects: Sequence[Manifest]) -> dict[str, Manifest]:
    """The pods that the objects make, by component."""
    found = [one["spec"]["template"] for one in objects if one["kind"] in ("Deployment", "StatefulSet", "Job")]
    return {one["metadata"]["labels"]["app.kubernetes.io/component"]: one for one in found}


def arguments(template: Manifest) -> list[str]:
    """The words after the program's name."""
    container = template["spec"]["containers"][0]
    return [*container["command"][1:], *container.get("args", ())]

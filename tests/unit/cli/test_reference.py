"""The reference pages say of each field what its definition says."""

from __future__ import annotations

from pathlib import Path

import yaml

from hookstead.cli.reference import main, pages, rows

CRDS = Path(__file__).parents[3] / "crds"


def test_every_field_of_every_kind_has_its_heading_and_description() -> None:
    written = pages(CRDS)
    assert len(written) == 6
    for file in CRDS.glob("*.yaml"):
        definition = yaml.safe_load(file.read_text())
        page = written[f"{definition['spec']['names']['singular']}.md"]
        schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for part in ("spec", "status"):
            for row in rows(schema["properties"][part], part):
                assert f"### `{row.path}`\n" in page
        for column in definition["spec"]["versions"][0]["additionalPrinterColumns"]:
            assert f"| {column['name']}" in page


def test_bounds_enums_and_defaults_are_told() -> None:
    page = pages(CRDS)["webhookenvironment.md"]
    assert "*integer, 1–60, default `15`*" in page
    assert "*one of `Disabled`, `Enabled`, default `Disabled`*" in page


def test_writing_removes_pages_of_kinds_that_are_gone(tmp_path: Path) -> None:
    (tmp_path / "webhookold.md").write_text("old")
    assert main([str(CRDS), str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(pages(CRDS))
    assert main([]) == 2

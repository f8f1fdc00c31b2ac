"""Log records: a field that `logging` keeps for itself would raise where something goes wrong already."""

from __future__ import annotations

import ast
import logging
from pathlib import Path

import pytest

import hookstead.operator

FOLDER = Path(hookstead.operator.__file__).parent
RESERVED = {*vars(logging.makeLogRecord({})), "message", "asctime"}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_no_extra_field_clashes_with_a_field_of_the_record(path: Path) -> None:
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    logged = [call for call in calls if ast.unparse(call.func).startswith("log.")]
    extras = [keyword.value for call in logged for keyword in call.keywords if keyword.arg == "extra"]
    for extra in extras:
        assert isinstance(extra, ast.Dict), f"{path.name}:{extra.lineno}: spell the fields out"
        names = {key.value for key in extra.keys if isinstance(key, ast.Constant)}
        assert "action" in names, f"{path.name}:{extra.lineno}"
        assert not names & RESERVED, f"{path.name}:{extra.lineno}"

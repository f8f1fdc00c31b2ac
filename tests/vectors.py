"""Published test vectors, kept in `tests/data/`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def load(name: str) -> Any:
    """The JSON document of that file name."""
    return json.loads((Path(__file__).parent / "data" / name).read_text(encoding="utf-8"))

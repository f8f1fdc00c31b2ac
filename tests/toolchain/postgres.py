"""Debian's PostgreSQL: found beside its own version's programs, installed without a cluster of its own.

POSTGRES_BIN names the folder of another one's programs (initdb, postgres, …), which is taken instead.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from toolchain import debian

OLDEST: Final = 15
_DEBIAN: Final = Path("/usr/lib/postgresql")
_CLUSTER_CONFIGURATION: Final = Path("/etc/postgresql-common/createcluster.conf")


def folder() -> Path | None:
    """The programs (initdb, postgres, …) of the newest version that is installed, if it is new enough."""
    if asked := os.environ.get("POSTGRES_BIN"):
        return Path(asked)
    found = [
        (int(path.parent.parent.name), path.parent)
        for path in _DEBIAN.glob("*/bin/postgres")
        if path.parent.parent.name.isdigit()
    ]
    newest = max(found, default=None)
    return newest[1] if newest is not None and newest[0] >= OLDEST else None


def install(*, purpose: str) -> None:
    """Install the package without the cluster that it would make and start. Raises as `debian.install` does."""
    debian.install("postgresql-common", purpose=purpose)
    if _CLUSTER_CONFIGURATION.exists():
        text = _CLUSTER_CONFIGURATION.read_text(encoding="utf-8")
        changed = re.sub(r"(?m)^#?\s*create_main_cluster\s*=.*$", "create_main_cluster = false", text)
        _CLUSTER_CONFIGURATION.write_text(changed, encoding="utf-8")
    debian.install("postgresql", purpose=purpose)

"""What a table of measurements has to say of where it was measured."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path


def describe(*packages: str) -> list[str]:
    """Lines about processor, memory, kernel, file system, Python and the named packages."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        f"machine   {os.cpu_count()} x {model}, {memory:.0f} GiB, {platform.system()} {platform.release()}",
        f"versions  Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in packages),
    ]

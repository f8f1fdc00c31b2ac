"""What a kubelet does with a Secret that a pod mounts: a folder behind a link, replaced at once, some time later."""

from __future__ import annotations

import base64
import contextlib
import itertools
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Secret = Callable[[], dict[str, Any] | None]


class Mount:
    """A Secret's data as files under `folder`. What was brought stays while the Secret is gone, as in a pod."""

    def __init__(self, secret: Secret, folder: Path) -> None:
        self._secret = secret
        self._numbers = itertools.count(1)
        self._shown: dict[str, str] = {}
        self.folder = folder
        self.swaps = 0
        folder.mkdir(parents=True)

    def look(self) -> bool:
        """Bring the files up to date; whether there are any."""
        body = self._secret()
        data = dict((body or {}).get("data") or {})
        if body is None or data == self._shown:
            return bool(self._shown)
        fresh = self.folder / f"..{next(self._numbers)}"
        fresh.mkdir()
        for key, value in data.items():
            (fresh / key).write_bytes(base64.b64decode(value))
            if not (self.folder / key).is_symlink():
                (self.folder / key).symlink_to(Path("..data") / key)
        link = self.folder / "..data_tmp"
        link.symlink_to(fresh.name)
        former = (self.folder / "..data").resolve() if self._shown else None
        link.replace(self.folder / "..data")
        if former is not None:
            shutil.rmtree(former)
            self.swaps += 1
        self._shown = data
        return True


@contextlib.contextmanager
def mounted(secret: Secret, folder: Path, *, every: float = 0.3) -> Iterator[Mount]:
    """Kept up to date within the block."""
    mount, closing = Mount(secret, folder), threading.Event()

    def follow() -> None:
        while not closing.wait(every):
            with contextlib.suppress(Exception):  # the API server may be away, and a kubelet only tries again
                mount.look()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield mount
    finally:
        closing.set()
        thread.join(5)

"""Downloads a published release, quickly or not at all, and believes only what its checksum confirms.

The checksum comes over TLS from the same publisher: it tells a broken download from a whole one. What pins
the content for good is the other way in, `go build` with the committed go.sum.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import tarfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

ANSWER_SECONDS: Final = 3.0
"""How long a host may take for the (small) checksum file, name look-up and TLS included."""
TRANSFER_SECONDS: Final = 120.0
"""How long the whole download may take: past that, building is as fast."""

OS: Final = platform.system().lower()
ARCH: Final = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
SYSTEM: Final = f"{OS}-{ARCH}"

_silent_hosts: set[str] = set()


@dataclass(frozen=True, slots=True)
class Release:
    """Where a release is. `{version}`, `{os}` and `{arch}` are filled in."""

    url: str
    checksums: str
    """A file of SHA-256 sums: one bare sum, or lines of `sum  file`."""
    member: str | None = None
    """The program's name within the archive; None: the download is the program."""


def fetch(release: Release, *, version: str, to: Path) -> bool:
    """Write the program to `to`; False, and nothing written, when there is no (sound) answer in time."""
    url = _filled(release.url, version)
    checksums = _answer(_filled(release.checksums, version))
    expected = expected_sum(checksums, file=url.rpartition("/")[2]) if checksums else None
    if expected is None:
        return False
    archive = to.with_name(to.name + ".download")
    try:
        if _transfer(url, to=archive) != expected:
            return False
        if release.member is None:
            archive.rename(to)
        else:
            _extract(archive, member=_filled(release.member, version), to=to)
    except (OSError, KeyError, tarfile.TarError):
        to.unlink(missing_ok=True)
        return False
    finally:
        archive.unlink(missing_ok=True)
    return True


def expected_sum(text: str, *, file: str) -> str | None:
    """The SHA-256 of `file` in a checksum file, in lower-case hexadecimal; None if it is not there."""
    for line in text.splitlines():
        digest, _, name = line.strip().partition(" ")
        if name.strip().lstrip("*") in {file, ""} and len(digest) == 64:
            return digest.lower()
    return None


def _filled(template: str, version: str) -> str:
    return template.format(version=version, os=OS, arch=ARCH)


def _answer(url: str) -> str | None:
    """The text at `url`, or None after ANSWER_SECONDS; a host that was silent once is not asked again.

    In a thread of its own, since no timeout of the standard library covers the name look-up.
    """
    host = urllib.parse.urlsplit(url).netloc
    if host in _silent_hosts:
        return None
    texts: list[str] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as response:
                texts.append(response.read(65536).decode("utf-8", "replace"))
        except (OSError, ValueError):
            pass  # no answer: the caller builds instead

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    if not texts:
        _silent_hosts.add(host)
        return None
    return texts[0]


def _transfer(url: str, *, to: Path) -> str:
    """Download `url`; return the SHA-256 of what came. OSError when it fails or takes too long."""
    digest = hashlib.sha256()
    deadline = time.monotonic() + TRANSFER_SECONDS
    with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as response, to.open("wb") as file:
        while block := response.read(1 << 20):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{url}: not complete after {TRANSFER_SECONDS:.0f} s")
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def _extract(archive: Path, *, member: str, to: Path) -> None:
    with tarfile.open(archive) as tar:
        source = tar.extractfile(member)
        if source is None:
            raise KeyError(member)
        with source, to.open("wb") as file:
            shutil.copyfileobj(source, file)

"""What `--store` may say: a file of SQLite, or a PostgreSQL database; and how it is shown without its password."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

from hookstead.store.errors import StoreRefused

EXPECTED: Final = "expected sqlite:PATH or postgresql://USER@HOST:PORT/DATABASE"
_SQLITE: Final = "sqlite:"
_POSTGRES: Final = ("postgresql://", "postgres://")
_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*(?=:)")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:]*)(:[0-9]*)?")
_MASK: Final = "***"


def is_postgres(url: str) -> bool:
    return url.startswith(_POSTGRES)


def sqlite_file(url: str) -> Path:
    """The file that a `sqlite:` address names. Raises StoreRefused for every other address."""
    if not url.startswith(_SQLITE):
        raise StoreRefused(f"--store {_scheme(url)}{EXPECTED}")
    path = url.removeprefix(_SQLITE).removeprefix("//")
    if not path or path == ":memory:":
        raise StoreRefused(f"--store {url}: a file is needed, for example sqlite:/var/lib/hookstead/store.db")
    return Path(path)


def require_database(url: str) -> None:
    """Raises StoreRefused for a PostgreSQL address in which host and password can not be told apart.

    Nothing of such an address is repeated: any part of it may be the password.
    """
    _split(url)


def shown(url: str) -> str:
    """The address as messages and logs have it: a database's host and name; no user, no password, no setting."""
    if not is_postgres(url):
        return url if url.startswith(_SQLITE) else _MASK
    try:
        parts = _split(url)
    except StoreRefused:
        return f"{url.partition(':')[0]}://{_MASK}"
    return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"


def has_password(url: str) -> bool:
    """Whether somebody who reads the address can log in with it. True where that can not be told."""
    if not is_postgres(url):
        return False
    try:
        parts = _split(url)
    except StoreRefused:
        return True
    asked = {name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    return ":" in parts.netloc.rpartition("@")[0] or bool(asked & {"password", "sslpassword"})


def are_hosts(text: str) -> bool:
    """Whether it is HOST, HOST:PORT, or several of them with commas, as PostgreSQL's addresses have them."""
    return all(map(_HOST.fullmatch, text.split(",")))


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _unclear() from None  # the error's text has the address
    user, at, hosts = parts.netloc.rpartition("@")
    behind = parts.path + (parts.query if not at else "")
    if "@" in user or "@" in behind or "#" in url or not are_hosts(hosts):
        raise _unclear()
    return parts


def _unclear() -> StoreRefused:
    return StoreRefused(
        "--store postgresql://…: its host can not be told from its password: in user and password write / as %2F, "
        "? as %3F, # as %23, @ as %40, : as %3A, [ as %5B, ] as %5D"
    )


def _scheme(url: str) -> str:
    found = _SCHEME.match(url)
    return "" if found is None else f"{found.group()}:…: "

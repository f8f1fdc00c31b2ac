"""The state folder of `hookstead dev`: what must survive a restart and is in no manifest.

    store.sqlite3                           events, deliveries, attempts (the engine's)
    objects.json                            uid, generation and creation of each object
    environments/<namespace>.json           the last valid form of the environment
    secrets/<namespace>/<endpoint>-signing/key   generated signing keys
    last-good/<hash of the path>            the last readable content of each manifest file

Everything is for this user only (folders 0700, files 0600), and is replaced as a whole or not at all.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import TYPE_CHECKING, Final

import msgspec

from hookstead.cli import ledger
from hookstead.cli.outcome import CommandError
from hookstead.config.compile import signing_secret_name
from hookstead.config.model import EnvironmentConfig
from hookstead.resources.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

KEY: Final = "key"
"""The data key of a generated signing Secret, as in a cluster."""
_KEY_BYTES: Final = 32


class StateFolder:
    """Reads and writes the folder. Raises CommandError where it cannot."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self) -> None:
        """Make the folder, for this user only; one that exists keeps its mode."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as problem:
            raise self._failed("be created", problem) from problem

    @property
    def store(self) -> Path:
        """The SQLite file."""
        return self.path / "store.sqlite3"

    def read_ledger(self) -> ledger.Ledger:
        """The saved ledger; an empty one where none was saved."""
        try:
            return ledger.decode((self.path / "objects.json").read_bytes())
        except FileNotFoundError:
            return ledger.Ledger()
        except (OSError, msgspec.MsgspecError) as problem:
            raise self._failed("be used: objects.json is unreadable", problem) from problem

    def write_ledger(self, current: ledger.Ledger) -> None:
        """Save the ledger."""
        self._replace(self.path / "objects.json", ledger.encode(current))

    # -------------------------------------------------------------------------------- last valid environment

    def last_environment(self, namespace: str) -> EnvironmentConfig | None:
        """The last valid form of the namespace's environment; None where none is known."""
        try:
            return msgspec.json.decode(self._environment_file(namespace).read_bytes(), type=EnvironmentConfig)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as problem:
            what = f"be used: environments/{namespace}.json is unreadable"
            raise self._failed(what, problem) from problem

    def keep_environment(self, namespace: str, environment: EnvironmentConfig | None) -> None:
        """Remember a valid form; None forgets it, with the environment itself."""
        file = self._environment_file(namespace)
        if environment is not None:
            self._replace(file, msgspec.json.encode(environment))
            return
        try:
            file.unlink(missing_ok=True)
        except OSError as problem:
            raise self._failed("be written", problem) from problem

    def _environment_file(self, namespace: str) -> Path:
        return self.path / "environments" / f"{namespace}.json"

    # ------------------------------------------------------------------------------------- signing keys

    def signing_key(self, namespace: str, endpoint: str) -> Secret | None:
        """The key that was generated for the endpoint; None where none was."""
        try:
            return Secret(self._key_file(namespace, endpoint).read_bytes())
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise self._failed("be read", problem) from problem

    def generate_signing_key(
        self, namespace: str, endpoint: str, *, entropy: Callable[[int], bytes] = os.urandom
    ) -> None:
        """Make a key as the operator does: `whsec_` and the base64 of 32 random bytes."""
        text = b"whsec_" + base64.b64encode(entropy(_KEY_BYTES))
        self._replace(self._key_file(namespace, endpoint), text + b"\n")

    def keep_signing_keys(self, namespace: str, endpoints: Collection[str]) -> None:
        """Remove the keys of endpoints that are gone: an endpoint's key ends with it."""
        wanted = {signing_secret_name(endpoint) for endpoint in endpoints}
        for folder in _entries(self.path / "secrets" / namespace):
            if folder.name not in wanted and (folder / KEY).is_file():
                try:
                    (folder / KEY).unlink()
                    folder.rmdir()
                except OSError as problem:
                    raise self._failed("be written", problem) from problem

    def _key_file(self, namespace: str, endpoint: str) -> Path:
        return self.path / "secrets" / namespace / signing_secret_name(endpoint) / KEY

    # --------------------------------------------------------------------------- last readable manifests

    def last_good(self, manifest: str) -> str | None:
        """The last readable content of the manifest file; None where there never was one."""
        try:
            return self._copy_of(manifest).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as problem:
            raise self._failed("be read", problem) from problem

    def keep_last_good(self, manifest: str, content: str) -> None:
        """Remember a readable content of the manifest file."""
        self._replace(self._copy_of(manifest), content.encode())

    def keep_manifests(self, manifests: Collection[str]) -> None:
        """Forget files that are gone."""
        wanted = {self._copy_of(manifest).name for manifest in manifests}
        for copy in _entries(self.path / "last-good"):
            if copy.name not in wanted:
                copy.unlink(missing_ok=True)

    def _copy_of(self, manifest: str) -> Path:
        return self.path / "last-good" / hashlib.sha256(manifest.encode("utf-8", "surrogateescape")).hexdigest()

    # ------------------------------------------------------------------------------------------- writing

    def _replace(self, target: Path, content: bytes) -> None:
        draft = target.with_name(f".{target.name}.new")
        try:
            for folder in reversed(target.relative_to(self.path).parents):
                (self.path / folder).mkdir(mode=0o700, exist_ok=True)
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
        except OSError as problem:
            raise self._failed("be written", problem) from problem

    def _failed(self, what: str, problem: Exception) -> CommandError:
        reason = problem.strerror if isinstance(problem, OSError) else problem
        return CommandError(f"the state folder {self.path} cannot {what}: {reason}. Choose one with --state-dir.")


def _entries(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []

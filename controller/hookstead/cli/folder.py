"""A folder of manifests: what its files hold now, or held when they could last be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hookstead.cli import scan
from hookstead.cli.assemble import Raw, is_ours, is_secret, namespace_of
from hookstead.cli.state_folder import StateFolder
from hookstead.resources.kinds import GROUP, Kind
from hookstead.resources.suggestion import did_you_mean

_KINDS: Final = frozenset(kind.value for kind in Kind)

ReadText = Callable[[str, str], Sequence[Raw]]
"""The objects of a manifest's text, Lists taken apart; the second argument names the file. Raises ValueError with the
place where it breaks and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The objects of the namespace in the order of paths and documents, and what people should know of the files."""

    objects: tuple[Raw, ...] = ()
    troubles: tuple[str, ...] = ()
    """Files that cannot be read; each names the file and what is used instead."""
    foreign: frozenset[str] = frozenset()
    """Other namespaces that objects name; these objects are left out."""


@dataclass(slots=True)
class _File:
    """One file as it was last looked at."""

    stamp: scan.Stamp
    objects: tuple[Raw, ...] = ()
    trouble: str | None = None


class ManifestFolder:
    """Looks at the folder when asked to; does nothing by itself.

    A change counts once two looks in a row agree, so that a file half written, or a checkout half done, is not taken
    for a deletion.
    """

    def __init__(self, folder: Path, *, namespace: str, state: StateFolder, read_text: ReadText) -> None:
        self.path: Final = folder
        self._namespace: Final = namespace
        self._state: Final = state
        self._read_text: Final = read_text
        self._files: dict[str, _File] = {}
        self._seen: scan.Stamps | None = None
        self._used: scan.Stamps | None = None
        self._unreachable: str | None = None

    def settled_change(self) -> bool:
        """Whether the files differ from those that `contents` used last, and have stopped changing."""
        before, self._seen = self._seen, self._look()
        return self._seen != self._used and self._seen == before

    def contents(self) -> Contents:
        """Read what changed since the last time. Raises CommandError where the state folder fails."""
        stamps = self._look()
        self._seen = self._used = stamps
        if stamps is not None:
            self._files = {name: self._file(name, stamp) for name, stamp in stamps.items()}
            self._state.keep_manifests(list(stamps))
        own: list[Raw] = []
        foreign: set[str] = set()
        for file in self._files.values():
            for raw in file.objects:
                named = namespace_of(raw) or self._namespace
                if named == self._namespace:
                    own.append(raw)
                elif is_ours(raw) or is_secret(raw):
                    foreign.add(named)
        troubles = [file.trouble for file in self._files.values() if file.trouble]
        if self._unreachable:
            troubles.insert(0, self._unreachable)
        return Contents(objects=tuple(own), troubles=tuple(troubles), foreign=frozenset(foreign))

    def _look(self) -> scan.Stamps | None:
        """None when the folder itself cannot be looked at: what it held goes on."""
        try:
            stamps = scan.stamps(self.path, without=self._state.path)
        except OSError as problem:
            self._unreachable = (
                f"{self.path}: the folder cannot be read: {problem.strerror}. What it held is used further."
            )
            return None
        self._unreachable = None
        return stamps

    def _file(self, name: str, stamp: scan.Stamp) -> _File:
        known = self._files.get(name)
        if known is not None and known.stamp == stamp and known.trouble is None:
            return known
        try:
            text = self._read(name)
            objects = tuple(self._read_text(text, str(self.path / name)))
            self._require_known_kinds(name, objects)
        except ValueError as problem:
            return self._last_good(name, stamp, known, str(problem))
        self._state.keep_last_good(name, text)
        return _File(stamp, objects)

    def _require_known_kinds(self, name: str, objects: Sequence[Raw]) -> None:
        """A mistyped kind must not read as a deletion of the object that it was: the whole file is unreadable."""
        for raw in objects:
            kind = str(raw.get("kind"))
            if is_ours(raw) and kind not in _KINDS:
                raise ValueError(f"{self.path / name}: {GROUP} has no kind {kind!r}{did_you_mean(kind, _KINDS)}")

    def _read(self, name: str) -> str:
        try:
            return scan.read(self.path / name)
        except ValueError as problem:
            raise ValueError(f"{self.path / name}: {problem}") from problem

    def _last_good(self, name: str, stamp: scan.Stamp, known: _File | None, why: str) -> _File:
        objects = known.objects if known is not None else self._saved(name)
        kept = (
            f"Its last readable version is used further ({len(objects)} objects)."
            if objects
            else "It never was readable, so nothing of it is used."
        )
        return _File(stamp, objects, f"{why}. {kept}")

    def _saved(self, name: str) -> tuple[Raw, ...]:
        """From an earlier run; what cannot be read any more (another version wrote it) is nothing."""
        text = self._state.last_good(name)
        try:
            return () if text is None else tuple(self._read_text(text, name))
        except ValueError:
            return ()

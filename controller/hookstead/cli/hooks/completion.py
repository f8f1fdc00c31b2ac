"""`kubectl_complete-hooks`, which kubectl runs to complete `kubectl hooks …` (KEP-2379, cobra's protocol).

The words so far are its arguments, the last one what is being typed. It prints a candidate a line, with a description
behind a tab, and ends with a directive. It never complains: a shell in the middle of a word is no place for errors.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Final

from hookstead.cli.client import Gateway, is_loopback, server_url
from hookstead.cli.flags import Arity, Command
from hookstead.cli.hooks.kubectl import Kubectl
from hookstead.cli.hooks.names import CHANNELS, ENDPOINTS, EVENT_TYPES
from hookstead.cli.outcome import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

NO_FILES: Final = ":4"
FILES: Final = ":0"
_OF_KUBECTL: Final = ("kubeconfig", "context", "namespace", "as")
_KNOWN: Final = {
    "endpoint": (ENDPOINTS, "metadata.name", "endpoints", "name"),
    "event-type": (EVENT_TYPES, "spec.type", "catalog", "type"),
    "channel": (CHANNELS, "spec.channelName", "channels", "channelName"),
}
"""What can be looked up: the resource and its field for kubectl, the list and its field for a gateway."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print candidates; always 0."""
    from hookstead.cli.kubectl_hooks import MODULES

    words = list(sys.argv[1:] if argv is None else argv) or [""]
    candidates, directive = complete(words, MODULES)
    for candidate in candidates:
        print(candidate)
    print(directive)
    return 0


def complete(words: Sequence[str], modules: Mapping[str, tuple[str, str]]) -> tuple[list[str], str]:
    """The candidates for the last word, and the directive."""
    typed = words[-1]
    if len(words) == 1:
        return _matching(typed, {name: summary for name, (_, summary) in modules.items()}), NO_FILES
    if words[0] not in modules:
        return [], NO_FILES
    command: Command = importlib.import_module(modules[words[0]][0]).COMMAND
    before = words[1:-1]
    if typed.startswith("-"):
        name, equals, value = typed.partition("=")
        if not equals:
            return _matching(typed, {f"--{flag.name}": flag.help for flag in command.flags}), NO_FILES
        candidates, directive = _values(command, name, before)
        return [f"{name}={one}" for one in candidates if one.startswith(value)], directive
    if before and _takes_a_value(command, before[-1]):
        candidates, directive = _values(command, before[-1], before)
        return [one for one in candidates if one.startswith(typed)], directive
    if command.arguments:
        return [one for one in _known(command.arguments[0].name, before) if one.startswith(typed)], NO_FILES
    return [], NO_FILES


def _matching(typed: str, candidates: Mapping[str, str]) -> list[str]:
    return [f"{name}\t{what.splitlines()[0]}" for name, what in candidates.items() if name.startswith(typed)]


def _takes_a_value(command: Command, word: str) -> bool:
    return any(
        word in (f"--{flag.name}", f"-{flag.short}") and flag.arity is not Arity.SWITCH for flag in command.flags
    )


def _values(command: Command, name: str, before: Sequence[str]) -> tuple[list[str], str]:
    """What a flag may be given."""
    flag = next((one for one in command.flags if name in (f"--{one.name}", f"-{one.short}")), None)
    if flag is None:
        return [], NO_FILES
    if flag.choices:
        return list(flag.choices), NO_FILES
    match flag.name:
        case "endpoint" | "event-type" | "channel":
            return _known(flag.name, before), NO_FILES
        case "namespace":
            return _from_kubectl(before, "get", "namespaces", "--output=name"), NO_FILES
        case "context":
            return _from_kubectl(before, "config", "get-contexts", "--output=name"), NO_FILES
        case "kubeconfig" | "token-file" | "into":
            return [], FILES
        case _:
            return [], NO_FILES


def _known(what: str, before: Sequence[str]) -> list[str]:
    """Names of that sort, sorted; none where it is no sort that can be looked up."""
    found = _KNOWN.get({"ENDPOINT": "endpoint", "TYPE": "event-type"}.get(what, what))
    if found is None:
        return []
    resource, field, path, member = found
    server = _given(before, "server") or os.environ.get("HOOKSTEAD_SERVER", "")
    if not server:
        columns = f"--output=custom-columns=NAME:.{field}"
        return _from_kubectl(before, "get", resource, columns, "--no-headers", "--ignore-not-found")
    try:
        token = os.environ.get("HOOKSTEAD_TOKEN") if server.startswith("https:") or is_loopback(server) else None
        gateway = Gateway(server_url(server), token=token or None)
        return sorted(str(item[member]) for item in gateway.items(path, limit=None))
    except (CommandError, ValueError):
        return []


def _from_kubectl(before: Sequence[str], *arguments: str) -> list[str]:
    flags = [f"--{name}={value}" for name in _OF_KUBECTL if (value := _given(before, name))]
    try:
        lines = Kubectl(flags=tuple(flags)).run(*arguments).split()
    except CommandError:
        return []
    return sorted(line.removeprefix("namespace/") for line in lines)


def _given(before: Iterable[str], name: str) -> str | None:
    """The value that a flag has so far."""
    words = list(before)
    names = {f"--{name}", "-n"} if name == "namespace" else {f"--{name}"}
    for at, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag in names:
            return value if equals else words[at + 1] if at + 1 < len(words) else None
    return os.environ.get(f"HOOKSTEAD_{name.upper()}") or None


if __name__ == "__main__":
    sys.exit(main())

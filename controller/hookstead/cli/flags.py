"""Flags and their environment variables, from one table per command.

A flag `--drain-seconds` has the variable HOOKSTEAD_DRAIN_SECONDS. What counts, in this order: the command
line, the variable (an empty one is not set), the default. A value that does not parse is a usage error
(exit 2) that names where it came from. Secrets are never flags: they come from files, or from variables
without a flag.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PREFIX: Final = "HOOKSTEAD_"


class Arity(Enum):
    """How often a flag may be given, and with what."""

    ONE = "one value"
    MANY = "repeated"
    """A list; its variable holds the values separated by commas."""
    SWITCH = "no value"
    """True when given; `--no-…` turns it off again. Its variable holds true or false."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One flag. `parse` turns text into the value; it raises ValueError with what was expected."""

    name: str
    """In lower case with dashes, without the leading two."""
    help: str
    """One sentence with the unit; the default and the variable are added."""
    default: Any = None
    default_text: str | None = None
    """How the help names a default that is worked out later."""
    parse: Callable[[str], Any] = str
    arity: Arity = Arity.ONE
    required: bool = False
    short: str | None = None
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    on_command_line: Callable[[str], object] | None = None
    """Raises ValueError for what may stand in the variable only: every user of the machine reads command lines."""

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper().replace("-", "_")

    @property
    def attribute(self) -> str:
        return self.name.replace("-", "_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One positional argument. `nargs` as argparse has it; None is exactly one."""

    name: str
    help: str
    nargs: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a parser is built from."""

    prog: str
    summary: str
    epilog: str = ""
    flags: tuple[Flag, ...] = ()
    arguments: tuple[Argument, ...] = field(default=())


class UsageError(Exception):
    """The command line or a variable cannot be understood: exit 2."""


class _Parser(argparse.ArgumentParser):
    """Raises instead of ending the process, so that one place decides about exit codes."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}\nSee '{self.prog} --help'.")


def parse(command: Command, argv: Sequence[str], environ: Mapping[str, str]) -> argparse.Namespace:
    """The values of every flag (by attribute name) and argument of `command`. Raises UsageError.

    `--help` prints and raises SystemExit(0), as argparse does.
    """
    given = _parser(command).parse_args(list(argv))
    for flag in command.flags:
        setattr(given, flag.attribute, _value(flag, given, environ, prog=command.prog))
    return given


def _parser(command: Command) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=command.prog,
        description=command.summary,
        epilog=command.epilog or None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for argument in command.arguments:
        parser.add_argument(argument.name.lower(), metavar=argument.name, help=argument.help, nargs=argument.nargs)
    for flag in command.flags:
        _add(parser, flag)
    return parser


def _add(parser: argparse.ArgumentParser, flag: Flag) -> None:
    names = [f"-{flag.short}"] if flag.short else []
    options: dict[str, Any] = {"dest": flag.attribute, "default": None, "help": _help(flag)}
    if flag.arity is Arity.SWITCH:
        parser.add_argument(*names, f"--{flag.name}", action=argparse.BooleanOptionalAction, **options)
        return
    shown = flag.metavar or ("|".join(flag.choices) if flag.choices else flag.name.rsplit("-", 1)[-1].upper())
    action = "append" if flag.arity is Arity.MANY else "store"
    parser.add_argument(*names, f"--{flag.name}", action=action, metavar=shown, **options)


def _help(flag: Flag) -> str:
    default = flag.default_text if flag.default_text is not None else _shown(flag.default)
    notes = ["required"] if flag.required else [f"default {default}"] if default else []
    if flag.arity is Arity.MANY:
        notes.append("may be repeated")
    notes.append(flag.variable)
    return f"{flag.help} ({'; '.join(notes)})".replace("%", "%%")


def _shown(default: object) -> str:
    match default:
        case None | () | "":
            return ""
        case bool():
            return str(default).lower()
        case _:
            return str(default)


def _value(flag: Flag, given: argparse.Namespace, environ: Mapping[str, str], *, prog: str) -> Any:
    raw = getattr(given, flag.attribute)
    if raw is not None:
        return _parsed(flag, raw, source=f"--{flag.name}", prog=prog, guard=flag.on_command_line)
    text = environ.get(flag.variable, "")
    if text == "":
        if flag.required:
            raise UsageError(f"{prog}: --{flag.name} is required (or {flag.variable})\nSee '{prog} --help'.")
        return flag.default
    raw = [part.strip() for part in text.split(",") if part.strip()] if flag.arity is Arity.MANY else text
    return _parsed(flag, raw, source=flag.variable, prog=prog)


def _parsed(flag: Flag, raw: Any, *, source: str, prog: str, guard: Callable[[str], object] | None = None) -> Any:
    try:
        if guard is not None:
            guard(raw)
        match flag.arity:
            case Arity.SWITCH:
                return raw if isinstance(raw, bool) else boolean(raw)
            case Arity.MANY:
                return tuple(_one(flag, text) for text in raw)
            case Arity.ONE:
                return _one(flag, raw)
    except ValueError as problem:
        raise UsageError(f"{prog}: {source}: {problem}\nSee '{prog} --help'.") from problem


def _one(flag: Flag, text: str) -> Any:
    if flag.choices and text not in flag.choices:
        raise ValueError(f"{text!r} is not one of {', '.join(flag.choices)}")
    return flag.parse(text)


# ------------------------------------------------------------------------------------------------ values


def boolean(text: str) -> bool:
    """true/false, 1/0, yes/no, on/off."""
    match text.strip().lower():
        case "true" | "1" | "yes" | "on":
            return True
        case "false" | "0" | "no" | "off":
            return False
        case _:
            raise ValueError(f"{text!r} is neither true nor false")


def whole(*, minimum: int, maximum: int, unit: str = "") -> Callable[[str], int]:
    """A parser of integers within bounds, in plain decimal digits."""
    of_unit = f" of {unit}" if unit else ""

    def parse_whole(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not minimum <= int(text) <= maximum:
            raise ValueError(f"{text!r} is not a whole number{of_unit} from {minimum} to {maximum}")
        return int(text)

    return parse_whole


def bounded(*, minimum: float, maximum: float, unit: str) -> Callable[[str], float]:
    """A parser of decimal numbers within bounds, in plain notation."""

    def parse_bounded(text: str) -> float:
        plain = text.isascii() and text.replace(".", "", 1).isdigit()
        if not plain or not minimum <= float(text) <= maximum:
            raise ValueError(f"{text!r} is not a number of {unit} from {minimum:g} to {maximum:g}")
        return float(text)

    return parse_bounded


def address(text: str) -> tuple[str, int]:
    """`HOST:PORT`, `:PORT` (every interface) or `[IPv6]:PORT`. Port 0 takes a free one."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:8080")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r} is not HOST:PORT: write an IPv6 address in brackets, such as [::1]:8080")
    return host, int(port)


def namespace(text: str) -> str:
    """A Kubernetes namespace: 1–63 lower-case letters, digits and dashes, first and last no dash."""
    body = text.replace("-", "")
    alphanumeric = text.isascii() and (body == "" or body.isalnum()) and text == text.lower()
    if not alphanumeric or not 1 <= len(text) <= 63 or text[0] == "-" or text[-1] == "-":
        raise ValueError(f"{text!r} is not a namespace: lower-case letters, digits and dashes, at most 63")
    return text

"""Tables and ages as kubectl prints them, and the other output formats."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import yaml

from hookstead.cli.outcome import say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

FORMATS: Final = ("wide", "json", "yaml", "name")
_GAP: Final = "   "
_ABSENT: Final = "<none>"

Item = dict[str, Any]
"""One object as the gateway's API answers it."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading, what an item shows in it, and whether only `-o wide` has it."""

    heading: str
    cell: Callable[[Item], object]
    wide: bool = False


def show(
    items: Sequence[Item],
    columns: Sequence[Column],
    *,
    output: str | None,
    name: Callable[[Item], str],
    single: bool = False,
    nothing: str = "No resources found",
) -> None:
    """Print `items` in the format `output`: a table, or one of FORMATS.

    `single`: one object was asked for by name, so JSON and YAML show it bare instead of in a list.
    """
    match output:
        case "json" | "yaml":
            document(items[0] if single else {"items": list(items)}, output)
        case "name":
            for item in items:
                print(name(item))
        case _ if not items:
            say(nothing)
        case _:
            shown = [column for column in columns if output == "wide" or not column.wide]
            rows = [[text(column.cell(item)) for column in shown] for item in items]
            print("\n".join(aligned([[column.heading for column in shown], *rows])))


class Rows:
    """What goes on: rows, or documents, printed as they come. Columns keep the widest cell that was seen so far."""

    def __init__(self, columns: Sequence[Column], *, output: str | None, name: Callable[[Item], str]) -> None:
        self._columns: Final = [column for column in columns if output == "wide" or not column.wide]
        self._output: Final = output
        self._name: Final = name
        self._widths: list[int] = []

    def add(self, items: Sequence[Item]) -> None:
        """Print these, the headings before the first ones, and hand them on to whoever reads."""
        if items:
            self._print(items)
            sys.stdout.flush()

    def _print(self, items: Sequence[Item]) -> None:
        match self._output:
            case "json":
                for item in items:
                    document(item, "json")
            case "yaml":
                for item in items:
                    print("---")
                    document(item, "yaml")
            case "name":
                for item in items:
                    print(self._name(item))
            case _:
                rows = [[text(column.cell(item)) for column in self._columns] for item in items]
                headings = [] if self._widths else [[column.heading for column in self._columns]]
                print("\n".join(aligned([*headings, *rows], at_least=self._widths)))
                self._widths = _widths([*headings, *rows], self._widths)


def document(value: Mapping[str, Any], output: str) -> None:
    """Print one document as `json` or `yaml`."""
    if output == "json":
        print(json.dumps(value, indent=4, ensure_ascii=False))
        return
    yaml.safe_dump(value, sys.stdout, allow_unicode=True, sort_keys=False, default_flow_style=False)


def text(value: object) -> str:
    """A cell: absent is `<none>`, lists are joined by commas; control characters never reach the terminal."""
    match value:
        case None | "" | [] | ():
            return _ABSENT
        case list() | tuple():
            return ",".join(text(part) for part in value)
        case _:
            return printable(str(value))


def printable(line: str) -> str:
    """`line` without control characters: what a receiver answered must not steer somebody's terminal."""
    return "".join(char if char.isprintable() else "�" for char in line)


def aligned(rows: Sequence[Sequence[str]], *, at_least: Sequence[int] = ()) -> list[str]:
    """Rows as lines, columns padded to their widest cell, no white space at the end of a line."""
    widths = _widths(rows, at_least)
    return [_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _widths(rows: Sequence[Sequence[str]], at_least: Sequence[int]) -> list[int]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [max(pair) for pair in zip(widths, at_least, strict=True)] if at_least else widths


def counted(count: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def moment(stamp: str) -> datetime:
    """An RFC 3339 time; raises ValueError."""
    parsed = datetime.fromisoformat(stamp)
    if parsed.tzinfo is None:
        raise ValueError(f"{stamp!r} has no time zone")
    return parsed


def age(stamp: str | None, *, now: datetime) -> str:
    """How long ago, as kubectl writes it: `42s`, `5m3s`, `3h12m`, `9d`. `<unknown>` without a time."""
    if not stamp:
        return "<unknown>"
    return duration(max(0, int((now.astimezone(UTC) - moment(stamp)).total_seconds())))


def duration(seconds: int) -> str:
    """The form of apimachinery's HumanDuration: at most two units, the coarser the longer it is."""
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    return _two(days // 365, "y", days % 365, "d") if days < 8 * 365 else f"{days // 365}y"


def _two(coarse: int, coarse_unit: str, fine: int, fine_unit: str) -> str:
    return f"{coarse}{coarse_unit}{fine}{fine_unit}" if fine else f"{coarse}{coarse_unit}"

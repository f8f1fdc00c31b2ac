"""The commands of a Markdown page in its order, each with the output that the page shows for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_FENCE: Final = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)
_ELLIPSIS: Final = "…"


@dataclass(frozen=True, slots=True)
class Step:
    """What one types. `shown` are the lines of the page under it; None where the page shows none."""

    heading: str
    command: str
    shown: tuple[str, ...] | None = None


def steps(page: str) -> Iterator[Step]:
    """A `sh` block is one step; a `console` block has one for each prompt."""
    for block in _FENCE.finditer(page):
        headings = _HEADING.findall(page, 0, block.start())
        heading = headings[-1] if headings else ""
        if block["language"] == "sh":
            yield Step(heading, block["text"].rstrip())
        elif block["language"] == "console":
            yield from _prompts(heading, block["text"].splitlines())


def _prompts(heading: str, lines: list[str]) -> Iterator[Step]:
    position = 0
    while position < len(lines):
        command = [lines[position].removeprefix("$ ")]
        while command[-1].endswith("\\"):
            position += 1
            command.append(lines[position])
        position += 1
        shown = []
        while position < len(lines) and not lines[position].startswith("$ "):
            shown.append(lines[position])
            position += 1
        text = [line for line in shown if line.strip()]
        yield Step(heading, "\n".join(command), tuple(text) if text else None)


# What differs from run to run; all else of a line must be as shown.
_VARYING: Final = (
    (r"(msg|dlv)_[0-9a-f]{32}", r"\1_[0-9a-f]{32}"),
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z", r"\\d{4}-\\d\\d-\\d\\dT[\\d:.]+Z"),
    (r"\b\d+(?:ms|s|m|h|d)\b", r"(?:\\d+(?:ms|s|m|h|d))+"),
    (r"\b\d+\b", r"\\d+"),
)
_PARTS: Final = re.compile("|".join(f"(?:{varying})" for varying, _ in _VARYING))


def differences(shown: tuple[str, ...], printed: str) -> list[str]:
    """Each shown line that the output lacks, in order. Numbers, ages, times and identifiers may differ, and so may
    the width of columns; an ellipsis stands for anything."""
    left = printed.splitlines()
    missing = []
    for line in shown:
        if line.strip() == _ELLIPSIS:
            continue
        pattern = _pattern(line)
        found = next((number for number, one in enumerate(left) if pattern.fullmatch(" ".join(one.split()))), None)
        if found is None:
            missing.append(line)
        else:
            left = left[found + 1 :]
    return missing


def _pattern(line: str) -> re.Pattern[str]:
    words = " ".join(line.split()).replace(_ELLIPSIS, "\0")
    built, end = "", 0
    for part in _PARTS.finditer(words):
        built += re.escape(words[end : part.start()]) + _varying(part[0])
        end = part.end()
    built += re.escape(words[end:])
    return re.compile(built.replace("\0", ".*"))


def _varying(text: str) -> str:
    for varying, pattern in _VARYING:
        if re.fullmatch(varying, text):
            return re.sub(varying, pattern, text)
    raise AssertionError(text)

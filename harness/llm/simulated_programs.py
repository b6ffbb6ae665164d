"""The programs that a prompt shows, each with what the prompt says about it.

    design, text     by the design marker; up to the end of the code block
    heading          the last line of prose above the block
    verdict          the first status line between the block and the next program
    listed score     a number in the heading or below the block, where no verdict has one
    current          the last program that its heading calls the current one (or the one to fix),
                     else the last program. A verdict above all programs is the current one's, if
                     it has none below it.

A prompt that says so ("score times 100") lists scores times 100. A listed score of 0 is a failure
of which the reason is not known. Comment lines with EVOLVE-BLOCK-START or EVOLVE-BLOCK-END say
where a program may be changed and are no part of it.

Covered: the conventions of docs/architecture.md, "The prompt conventions", and the words of the two
foreign packages' prompts. Not covered: programs without a marker, or with a marker that does not
fit its space (skipped); verdicts in other words; who asks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.design_space import Configuration, DesignSpace, configurations_in
from harness.types import Status

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_FENCE_START = re.compile(r"```([A-Za-z0-9+#-]*)")
_FENCE_END = re.compile(r"^[ \t]*```[ \t]*$", re.MULTILINE)
_VERDICT = re.compile(
    r"^[ \t>*-]*("
    + "|".join(s.value for s in Status if s is not Status.INFRA_ERROR)
    + r")\b(?:[*]*: score (\d+(?:\.\d+)?(?:[eE][+-]?\d+)?))?",
    re.MULTILINE,
)
_LISTED_IN_HEADING = re.compile(rf"\(Score: ({_NUMBER})[,)]")
_LISTED_BELOW = re.compile(rf"\bCombined score to maximize: ({_NUMBER})")
_LISTED_ABOVE_ALL = re.compile(rf"^- Fitness: ({_NUMBER})[ \t]*$", re.MULTILINE)
_TIMES_100 = re.compile(r"\bscore\s+times\s+100\b", re.IGNORECASE)
_CALLED_INCORRECT = re.compile(r"\bprogram is (?:marked as )?[*]*incorrect\b", re.IGNORECASE)
_CURRENT = re.compile(
    r"\bcurrent (?:best )?program\b|\bfailed validation and needs to be fixed\b", re.IGNORECASE
)
_EVOLVE_LINE = re.compile(r"^[^\w\n]*EVOLVE-BLOCK-(?:START|END)\b[^\n]*$", re.MULTILINE)
_HEADING_CHARACTERS = 2_000  # above a program, in which its heading is looked for


@dataclass(frozen=True)
class ShownProgram:
    """One program of the prompt.

    text: as it is shown, without blank lines at its end. faithful: it is what its design renders
    to; otherwise somebody changed it, a mistake included. status: its verdict, None where the
    prompt has none. failed: by its verdict, or by other words where it has none. score: of a
    program that did not fail. listed: the score is from a list, which may be rounded, and not from
    a verdict. heading: the last non-blank line before its code block. fence: the tag of the block.
    evolve_lines: the marker lines around it, as they are shown; empty where there are none.
    """

    configuration: Configuration = field(hash=False)
    text: str
    faithful: bool
    status: Status | None
    failed: bool
    score: float | None
    listed: bool
    heading: str
    fence: str
    evolve_lines: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class ShownPrograms:
    """The programs of one design space, at least one, in the order of the prompt."""

    space: DesignSpace
    programs: tuple[ShownProgram, ...]
    current: ShownProgram


@dataclass(frozen=True)
class _Place:
    """Where a program and the text about it stand. end: where the next program begins."""

    start: int
    end: int
    space: DesignSpace
    configuration: Configuration


@dataclass(frozen=True)
class _Outcome:
    """The fields of the same names of a shown program."""

    status: Status | None
    failed: bool
    score: float | None
    listed: bool


def read_programs(text: str, spaces: Mapping[str, DesignSpace]) -> ShownPrograms | None:
    """The programs in a prompt, or None if it shows none of a known space.

    spaces: by their own name. If programs of several spaces are shown, those of the current
    program's space count.
    """
    marked = [
        (offset, spaces[name], {p.name: configuration[p.name] for p in spaces[name].parameters})
        for offset, name, configuration in configurations_in(text)
        if name in spaces and _fits(spaces[name], configuration)
    ]
    if not marked:
        return None
    ends = [offset for offset, _, _ in marked[1:]] + [len(text)]
    places = [
        _Place(start, end, space, configuration)
        for (start, space, configuration), end in zip(marked, ends, strict=True)
    ]
    called = [i for i, place in enumerate(places) if _CURRENT.search(_heading(text, place.start))]
    current = called[-1] if called else len(places) - 1
    space = places[current].space
    above_all = text[: places[0].start]
    shown = {
        i: _program(text, place, above_all if i == current else "")
        for i, place in enumerate(places)
        if place.space is space
    }
    return ShownPrograms(space, tuple(shown.values()), shown[current])


def without_evolve_lines(program: str) -> str:
    """The program without the lines that say where it may be changed."""
    return "\n".join(line for line in program.splitlines() if not _EVOLVE_LINE.match(line))


def same_text(one: str, other: str) -> bool:
    """Equal but for blank lines around them and white space at the ends of lines."""

    def lines(text: str) -> list[str]:
        return [line.rstrip() for line in text.strip().splitlines()]

    return lines(one) == lines(other)


def _fits(space: DesignSpace, configuration: Configuration) -> bool:
    return sorted(configuration) == sorted(p.name for p in space.parameters) and all(
        any(c.value == configuration[p.name] for c in p.choices) for p in space.parameters
    )


def _program(text: str, place: _Place, above_all: str) -> ShownProgram:
    """above_all: the text before the first program, where this is the current one."""
    closing = _FENCE_END.search(text, place.start, place.end)
    source = text[place.start : closing.start() if closing else place.end]
    evolve_end = _EVOLVE_LINE.search(source)
    if evolve_end:
        source = source[: evolve_end.start()]
    heading = _heading(text, place.start)
    below = text[closing.end() if closing else place.start : place.end]
    outcome = _outcome(heading, below, above_all, scaled=bool(_TIMES_100.search(text)))
    fence, evolve_start = _opening(text, place.start)
    return ShownProgram(
        configuration=place.configuration,
        text=source.rstrip(),
        faithful=same_text(source, place.space.render(place.configuration)),
        status=outcome.status,
        failed=outcome.failed,
        score=outcome.score,
        listed=outcome.listed,
        heading=heading,
        fence=fence,
        evolve_lines=(
            (evolve_start, evolve_end.group().rstrip()) if evolve_start and evolve_end else ("", "")
        ),
    )


def _outcome(heading: str, below: str, above_all: str, *, scaled: bool) -> _Outcome:
    """What the text around a program says of it; a verdict goes before a list."""
    verdict = _VERDICT.search(below) or _VERDICT.search(above_all)
    listed = (
        _LISTED_IN_HEADING.search(heading)
        or _LISTED_BELOW.search(below)
        or _LISTED_ABOVE_ALL.search(above_all)
    )
    number = float(listed.group(1)) if listed else None
    if verdict is None:
        status = None
        failed = bool(_CALLED_INCORRECT.search(below)) or (number is not None and number <= 0)
    else:
        status = Status(verdict.group(1))
        failed = status is not Status.PASSED
    if failed:
        return _Outcome(status, True, None, False)
    exact = _usable(float(verdict.group(2))) if verdict and verdict.group(2) else None
    if exact is not None:
        return _Outcome(status, False, exact, False)
    score = _usable(number / 100 if scaled else number) if number is not None else None
    return _Outcome(status, False, score, score is not None)


def _usable(score: float) -> float | None:
    return score if math.isfinite(score) and score > 0 else None


def _lines_above(text: str, start: int) -> list[str]:
    """The non-blank lines above an offset, the nearest first."""
    above = text[max(0, start - _HEADING_CHARACTERS) : start].splitlines()
    return [line for line in reversed(above) if line.strip()]


def _heading(text: str, start: int) -> str:
    return next(
        (
            line.strip()
            for line in _lines_above(text, start)
            if not line.startswith("```") and not _EVOLVE_LINE.match(line)
        ),
        "",
    )


def _opening(text: str, start: int) -> tuple[str, str]:
    """The tag of the code block that a program opens, and the EVOLVE-BLOCK line above the program;
    empty where something else stands there."""
    evolve_start = ""
    for line in _lines_above(text, start):
        if not _EVOLVE_LINE.match(line):
            opening = _FENCE_START.match(line)
            return (opening.group(1) if opening else "", evolve_start)
        evolve_start = line.rstrip()
    return "", evolve_start

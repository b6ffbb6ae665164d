"""The difference between two programs as SEARCH/REPLACE blocks.

    <<<<<<< SEARCH
    lines as they stand in the shown program
    =======
    lines of the new program
    >>>>>>> REPLACE

Covered: the blocks are in the order of the program, do not overlap, and give exactly the new
program when each of them, in order, replaces the one place where its SEARCH text occurs. They obey
what is known of the parsers that read them: a SEARCH text is found as a piece of the whole text, so
it occurs nowhere else, not even inside a longer line and not in what earlier blocks wrote; no side
is empty (an empty SEARCH appends, an empty REPLACE is not recognised); no side begins or ends with
a blank line (they drop it). Equal programs give one block that replaces the first line by itself.

Not covered: programs that hold the lines of the notation themselves.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """One replacement of whole lines."""

    search: str
    replace: str

    def __str__(self) -> str:
        return f"<<<<<<< SEARCH\n{self.search}\n=======\n{self.replace}\n>>>>>>> REPLACE"


@dataclass(frozen=True)
class _Span:
    """Lines [start, end) of the old program that become lines [new_start, new_end) of the new one.

    What lies between two spans is equal in both programs.
    """

    start: int
    end: int
    new_start: int
    new_end: int

    def grown(self, up: int, down: int) -> _Span:
        return _Span(self.start - up, self.end + down, self.new_start - up, self.new_end + down)

    def joined(self, later: _Span) -> _Span:
        return _Span(self.start, later.end, self.new_start, later.new_end)


def blocks_between(shown: str, wanted: str) -> list[Block]:
    """Blocks that turn the shown program into the wanted one; both begin with a non-blank line, and
    blank lines at their ends do not count."""
    old, new = shown.rstrip().split("\n"), wanted.rstrip().split("\n")
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    spans = [_Span(*numbers) for tag, *numbers in matcher.get_opcodes() if tag != "equal"]
    spans = spans or [_Span(0, 1, 0, 1)]
    number = 0
    while number < len(spans):
        up, down = _lacking(spans[number], old, new)
        if up or down:
            spans[number] = spans[number].grown(up, down)
            spans = _merged(spans)
            number = 0  # a block that grew may have changed what an earlier or later one must avoid
        else:
            number += 1
    return [
        Block("\n".join(old[s.start : s.end]), "\n".join(new[s.new_start : s.new_end]))
        for s in spans
    ]


def _lacking(span: _Span, old: Sequence[str], new: Sequence[str]) -> tuple[int, int]:
    """How many lines above and below the span still needs: 0 or 1 of each."""
    search, replace = old[span.start : span.end], new[span.new_start : span.new_end]
    if search and replace:
        up = not (search[0].strip() and replace[0].strip())
        down = not (search[-1].strip() and replace[-1].strip())
        if not (up or down):
            up = down = not _only_there(span, old, new)
    else:
        up, down = span.start > 0, span.start == 0
    return int(up and span.start > 0), int(down and span.end < len(old))


def _only_there(span: _Span, old: Sequence[str], new: Sequence[str]) -> bool:
    """Does the search text occur once in the text as it is when this block's turn comes?

    White space at the ends of lines is left out: one parser removes it, the other one ignores it.
    """
    before = "".join(f"{line.rstrip()}\n" for line in new[: span.new_start])
    left = [line.rstrip() for line in old[span.start :]]
    text = before + "\n".join(left)
    search = "\n".join(left[: span.end - span.start])
    return text.find(search) == len(before) and text.find(search, len(before) + 1) < 0


def _merged(spans: Sequence[_Span]) -> list[_Span]:
    """Spans that touch or overlap become one."""
    merged: list[_Span] = []
    for span in spans:
        if merged and span.start <= merged[-1].end:
            merged[-1] = merged[-1].joined(span)
        else:
            merged.append(span)
    return merged

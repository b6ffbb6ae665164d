"""Answers of the simulated model from which nothing can be used: its mistakes of form.

Covered: one kind of unusable answer for each form that is asked for: a complete program, blocks of
a diff, JSON, a numbered list. Not covered: mistakes inside a program (simulated_faults.py); how
often they happen (simulated_knobs.py).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from harness.llm.client import FinishReason
from harness.llm.simulated_diff import Block

ONLY_PROSE = (
    "The kernel is limited by memory traffic. I would restructure the loops so that the "
    "innermost one walks along a row, and keep partial sums in registers. Tell me which "
    "compiler flags you use and I can write it out."
)


@dataclass(frozen=True)
class Answer:
    """What the model says, and why it stopped."""

    text: str
    finish_reason: FinishReason = "stop"


def without_program(program: str, fence: str, rng: random.Random) -> Answer:
    """An answer to "a complete program in one fenced block" that does not hold one."""
    kind = rng.randrange(4)
    if kind == 0:
        return Answer(ONLY_PROSE)
    if kind == 1:
        cut = program[: len(program) * rng.randrange(30, 90) // 100]
        return Answer(f"Here is the faster program.\n\n```{fence}\n{cut}", "length")
    if kind == 2:
        lines = program.splitlines()
        head = "\n".join(lines[: max(1, len(lines) // 3)])
        return Answer(
            "First part:\n\n"
            f"```{fence}\n{head}\n```\n\nand the changed loop:\n\n"
            f"```{fence}\n    ... the rest as before ...\n```\n"
        )
    diff = "\n".join(f"+ {line}" for line in program.splitlines())
    return Answer(f"The change as a diff:\n\n```diff\n{diff}\n```\n")


def without_blocks(
    blocks: Sequence[Block], shown: str, program: str, fence: str, rng: random.Random
) -> Answer:
    """An answer to "SEARCH/REPLACE blocks" of which none can be applied."""
    kind = rng.randrange(4)
    if kind == 0:
        return Answer(ONLY_PROSE)
    first = blocks[0]
    if kind == 1:  # only this one, since a complete block before it would be applied
        cut = first.replace[: len(first.replace) * rng.randrange(30, 90) // 100]
        return Answer(f"<<<<<<< SEARCH\n{first.search}\n=======\n{cut}", "length")
    if kind == 2:
        line, newline, rest = first.search.partition("\n")
        while line in shown:
            line += "  // as before"
        return Answer(f"{Block(line + newline + rest, first.replace)}\n")
    return Answer(f"It is simpler to show the result:\n\n```{fence}\n{program}\n```\n")


def broken_json(text: str, rng: random.Random) -> Answer:
    """A world-model answer that no strict parser accepts."""
    kind = rng.randrange(3)
    if kind == 0:
        return Answer(text[: len(text) * rng.randrange(20, 80) // 100], "length")
    if kind == 1:
        return Answer(
            "I would keep the tree as it is, raise the priority of what worked, and try a "
            "different loop structure next."
        )
    return Answer(text.replace('"', "'"))

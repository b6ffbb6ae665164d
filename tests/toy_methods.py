"""Methods that misbehave, for the tests of the grid's boundaries."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from harness.method import Method, Problem, Search
from harness.types import Candidate


@dataclass(frozen=True)
class Options:
    """steps: proposals before it misbehaves."""

    steps: int = 1


def raising_search(problem: Problem) -> Search:
    for step in range(problem.options.steps):
        yield Candidate("cpp", f"// program {step}")
    raise ZeroDivisionError("the method has a defect")


def exiting_search(problem: Problem) -> Search:
    yield Candidate("cpp", "// program")
    sys.exit(3)


raising = Method("raising", "Raises", raising_search, Options, "toy_methods")
exiting = Method("exiting", "Exits", exiting_search, Options, "toy_methods")

"""Methods that misbehave, for the tests of the grid's boundaries."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import EnvironmentMissing
from harness.method import Method, Problem, Search
from harness.types import Candidate, JsonObject


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


def one_search(problem: Problem) -> Search:
    yield Candidate("cpp", "// program")


class _Absent:
    """Something that cannot be made here."""

    name, ready = "absent-1.0", False
    deviations: list[JsonObject] = []

    def make(self, say: Callable[[str], None], stop: threading.Event) -> None:
        raise EnvironmentMissing("The environment of absent-1.0 could not be made.")


unprepared = Method("unprepared", "Unprepared", one_search, Options, "toy_methods", needs=_Absent())
replicated = Method(
    "replicated", "Replicated", one_search, Options, "toy_methods",
    replicates=lambda options: "its threads race" if options.steps > 1 else None,
)  # fmt: skip

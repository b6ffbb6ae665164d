"""A toy evaluator for the tests of the grid: no build, no clock, a score from the program's hash.

Covered: the whole protocol, failures in search and in confirmation, a count of what was asked.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.config import Resolved
from harness.errors import InfraError
from harness.suite import load_suite
from harness.types import (
    Candidate,
    Confirmation,
    Evaluation,
    Failed,
    Finalist,
    JsonObject,
    Language,
    Measurement,
    Passed,
    Phase,
    Stage,
    Status,
)

WRONG = Failed(Status.INCORRECT_NUMERICAL, Stage.CORRECTNESS, "tolerance", "wrong", "small")


def score_of(candidate: Candidate) -> float:
    """0.5 to 2.5 by the program's hash."""
    return 0.5 + int(candidate.id[:4], 16) / 2**15


def passed(candidate: Candidate) -> Passed:
    score = score_of(candidate)
    rows = tuple(
        Measurement(name, 10 / score, 10.0, score, score * 0.99, score * 1.01, 0.1, 3)
        for name in ("small", "large")
    )
    return Passed(rows, score * 0.99, score * 1.01)


@dataclass
class ToyEvaluator:
    """fails: programs (ids) that are wrong in search. fails_in_confirmation: only there. broken:
    its own side fails. on_evaluate: called before each evaluation."""

    suite: str = "cpu"
    fails: Collection[str] = ()
    fails_in_confirmation: Collection[str] = ()
    broken: bool = False
    on_evaluate: Callable[[], None] = lambda: None
    evaluated: list[str] = field(default_factory=list)
    sessions: list[list[str]] = field(default_factory=list)
    closed: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def evaluate(self, task: str, candidate: Candidate) -> Evaluation:
        self.on_evaluate()
        if self.broken:
            raise InfraError("the toy is broken")
        with self.lock:
            self.evaluated.append(candidate.id)
        outcome = WRONG if candidate.id in self.fails else passed(candidate)
        return Evaluation(candidate.id, Phase.SEARCH, outcome, f"{outcome.status}: toy", 0.1, 0.2)

    def confirm(self, task: str, candidates: Sequence[Candidate]) -> Confirmation:
        self.sessions.append([candidate.id for candidate in candidates])
        finalists = []
        for candidate in candidates:
            if candidate.id in self.fails_in_confirmation:
                finalists.append(Finalist(candidate.id, WRONG, None))
                continue
            blocks = (math.log(score_of(candidate)),) * 3
            finalists.append(
                Finalist(candidate.id, passed(candidate), Status.PASSED, block_log_speedups=blocks)
            )
        return Confirmation(task, "torch", tuple(finalists), 3, 1.0, False)

    def header(self, task: str, language: Language) -> str:
        return f"// interface of {load_suite(self.suite).task(task).name} in {language}"

    def describe(self) -> JsonObject:
        baselines = {task.name: task.baselines[0].identity for task in load_suite(self.suite).tasks}
        return {
            "level": "live",
            "device": "toy",
            "isolation": {"way": "none"},
            "settings": {},
            "baselines": baselines,
        }

    def close(self) -> None:
        self.closed = True


def maker(evaluator: ToyEvaluator) -> Callable[[Resolved, Path], ToyEvaluator]:
    """A make_evaluator that returns this one."""
    return lambda resolved, folder: evaluator

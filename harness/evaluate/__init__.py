"""The evaluator seam: one protocol; local (this machine) and, later, Modal behind it.

No method, suite or report contains timing or checking code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from harness.types import Candidate, Confirmation, Evaluation, JsonObject, Language

EVALUATOR_PROTOCOL = 5  # part of every cache key; bump when a verdict or a time could change


class Evaluator(Protocol):
    """Builds, checks and times candidates. Thread-safe; equal requests in flight share one
    evaluation.

    Raises InfraError when its own side fails after retries; a candidate's failure is a result.
    """

    def evaluate(self, task: str, candidate: Candidate) -> Evaluation:
        """Evaluate on the task's search workloads (phase "search")."""
        ...

    def confirm(self, task: str, candidates: Sequence[Candidate]) -> Confirmation:
        """Time the candidates together: fresh processes, fresh seeds, all final workloads,
        randomised blocks, interleaved with the baseline; then check the held-out workloads.

        Where some are wrong on the final workloads, the answer may be those alone, in 0 blocks: ask
        again without them."""
        ...

    def header(self, task: str, language: Language) -> str:
        """The interface text that a candidate is written against (for C++ the generated header)."""
        ...

    def describe(self) -> JsonObject:
        """For the manifest: level, isolation in force, machine fingerprint, settings, peaks, and
        `baselines`: of each task what it judges against (`Baseline.identity`). A judge on another
        machine also has `machine`, `packages` and the tasks' `notes` of that one."""
        ...

    def close(self) -> None:
        """End every process of this evaluator."""
        ...

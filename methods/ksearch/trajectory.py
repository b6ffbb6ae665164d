"""What one cycle did: its attempts in order, its best program, and when it last got better.

Frozen and append-only: `extended` returns a longer cycle. Not covered: what to do next
(refinement.py) and how it is put in words (prompts.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from harness.types import Candidate, Evaluation
from methods.ksearch.world_model import Node, Program

Step = Literal["first", "debug", "improve"]


@dataclass(frozen=True)
class Attempt:
    """One charge of a cycle. candidate: None where the reply held no program."""

    step: Step
    candidate: Candidate | None
    evaluation: Evaluation


@dataclass(frozen=True)
class Cycle:
    """The attempts at one action. parent: the program that the action changes.

    best: the attempt with the highest score, None before the first pass.
    evaluations_since_improvement: attempts since `best` last changed, or in all.
    """

    node: Node
    parent: Program
    attempts: tuple[Attempt, ...] = ()
    best: Program | None = None
    evaluations_since_improvement: int = 0

    def extended(self, attempt: Attempt) -> Cycle:
        """The cycle with one more attempt."""
        score = attempt.evaluation.score
        best_score = self.best.score if self.best else None
        if (
            attempt.candidate is not None
            and score is not None
            and (best_score is None or score > best_score)
        ):
            best = Program(attempt.candidate, attempt.evaluation)
            return replace(
                self,
                attempts=(*self.attempts, attempt),
                best=best,
                evaluations_since_improvement=0,
            )
        return replace(
            self,
            attempts=(*self.attempts, attempt),
            evaluations_since_improvement=self.evaluations_since_improvement + 1,
        )

    @property
    def last_program(self) -> Program | None:
        """The latest attempt that held a program."""
        for attempt in reversed(self.attempts):
            if attempt.candidate is not None:
                return Program(attempt.candidate, attempt.evaluation)
        return None

    @property
    def best_score(self) -> float | None:
        """Score of the cycle's best program, None without a pass."""
        return self.best.score if self.best else None

    @property
    def improved(self) -> bool:
        """Whether the cycle ended above its parent's program."""
        return self.best_score is not None and self.best_score > (self.parent.score or 0.0)

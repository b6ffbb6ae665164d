"""Where a running run is: what the loop reports and the display shows.

Covered: the record. Not covered: how a run stands according to its log (summary.py), drawing
(live.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.budget import Budget
from harness.types import Status, Usage


@dataclass(frozen=True)
class Progress:
    """Where a run is. best_score: the start's score until something beats it. failures: charges
    that ended without a score. phase: "replaying", "searching", "asking the model", "evaluating"
    or how the run ended."""

    arm: str
    task: str
    seed: int
    charges: int
    budget: Budget
    best_score: float | None
    last_status: Status | None
    failures: int
    usage: Usage
    seconds: float
    phase: str

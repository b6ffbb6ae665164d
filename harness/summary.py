"""How a run stands, from its log alone: the same record for a run that just ended and for a run
that was read back.

Covered: end and reason, charges, calls, tokens, dollars, seconds, the best program so far. Not
covered: confirmation (harness/confirm.py); anything over more than one run (reports/).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.metered import recorded_usage
from harness.runlog import read_events, read_text
from harness.types import Candidate, JsonObject, Usage


@dataclass(frozen=True)
class RunSummary:
    """One run.

    status: "finished" (a limit, or the method, ended it), "failed" (the method broke the protocol:
    final) or "paused" (harness resume goes on). reason: in words. best_score, best: the highest
    search score and its program, the start included; None if nothing passed. best_charge: 0 means
    that nothing beat the start. failures: charges without a score. seconds: recorded ones
    (harness/budget.py).
    """

    status: Literal["finished", "paused", "failed"]
    reason: str
    charges: int
    failures: int
    llm_calls: int
    best_score: float | None
    best_charge: int | None
    best: Candidate | None
    usage: Usage
    seconds: float


def read_summary(folder: Path) -> RunSummary:
    """The summary of a run's folder; takes no lock. Raises LogError."""
    return summarise(folder, read_events(folder))


def summarise(folder: Path, events: Iterable[JsonObject]) -> RunSummary:
    """The summary of a run's events. `folder` holds the blob of the best program."""
    usage, llm_seconds, evaluation_seconds = Usage(), 0.0, 0.0
    charges = failures = llm_calls = 0
    best: JsonObject | None = None
    status: Literal["finished", "paused", "failed"] = "paused"
    reason = "interrupted"
    for event in events:
        kind = event["kind"]
        if kind == "llm_intent":
            llm_calls = event["call"]
        elif kind == "llm":
            usage += recorded_usage(event)
            llm_seconds += event["seconds"]
        elif kind == "evaluation":
            charges, evaluation_seconds = event["charge"], event["evaluation_seconds"]
            score = event["score"]
            failures += score is None
            if score is not None and (best is None or score > best["score"]):
                best = event
        elif kind == "paused":
            reason = event["reason"]
        elif kind == "attempt":
            reason = "interrupted"
        elif kind == "finished":
            reason = event["reason"]
            status = "failed" if reason.startswith("failed:") else "finished"
    return RunSummary(
        status=status,
        reason=reason,
        charges=charges,
        failures=failures,
        llm_calls=llm_calls,
        best_score=best["score"] if best else None,
        best_charge=best["charge"] if best else None,
        best=_program(folder, best) if best else None,
        usage=usage,
        seconds=llm_seconds + evaluation_seconds,
    )


def _program(folder: Path, event: JsonObject) -> Candidate:
    source = read_text(folder, event["source"])
    return Candidate(event["language"], source, event["parent"], event["note"])

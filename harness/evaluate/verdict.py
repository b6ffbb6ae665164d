"""From calls to what a judge says: rows of measurements, failures, verdicts.

Covered: the records and the arithmetic that search, confirmation and inspection share.
Not covered: what is checked (verification.py), and when (judge.py, confirmation.py, inspection.py).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from harness.evaluate.program import Call, CandidateFailure, Clocks
from harness.types import Failed, Passed, Stage, Status

# What a disturbed machine, or a worker's bad place on it, can look like.
_DISPUTED = (
    "two_clocks", "side_stream", "ran_while_held", "ran_while_stopped", "does_not_stop",
    "beside_the_baseline",
)  # fmt: skip

Samples = dict[str, tuple[tuple[float, ...], tuple[float, ...]]]


@dataclass(frozen=True)
class Verdict:
    """An outcome with its raw samples (candidate, baseline; microseconds) and its device time, of
    which `timing_seconds` went into timing (waiting for the machine included) and
    `compiling_seconds` into kernels that nobody had compiled ahead."""

    outcome: Passed | Failed
    device_seconds: float
    timing_seconds: float = 0.0
    compiling_seconds: float = 0.0
    samples_us: Samples = field(default_factory=dict)


def no_room(error: BaseException) -> CandidateFailure:
    """The judge found no room on the device: it was there before the program was loaded."""
    return CandidateFailure(
        Status.RUNTIME_ERROR,
        "device_memory",
        "the device's memory ran out while the program was loaded",
        {"error": str(error)[:200]},
    )


def wants_a_compiler(outcome: Passed | Failed) -> bool:
    """Whether a program that was compiled ahead still started one, and was ended for it."""
    return isinstance(outcome, Failed) and outcome.check == "forbidden_call"


def is_disputed(found: Passed | Failed | CandidateFailure) -> bool:
    """Whether only what a disturbed machine can look like speaks against a program."""
    return not isinstance(found, Passed) and found.check in _DISPUTED


def anew(message: str) -> str:
    """The flag of a program that passed at the second look."""
    return f"evaluated anew: {message}"


def after_disputes(verdict: Verdict, disputes: Sequence[Verdict]) -> Verdict:
    """The last verdict, after others that were disputed: what they took counts, and rows of a
    program that passes say so."""
    if not disputes:
        return verdict
    outcome = verdict.outcome
    if isinstance(outcome, Passed):
        failures = [earlier.outcome for earlier in disputes if isinstance(earlier.outcome, Failed)]
        rows = []
        for row in outcome.measurements:
            told = [f.message for f in failures if f.workload in (row.workload, None)]
            flags = (*row.flags, *map(anew, told))
            rows.append(replace(row, flags=flags))
        outcome = replace(outcome, measurements=tuple(rows))
    all_of_them = (*disputes, verdict)
    return replace(
        verdict,
        outcome=outcome,
        device_seconds=sum(v.device_seconds for v in all_of_them),
        timing_seconds=sum(v.timing_seconds for v in all_of_them),
    )


def latencies_us(calls: Sequence[Clocks]) -> list[float]:
    """By the clock that the score is taken from."""
    return [call.latency_ns / 1e3 for call in calls]


def fastest_ns(calls: Sequence[Call]) -> int:
    """The least latency of these calls."""
    return min(call.clocks.latency_ns for call in calls)


def slow_flag(
    calls: Sequence[Clocks], baseline: Sequence[Clocks], slow_ns: Callable[[float], float]
) -> str | None:
    """What is said of these few calls if each is slow beside the baseline's on the same inputs;
    None if one is not: then the program was slow only to be looked at less, or the baseline was
    slowed. slow_ns: what a call must be longer than, by the baseline's (median) latency."""
    usual = statistics.median(call.latency_ns for call in baseline)
    if min(call.latency_ns for call in calls) <= slow_ns(usual):
        return None
    return f"{len(calls)} samples: slower than {slow_ns(usual) / usual:.3g} x baseline"


def plan_us(calls: Sequence[Clocks]) -> float | None:
    """The median time of the plan before these calls; None where there was none."""
    plans = [call.plan_ns / 1e3 for call in calls if call.plan_ns is not None]
    return statistics.median(plans) if plans else None


def failed(failure: CandidateFailure, stage: Stage, workload: str | None) -> Failed:
    """The outcome of a failure at a stage."""
    return Failed(failure.status, stage, failure.check, failure.message, workload, failure.evidence)

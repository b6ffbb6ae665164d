"""What is held against a call's outputs; each check raises CandidateFailure.

Covered: outputs against the reference (drawn calls, in full) and against the baseline (every timed
call). Not covered: times (clocks.py); what `side.py` sees by itself: late writes, changed inputs,
writes out of bounds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.evaluate.bench import Bench
from harness.evaluate.program import Call, CandidateFailure
from harness.suite import Task
from harness.types import Status, Workload


def check_block(
    bench: Bench,
    workload: Workload,
    calls: Sequence[Call],
    baseline: Sequence[Call],
    rng: np.random.Generator,
    *,
    in_full: bool = True,
) -> None:
    """Hold every call of a block against the baseline's; then draw one and verify it in full."""
    check_near(bench, calls, baseline)
    if in_full:
        check_call(bench, workload, calls[int(rng.integers(len(calls)))])


def check_near(bench: Bench, calls: Sequence[Call], baseline: Sequence[Call]) -> None:
    """Hold every call of a block against the baseline's on the same inputs."""
    for call, other in zip(calls, baseline, strict=True):
        name = bench.differs(call, other)
        if name is not None:
            raise CandidateFailure(
                Status.INCORRECT_NUMERICAL,
                "differs_from_baseline",
                f"output {name} of a timed call is not what the baseline computes",
                {"output": name},
            )


def check_call(bench: Bench, workload: Workload, call: Call) -> None:
    """Compare one call's outputs with the reference, in full."""
    mismatch = bench.mismatch(workload, call)
    if mismatch is not None:
        raise CandidateFailure(
            Status.INCORRECT_NUMERICAL, "tolerance", mismatch.message, mismatch.evidence
        )


def smallest(task: Task, workloads: Sequence[Workload]) -> Workload:
    """The workload with the fewest input bytes."""
    return min(workloads, key=lambda w: sum(t.bytes(w.axes) for t in task.signature.inputs))

"""What is held against a call, a block or a candidate; each check raises CandidateFailure.

Covered: outputs against the reference (drawn calls, in full) and against the baseline (every timed
call), near-duplicate inputs, the two clocks, the roofline floor, loaded libraries.
Not covered: what `side.py` sees by itself: late writes, changed inputs, writes out of bounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.evaluate.check import compare, near
from harness.evaluate.libraries import foreign_libraries
from harness.evaluate.settings import EvaluatorSettings
from harness.evaluate.side import Call, CandidateFailure, Side
from harness.suite import Arrays, Signature, Task
from harness.types import Status, Workload


def near_duplicate(signature: Signature, inputs: Arrays, rng: np.random.Generator) -> Arrays:
    """A copy with one element of every floating-point tensor changed: what a cache keyed on a
    sample or a checksum of the contents takes for the same."""
    copy = {name: array.copy() for name, array in inputs.items()}
    for tensor in signature.inputs:
        array = copy[tensor.name].reshape(-1)
        if not tensor.index and np.issubdtype(array.dtype, np.floating) and array.size:
            position = int(rng.integers(array.size))
            value = array[position]
            array[position] = 1 - value if np.isfinite(value) else 1
    return copy


def check_call(task: Task, workload: Workload, call: Call) -> None:
    """Compare one call's outputs with the reference, in full."""
    expected = task.reference(workload, call.inputs)
    for tensor in task.signature.outputs:
        name = tensor.name
        mismatch = compare(name, call.outputs[name], expected[name], task.tolerances[name])
        if mismatch is not None:
            raise CandidateFailure(
                Status.INCORRECT_NUMERICAL, "tolerance", mismatch.message, mismatch.evidence
            )


def check_block(
    task: Task,
    workload: Workload,
    calls: Sequence[Call],
    baseline: Sequence[Call],
    rng: np.random.Generator,
) -> None:
    """Hold every call of a block against the baseline's on the same inputs; then draw one and
    verify it in full."""
    for call, other in zip(calls, baseline, strict=True):
        for tensor in task.signature.outputs:
            name = tensor.name
            if not near(call.outputs[name], other.outputs[name], task.tolerances[name]):
                raise CandidateFailure(
                    Status.INCORRECT_NUMERICAL,
                    "differs_from_baseline",
                    f"output {name} of a timed call is not what the baseline computes",
                    {"output": name},
                )
    check_call(task, workload, calls[int(rng.integers(len(calls)))])


@dataclass(frozen=True)
class Clocks:
    """One call by both clocks, in nanoseconds: the judge's and the worker's."""

    wall_ns: int
    worker_ns: int


def check_clocks(
    candidate: Sequence[Clocks], baseline: Sequence[Clocks], settings: EvaluatorSettings
) -> None:
    """The two clocks: what the judge's clock shows for a call, and what the worker's does.

    Rejects a worker that tells more than passed in some call, or little in every one of calls that
    are all longer than what the baseline shows as the resolution of this test. A delayed wake-up on
    a busy machine looks like the latter, but not in every call of an evaluation.
    """
    too_much = max(call.worker_ns - call.wall_ns for call in candidate) / 1e3
    resolution = statistics.median(call.wall_ns - call.worker_ns for call in baseline) / 1e3
    measurable = settings.clock_slack_us + 3 * max(0.0, resolution)
    share = max(call.worker_ns / call.wall_ns for call in candidate)
    short = min(call.wall_ns for call in candidate) / 1e3 <= measurable
    if too_much <= 1.0 and (short or share >= settings.clock_share):
        return
    if too_much > 1.0:
        what = f"tells up to {too_much:.1f} us more than passed"
    else:
        what = f"tells at most {100 * share:.1f} % of the time that passed in each call"
    raise CandidateFailure(
        Status.REJECTED,
        "two_clocks",
        f"the worker's clock {what}, by the judge's clock",
        {"more_us": too_much, "share": share, "resolution_us": resolution},
    )


def check_floor(
    latency_us: float, floor: float, flags: list[str], settings: EvaluatorSettings
) -> None:
    """Reject a time (microseconds) that the device cannot reach; flag one that is close to it."""
    if latency_us < settings.floor_margin * floor:
        raise CandidateFailure(
            Status.REJECTED,
            "floor",
            f"{latency_us:.1f} us is below the roofline floor of {floor:.1f} us",
            {"latency_us": latency_us, "floor_us": floor},
        )
    if latency_us < settings.floor_flag * floor:
        flags.append(f"below {settings.floor_flag:g} x floor")


def check_libraries(task: Task, side: Side, parent_pid: int) -> None:
    """Reject a candidate that loaded a library where the task forbids them."""
    if task.libraries == "allowed":
        return
    foreign = foreign_libraries(side.pid, parent_pid)
    if foreign:
        names = ", ".join(foreign)
        raise CandidateFailure(
            Status.REJECTED,
            "library",
            f"the task forbids libraries; loaded: {names}",
            {"libraries": names},
        )

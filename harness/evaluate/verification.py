"""What is held against a call, a block or a candidate; each check raises CandidateFailure.

Covered: outputs against the reference (drawn calls, in full) and against the baseline (every timed
call), near-duplicate inputs, the two clocks, the roofline floor, loaded libraries.
Not covered: what `side.py` sees by itself: late writes, changed inputs, writes out of bounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

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


def check_clocks(
    candidate_us: Sequence[float], baseline_us: Sequence[float], settings: EvaluatorSettings
) -> None:
    """The two clocks: judge's time minus worker's time, per call, in microseconds. Rejects a worker
    that tells less than it took (or more than passed) by more than the baseline shows as the
    resolution of this test."""
    overhead, resolution = statistics.median(candidate_us), statistics.median(baseline_us)
    allowed = settings.clock_slack_us + 3 * max(0.0, resolution)
    if not -1.0 <= overhead <= allowed:
        raise CandidateFailure(
            Status.REJECTED,
            "two_clocks",
            f"the worker's clock differs from the judge's by {overhead:.1f} us per call; up to "
            f"{allowed:.1f} us are explained by the request itself",
            {"overhead_us": overhead, "baseline_overhead_us": resolution},
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

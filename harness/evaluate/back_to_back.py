"""Calls back to back on distinct inputs, timed as one: what the two clocks are off is divided by
their number.

Covered: as many calls as fit, each verified in full; programs that cannot be timed so are told.
Not covered: which workloads of which program, and when (`Bench.settle_clocks`, confirmation.py).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.evaluate.bench import Bench
from harness.evaluate.clocks import beyond_us, told_us
from harness.evaluate.program import Batch, CandidateFailure, Clocks, Program, Timed
from harness.evaluate.settings import EvaluatorSettings
from harness.evaluate.side import Side
from harness.evaluate.verification import check_call
from harness.types import Status, Workload


@dataclass(frozen=True)
class BackToBack:
    """What calls of one workload show. text: for a reader. each_us: how long each lasts; None if
    they cannot be timed back to back."""

    text: str
    each_us: float | None = None


def check_back_to_back(
    bench: Bench,
    program: Program,
    timed: Timed,
    rng: np.random.Generator,
    *,
    most: int,
    memory_bytes: int,
) -> dict[Workload, BackToBack]:
    """In a fresh worker, of the workloads whose calls are short, or of as many drawn ones. Raises
    CandidateFailure if single calls were told too short, or an output is wrong.

    timed: single calls. memory_bytes: for the tensors of one workload's calls.
    """
    settings = bench.settings
    told = {workload: told_us(mine) for workload, (mine, _) in timed.items()}
    short = [w for w in timed if told[w] < settings.batch_longest_us]
    if len(short) > most:
        short = [short[int(n)] for n in rng.choice(len(short), most, replace=False)]
    shown: dict[Workload, BackToBack] = {}
    if not short:
        return shown
    with bench.start(program, short) as side:
        if side.has_plan:  # it knows the page table of one call at a time
            return dict.fromkeys(short, BackToBack("not timed back to back: has a plan"))
        for workload in short:
            try:
                batch = _batch(bench, side, workload, rng, memory_bytes)
                if batch is None:
                    shown[workload] = BackToBack("not timed back to back: cannot be queued")
                else:
                    theirs = timed[workload][1]
                    shown[workload] = check_batch_clocks(batch, told[workload], theirs, settings)
            except CandidateFailure as failure:
                failure.workload = workload.name
                raise
    return shown


def _batch(
    bench: Bench, side: Side, workload: Workload, rng: np.random.Generator, memory_bytes: int
) -> Batch | None:
    """A batch of calls, each verified in full; None if it cannot be queued."""
    signature = bench.task.signature
    size = sum(t.bytes(workload.axes) for t in (*signature.inputs, *signature.outputs))
    calls = max(2, min(bench.settings.batch_calls, memory_bytes // size))
    side.bind(workload, calls)
    calls = min(calls, side.slots)  # host memory has fewer
    side.run_block([bench.fresh(workload, rng) for _ in range(2)], rng)  # loads the kernels
    while calls > 1:
        batch = side.run_batch([bench.fresh(workload, rng) for _ in range(calls)])
        for call in batch.calls:
            check_call(bench, workload, call)
        if batch.clocks.queued:
            return batch
        calls //= 2  # more launches than the driver's queue holds, or it waits for its work
    return None


def check_batch_clocks(
    batch: Batch, single_us: float, baseline: Sequence[Clocks], settings: EvaluatorSettings
) -> BackToBack:
    """single_us: what a call was told to last. baseline: calls, for what the judge's clock adds.
    Raises CandidateFailure if the calls last longer than that."""
    calls = len(batch.calls)
    beyond = statistics.median(beyond_us(baseline))
    each_us = (batch.clocks.wall_ns / 1e3 - beyond) / calls
    slack_us = settings.batch_call_us + settings.gpu_clock_slack_us / calls
    if each_us > (1 + settings.batch_slack) * single_us + slack_us:
        raise CandidateFailure(
            Status.REJECTED,
            "two_clocks",
            f"{calls} calls back to back last {each_us:.1f} us each by the judge's clock; single "
            f"calls were told to last {single_us:.1f} us",
            {"calls": calls, "each_us": each_us, "single_us": single_us},
        )
    return BackToBack(f"{calls} calls back to back: {each_us:.1f} us each", each_us)

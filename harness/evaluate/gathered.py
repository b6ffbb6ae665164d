"""What is gathered while a candidate is looked at, in search and in confirmation.

Covered: calls that were verified, calls that were timed beside the baseline's, their row.
Not covered: what is checked of them (judge.py, confirmation.py).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from harness.evaluate.program import Clocks, Contents, Program
from harness.evaluate.timing import block_value, log_interval
from harness.evaluate.verdict import anew, is_disputed, latencies_us, plan_us
from harness.types import Failed, Measurement, Workload

# (finalist, workload) -> one block's contents, calls of the finalist and of the baseline on them.
Block = dict[tuple[str, str], tuple[list[Contents], list[Clocks], list[Clocks]]]


@dataclass(frozen=True)
class Verified:
    """A call that was verified in full."""

    contents: Contents
    clocks: Clocks


@dataclass
class Timing:
    """What one workload's timing gathers. contents: of the first `floor_calls` calls (on a CPU each
    takes the memory of a call's inputs)."""

    floor_calls: int
    candidate: list[Clocks] = field(default_factory=list)
    baseline: list[Clocks] = field(default_factory=list)
    blocks: list[float] = field(default_factory=list)
    contents: list[Contents] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    floor_us: float = 0.0

    def add(
        self,
        contents: Sequence[Contents],
        candidate: Sequence[Clocks],
        baseline: Sequence[Clocks],
    ) -> None:
        """One block of calls, in pairs."""
        self.contents += contents[: self.floor_calls - len(self.contents)]
        self.candidate += candidate
        self.baseline += baseline
        self.blocks.append(block_value(latencies_us(candidate), latencies_us(baseline)))

    def row(self, workload: Workload) -> Measurement:
        """The workload's row from its calls and block values."""
        ratio = log_interval(self.blocks)
        hosts = [call.worker.host_ns / 1e3 for call in self.candidate]
        return Measurement(
            workload.name,
            statistics.median(latencies_us(self.candidate)),
            statistics.median(latencies_us(self.baseline)),
            ratio.value,
            ratio.low,
            ratio.high,
            self.floor_us,
            len(self.candidate),
            plan_us(self.candidate),
            (*self.flags, *waiting(self.candidate, self.baseline)),
            statistics.median(hosts) if any(hosts) else None,
            plan_us(self.baseline),
        )


def waiting(candidate: Sequence[Clocks], baseline: Sequence[Clocks]) -> list[str]:
    """Which side's calls could not be queued on a GPU, most of them: flags of a row."""
    told = {
        "waits for the GPU within a call: its host time is in its latency": candidate,
        "the baseline waits for the GPU within a call: its host time is in the speedup": baseline,
    }
    return [text for text, calls in told.items() if 2 * sum(c.queued for c in calls) < len(calls)]


@dataclass
class Entry:
    """What a confirmation knows of one finalist. disputed: messages of failures that were not
    believed at once (verdict.py)."""

    candidate_id: str
    program: Program | None
    failure: Failed | None = None
    timed_seconds: float = 0.0
    timings: dict[Workload, Timing] = field(default_factory=dict)
    disputed: list[str] = field(default_factory=list)

    def block_scores(self) -> list[float]:
        """Per block, the mean over workloads of the log speedup."""
        blocks = [timing.blocks for timing in self.timings.values()]
        return [float(np.mean(values)) for values in zip(*blocks, strict=True)]

    def fail(self, failure: Failed, disputes: int) -> None:
        """Take the finalist out, unless the failure is disputed and may be looked at again."""
        if is_disputed(failure) and len(self.disputed) < disputes:
            self.disputed.append(failure.message)
        else:
            self.failure = failure

    def rows(self) -> tuple[Measurement, ...]:
        """The final workloads' rows."""
        told = tuple(map(anew, self.disputed))
        rows = (timing.row(workload) for workload, timing in self.timings.items())
        return tuple(replace(row, flags=(*row.flags, *told)) for row in rows)


def baselines_us(values: Block) -> dict[str, list[float]]:
    """The baseline's samples of a block by workload, microseconds."""
    samples: dict[str, list[float]] = {}
    for (_, workload), (_, _, theirs) in values.items():
        samples.setdefault(workload, []).extend(latencies_us(theirs))
    return samples

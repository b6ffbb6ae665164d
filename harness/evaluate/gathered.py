"""What is gathered while a candidate is looked at, in search and in confirmation.

Covered: calls that were verified, calls that were timed beside the baseline's, their row.
Not covered: what is checked of them (judge.py, confirmation.py).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.evaluate.program import Clocks, Contents
from harness.evaluate.timing import block_value, log_interval
from harness.evaluate.verdict import latencies_us, plan_us
from harness.types import Measurement, Workload


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
            tuple(self.flags),
            statistics.median(hosts) if any(hosts) else None,
            plan_us(self.baseline),
        )

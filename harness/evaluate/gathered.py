"""What the judge gathers while it looks at one candidate.

Covered: calls that were verified, calls that were timed beside the baseline's.
Not covered: what is made of them (judge.py, verdict.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.evaluate.program import Clocks, Contents
from harness.evaluate.timing import block_value
from harness.evaluate.verdict import latencies_us


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

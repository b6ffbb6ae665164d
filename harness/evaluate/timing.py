"""Samples into intervals. A measurement is samples, a stopping rule and warnings, never one number.

Paired blocks: a block times the candidate and the baseline (or several candidates) on the same
inputs, one after the other, in random order. A block's value is the median over its pairs of
log(baseline / candidate): robust against a single disturbed call. Blocks are treated as
independent; the interval is Student's t over block values. Where every block has fresh processes
(confirmation), what differs from process to process is inside the interval; in search it is not,
and a search score is no result.

Covered: block values, t intervals, their combination over workloads, steal time.
Not covered: comparing methods (reports/statistics.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# 97.5 % quantile of Student's t for 1 to 30 degrees of freedom (any statistics table); beyond that
# the first terms of the Cornish-Fisher expansion around the normal quantile (error < 1e-3).
_T_TABLE = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_Z = 1.959964


def t_quantile(degrees: float) -> float:
    """97.5 % quantile of Student's t. Fractional degrees of freedom are rounded down (wider)."""
    whole = max(1, math.floor(degrees))
    if whole <= len(_T_TABLE):
        return _T_TABLE[whole - 1]
    return _Z + (_Z**3 + _Z) / (4 * whole) + (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / (96 * whole**2)


@dataclass(frozen=True)
class LogInterval:
    """A mean of logs with its 95 % interval; `low`, `high` and `value` are the exponentials."""

    mean: float
    half_width: float

    @property
    def value(self) -> float:
        return math.exp(self.mean)

    @property
    def low(self) -> float:
        return math.exp(self.mean - self.half_width)

    @property
    def high(self) -> float:
        return math.exp(self.mean + self.half_width)

    def narrower_than(self, relative: float) -> bool:
        """Whether the half-width is at most `relative` (0.01 = 1 %)."""
        return self.half_width <= math.log1p(relative)


def log_interval(block_values: Sequence[float]) -> LogInterval:
    """Mean of block values and the half-width of its 95 % t interval. Needs at least two blocks."""
    values = np.asarray(block_values, dtype=np.float64)
    if values.size < 2:
        raise ValueError(f"an interval needs at least two blocks, got {values.size}")
    error = float(values.std(ddof=1)) / math.sqrt(values.size)
    return LogInterval(float(values.mean()), t_quantile(values.size - 1) * error)


def mean_over_workloads(per_workload: Sequence[Sequence[float]]) -> LogInterval:
    """The log score: the mean over workloads of each one's mean block value.

    Variances of independent means add; degrees of freedom by Welch and Satterthwaite.
    """
    means = [float(np.mean(values)) for values in per_workload]
    count = len(means)
    if any(len(values) < 2 for values in per_workload):
        raise ValueError("an interval needs at least two blocks of every workload")
    terms = [float(np.var(values, ddof=1)) / len(values) for values in per_workload]
    variance = sum(terms) / count**2
    denominator = sum(t**2 / (len(v) - 1) for t, v in zip(terms, per_workload, strict=True))
    degrees = sum(terms) ** 2 / denominator if denominator > 0 else 1e9
    return LogInterval(sum(means) / count, t_quantile(degrees) * math.sqrt(variance))


def block_value(candidate_us: Sequence[float], baseline_us: Sequence[float]) -> float:
    """Median over the pairs of a block of log(baseline / candidate)."""
    return float(np.median(np.log(np.asarray(baseline_us) / np.asarray(candidate_us))))


class StealClock:
    """The share of CPU time that the hypervisor took since the last look, from /proc/stat (ticks of
    usually 10 ms, summed over cores). 0.0 where the kernel does not tell."""

    def __init__(self) -> None:
        self._last = _ticks()

    def share(self) -> float:
        now = _ticks()
        total, steal = now[0] - self._last[0], now[1] - self._last[1]
        self._last = now
        return steal / total if total > 0 else 0.0


def _ticks() -> tuple[int, int]:
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return 0, 0
    numbers = [int(field) for field in fields[:8]]
    return sum(numbers), numbers[7] if len(numbers) > 7 else 0

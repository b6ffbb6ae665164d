"""Estimates, intervals and tests over methods. Deterministic: every generator is passed in.

The unit of analysis is (arm, task, seed) → log of the confirmed score. A *stratum* is one task:
the log scores of its seeds. Tasks are fixed, seeds are sampled: nothing here generalises to tasks
that were not run.

Covered: interquartile mean, stratified percentile bootstrap, probability of improvement,
performance profile (Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the
Statistical Precipice", the estimators of rliable); exact permutation test within tasks; t interval
on log ratios; Holm's step-down correction (Holm 1979). Not covered: tests that assume equal
variances over tasks, Bayesian estimates, optimality gaps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
Strata = Sequence[Floats]  # one array of log scores per task

BOOTSTRAP_REPETITIONS = 10_000
EXACT_LIMIT = 400_000  # sums held per half of an exact permutation test (3 MB each)
RANDOM_PERMUTATIONS = 20_000
LEVEL = 0.05


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; low and high are NaN where n allows none. n: sample size."""

    value: float
    low: float
    high: float
    n: int

    def covers(self, value: float) -> bool:
        """Whether the interval holds `value`; an absent interval holds everything."""
        return not (value < self.low or value > self.high)

    def exp(self) -> Estimate:
        """From logs to ratios."""
        return Estimate(math.exp(self.value), math.exp(self.low), math.exp(self.high), self.n)

    def inverse(self) -> Estimate:
        """Of a ratio: the same comparison the other way round."""
        return Estimate(1 / self.value, 1 / self.high, 1 / self.low, self.n)


@dataclass(frozen=True)
class PermutationTest:
    """p: two-sided. minimum_p: the smallest p that these sample sizes can reach at all.

    exact: every relabelling was counted; otherwise `relabellings` random ones were.
    """

    p: float
    minimum_p: float
    exact: bool
    relabellings: int


def mean_of_task_means(strata: Strata) -> Floats:
    """Mean over tasks of the mean over seeds; seeds on the last axis. Every task weighs the
    same."""
    return np.asarray(np.mean([s.mean(axis=-1) for s in strata], axis=0), dtype=np.float64)


def interquartile_mean(strata: Strata) -> Floats:
    """Mean of the middle half of all (task, seed) values: rliable's IQM (25 % trimmed mean)."""
    pooled = np.concatenate(list(strata), axis=-1)
    return np.asarray(stats.trim_mean(pooled, 0.25, axis=-1), dtype=np.float64)


def stratified_bootstrap(
    strata: Strata,
    statistic: Callable[[Strata], Floats],
    generator: np.random.Generator,
    repetitions: int = BOOTSTRAP_REPETITIONS,
) -> Estimate:
    """Percentile interval of `statistic`; seeds are resampled within each task (rliable).

    No interval (NaN) when no task has two seeds: resampling one value shows no spread.
    """
    value = float(statistic(strata))
    n = sum(s.size for s in strata)
    if max(s.size for s in strata) < 2:
        return Estimate(value, math.nan, math.nan, n)
    draws = statistic([_resample(s, generator, repetitions) for s in strata])
    low, high = np.quantile(draws, (LEVEL / 2, 1 - LEVEL / 2))
    return Estimate(value, float(low), float(high), n)


def bootstrap_difference(
    first: Strata,
    second: Strata,
    statistic: Callable[[Strata, Strata], Floats],
    generator: np.random.Generator,
    repetitions: int = BOOTSTRAP_REPETITIONS,
) -> Estimate:
    """As `stratified_bootstrap`, for a statistic of two arms; each is resampled on its own."""
    value = float(statistic(first, second))
    n = min(sum(s.size for s in first), sum(s.size for s in second))
    if max(s.size for s in (*first, *second)) < 2:
        return Estimate(value, math.nan, math.nan, n)
    draws = statistic(
        [_resample(s, generator, repetitions) for s in first],
        [_resample(s, generator, repetitions) for s in second],
    )
    low, high = np.quantile(draws, (LEVEL / 2, 1 - LEVEL / 2))
    return Estimate(value, float(low), float(high), n)


def _resample(values: Floats, generator: np.random.Generator, repetitions: int) -> Floats:
    return np.asarray(values[generator.integers(0, values.size, (repetitions, values.size))])


def mean_difference(first: Strata, second: Strata) -> Floats:
    """Difference of the means over tasks: the log of a ratio of geometric means."""
    return mean_of_task_means(first) - mean_of_task_means(second)


def probability_of_improvement(first: Strata, second: Strata) -> Floats:
    """Mean over tasks of P(X > Y) + P(X = Y) / 2 for a random seed of each arm (rliable)."""
    per_task = []
    for x, y in zip(first, second, strict=True):
        difference = x[..., :, None] - y[..., None, :]
        wins = (difference > 0).mean(axis=(-1, -2)) + 0.5 * (difference == 0).mean(axis=(-1, -2))
        per_task.append(wins)
    return np.asarray(np.mean(per_task, axis=0), dtype=np.float64)


def minimum_p(sizes: Sequence[tuple[int, int]]) -> float:
    """The smallest two-sided p of `permutation_test` for these (n first, n second) per task.

    For 3 against 3 seeds on one task it is 2/20 = 0.10; 4: 0.029; 5: 0.0079.
    """
    total = math.prod(math.comb(a + b, a) for a, b in sizes)
    mirrored = all(a == b for a, b in sizes)
    return min(1.0, (2 if mirrored else 1) / total)


def permutation_test(
    first: Strata, second: Strata, generator: np.random.Generator
) -> PermutationTest:
    """Are the two arms exchangeable within every task? Two-sided, on the difference of mean logs.

    Labels are exchanged among the seeds of each task, never across tasks. All relabellings are
    counted where the tasks can be split into two halves of at most EXACT_LIMIT sums each (meet in
    the middle: a sum of one half is matched against the sorted sums of the other); otherwise
    RANDOM_PERMUTATIONS random ones, with p = (hits + 1) / (N + 1) (Phipson and Smyth 2010).
    """
    sizes = [(x.size, y.size) for x, y in zip(first, second, strict=True)]
    lowest = minimum_p(sizes)
    counts = [math.comb(a + b, a) for a, b in sizes]
    observed = sum(float(x.mean() - y.mean()) for x, y in zip(first, second, strict=True))
    threshold = abs(observed) - 1e-9 * max(1.0, abs(observed))
    halves = _halves(counts)
    if max(math.prod(counts[i] for i in half) for half in halves) <= EXACT_LIMIT:
        left, right = (_sums([_relabelled(first[i], second[i]) for i in half]) for half in halves)
        right = np.sort(right)
        above = right.size - np.searchsorted(right, threshold - left, side="left")
        below = np.searchsorted(right, -threshold - left, side="right")
        total = left.size * right.size
        # With threshold <= 0 every relabelling counts, and both tails would count some twice.
        p = 1.0 if threshold <= 0 else float(above.sum() + below.sum()) / total
        return PermutationTest(p, lowest, True, total)
    values = np.zeros(RANDOM_PERMUTATIONS)
    for x, y in zip(first, second, strict=True):
        mixed = np.tile(np.concatenate([x, y]), (RANDOM_PERMUTATIONS, 1))
        generator.permuted(mixed, axis=1, out=mixed)
        values += mixed[:, : x.size].mean(axis=1) - mixed[:, x.size :].mean(axis=1)
    hits = int((np.abs(values) >= threshold).sum())
    return PermutationTest(
        (hits + 1) / (RANDOM_PERMUTATIONS + 1), lowest, False, RANDOM_PERMUTATIONS
    )


def _halves(counts: Sequence[int]) -> tuple[list[int], list[int]]:
    """Two groups of tasks of about equal product, largest first into the smaller group."""
    groups: tuple[list[int], list[int]] = ([], [])
    products = [1, 1]
    for index in sorted(range(len(counts)), key=lambda i: (-counts[i], i)):
        target = 0 if products[0] <= products[1] else 1
        groups[target].append(index)
        products[target] *= counts[index]
    return groups


def _relabelled(x: Floats, y: Floats) -> Floats:
    """mean(first) - mean(second) for every way to label the pooled values."""
    pooled = np.concatenate([x, y])
    if math.comb(pooled.size, x.size) > EXACT_LIMIT:
        raise ValueError("too many relabellings of one task to list")
    chosen = np.array(list(combinations(range(pooled.size), x.size)))
    sums = pooled[chosen].sum(axis=1)
    return np.asarray(sums / x.size - (pooled.sum() - sums) / y.size)


def _sums(parts: Sequence[Floats]) -> Floats:
    total = np.zeros(1)
    for part in parts:
        total = (total[:, None] + part[None, :]).ravel()
    return total


def t_interval(values: Floats) -> Estimate:
    """Mean of (log) values with Student's 95 % interval; no interval for fewer than two."""
    n = values.size
    mean = float(values.mean())
    if n < 2:
        return Estimate(mean, math.nan, math.nan, n)
    half = float(stats.t.ppf(1 - LEVEL / 2, n - 1)) * float(values.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the given order (family-wise error, any dependence)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def performance_profile(values: Floats, thresholds: Floats) -> Floats:
    """Fraction of `values` at or above each threshold: fast_p, and rliable's profile."""
    return np.asarray((values[None, :] >= thresholds[:, None]).mean(axis=1), dtype=np.float64)


def min_max_coverage(n: int) -> float:
    """Probability that min..max of n independent values covers the median: 1 - 2^(1-n)."""
    return 1.0 - 2.0 ** (1 - n)

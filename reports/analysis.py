"""What the results say about arms and pairs of arms, and whether a difference may be claimed.

A difference is claimed only if the 95 % interval of the ratio excludes 1 *and* the permutation
test's p, Holm-corrected over all pairs, is at most 0.05. With the simulated model nothing is
claimed: it cannot rank methods.

Covered: summaries of arms, comparisons of pairs, the words for a verdict, the warnings for small
samples. Not covered: the estimators (statistics.py), how it looks (tables.py, page.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from harness.types import content_hash
from reports import statistics
from reports.manifest import Comparison
from reports.results import Results, RunResult
from reports.statistics import LEVEL, Estimate, PermutationTest

# Coverage of a nominal 95 % stratified percentile bootstrap interval on normal data, by seeds and
# number of tasks (1, 4, 8, 16), found by simulation.
BOOTSTRAP_COVERAGE: dict[int, tuple[float, float, float, float]] = {
    3: (0.76, 0.85, 0.85, 0.87),
    5: (0.84, 0.90, 0.91, 0.89),
    10: (0.93, 0.92, 0.95, 0.94),
}
_COVERAGE_TASKS = (1, 4, 8, 16)


@dataclass(frozen=True)
class ArmSummary:
    """One arm over all tasks on which it has results; ratios are speedups over the baseline.

    geometric: geometric mean over tasks of the geometric mean over seeds, with its bootstrap
    interval. interquartile: exp of the interquartile mean of the log scores. arithmetic: mean over
    tasks of the mean over seeds of the arithmetic means over workloads. search: the geometric mean
    of the same programs' search scores.
    """

    arm: str
    tasks: int
    runs: int
    results: tuple[RunResult, ...]
    geometric: Estimate | None
    interquartile: Estimate | None
    arithmetic: float
    search: float


@dataclass(frozen=True)
class Pair:
    """First against second arm, on the tasks where both have results.

    ratio: first / second of geometric-mean scores. improvement: P(a run of first scores higher
    than a run of second on the same task). p_holm: corrected over all pairs.
    """

    first: str
    second: str
    tasks: int
    seeds: tuple[int, int]
    ratio: Estimate
    improvement: Estimate
    test: PermutationTest
    p_holm: float
    verdict: str
    claimed: bool


def generator(name: str) -> np.random.Generator:
    """A random stream fixed by its name: the same report from the same folder, always."""
    return np.random.default_rng(int(content_hash(f"report {name}"), 16))


def summarise(comparison: Comparison, results: Results) -> tuple[ArmSummary, ...]:
    """One summary per arm, in the order that was asked for."""
    return tuple(_summary(arm, comparison, results) for arm in comparison.arm_names)


def _summary(arm: str, comparison: Comparison, results: Results) -> ArmSummary:
    tasks = results.common_tasks(comparison.tasks, [arm])
    known = results.of(arm)
    runs = len(results.of(arm, known=False))
    if not tasks:
        return ArmSummary(arm, 0, runs, (), None, None, math.nan, math.nan)
    strata = results.strata(arm, tasks)
    stream = generator(f"summary {arm}")
    geometric = statistics.stratified_bootstrap(strata, statistics.mean_of_task_means, stream)
    iqm = statistics.stratified_bootstrap(strata, statistics.interquartile_mean, stream)
    arithmetic, search = [], []
    for task in tasks:
        found = results.of(arm, task)
        arithmetic.append(np.mean([r.arithmetic_mean for r in found]))
        search.append(np.mean([math.log(r.search_score) for r in found]))
    return ArmSummary(
        arm,
        len(tasks),
        runs,
        tuple(known),
        geometric.exp(),
        iqm.exp(),
        float(np.mean(arithmetic)),
        math.exp(float(np.mean(search))),
    )


def compare_pairs(comparison: Comparison, results: Results) -> tuple[Pair, ...]:
    """Every pair of arms that share a task with results, in the order that was asked for."""
    pairs = []
    for first, second in combinations(comparison.arm_names, 2):
        tasks = results.common_tasks(comparison.tasks, (first, second))
        if tasks:
            pairs.append(_pair(first, second, tasks, results))
    corrected = statistics.holm([pair.test.p for pair in pairs])
    return tuple(
        _judged(replace(pair, p_holm=p), len(pairs), comparison)
        for pair, p in zip(pairs, corrected, strict=True)
    )


def _pair(first: str, second: str, tasks: Sequence[str], results: Results) -> Pair:
    x, y = results.strata(first, tasks), results.strata(second, tasks)
    stream = generator(f"pair {first} | {second}")
    ratio = statistics.bootstrap_difference(x, y, statistics.mean_difference, stream)
    improvement = statistics.bootstrap_difference(
        x, y, statistics.probability_of_improvement, stream
    )
    test = statistics.permutation_test(x, y, stream)
    seeds = (min(s.size for s in x), min(s.size for s in y))
    return Pair(first, second, len(tasks), seeds, ratio.exp(), improvement, test, 1.0, "", False)


def _judged(pair: Pair, pairs: int, comparison: Comparison) -> Pair:
    if comparison.simulated:
        return replace(pair, verdict="not judged: simulated model")
    no = "no difference can be claimed"
    if pair.test.minimum_p * pairs > LEVEL:
        least = f"{pair.test.minimum_p:.2g}" + (f" × {pairs} pairs" if pairs > 1 else "")
        return replace(pair, verdict=f"{no}: too few seeds (smallest p possible {least})")
    if math.isnan(pair.ratio.low):
        return replace(pair, verdict=f"{no}: one seed shows no spread")
    if pair.ratio.covers(1.0):
        return replace(pair, verdict=f"{no}: the interval covers 1")
    if pair.p_holm > LEVEL:
        return replace(pair, verdict=f"{no}: corrected p = {pair.p_holm:.2g}")
    higher = pair.first if pair.ratio.value > 1 else pair.second
    return replace(pair, verdict=f"{higher} scores higher", claimed=True)


def seed_notes(results: Results, comparison: Comparison) -> tuple[str, ...]:
    """What the seeds can and cannot show: their number, and the arms that they do not reproduce."""
    replicates = (
        f"{arm.name}: a seed labels a replicate and does not reproduce it ({arm.replicates}). Its "
        "runs are samples all the same, so intervals and tests hold; running a seed again gives "
        "another run."
        for arm in comparison.replicated
    )
    return (*_small_sample_notes(results, comparison), *replicates)


def _small_sample_notes(results: Results, comparison: Comparison) -> tuple[str, ...]:
    """What this many seeds can and cannot show, in sentences with their numbers."""
    counts = [
        len(results.of(arm, task))
        for arm in comparison.arm_names
        for task in comparison.tasks
        if results.of(arm, task)
    ]
    if not counts:
        return ("No run has a result yet, so there is nothing to test.",)
    n, tasks = min(counts), len({r.task for r in results.runs if r.known})
    if n < 2:
        return (
            "One seed per task shows no run-to-run spread: no interval over seeds and no test "
            "is possible. Run at least 3 seeds; 5 are recommended.",
        )
    one = statistics.minimum_p([(n, n)])
    together = statistics.minimum_p([(n, n)] * tasks)
    can = "cannot" if one > LEVEL else "can"
    notes = [
        f"On a single task, {n} against {n} seeds {can} reach p = 0.05: the smallest two-sided "
        f"exact permutation p is {one:.2g}."
        + (f" Over {tasks} tasks together it is {together:.2g}." if tasks > 1 else ""),
        f"The range from the lowest to the highest of {n} seeds covers the median with "
        f"probability {statistics.min_max_coverage(n):.2f}; it is no 95 % interval.",
    ]
    known = max((k for k in BOOTSTRAP_COVERAGE if k <= n), default=None)
    if known is not None and n < 10:
        column = max(i for i, t in enumerate(_COVERAGE_TASKS) if t <= tasks)
        coverage = BOOTSTRAP_COVERAGE[known][column]
        several = "task" if _COVERAGE_TASKS[column] == 1 else "tasks"
        notes.append(
            f"With {known} seeds on {_COVERAGE_TASKS[column]} {several} a nominal 95 % stratified "
            f"bootstrap interval covers the truth in about {coverage:.0%} of cases (normal data): "
            "read the bootstrap intervals here as too narrow."
        )
    elif known is None:
        notes.append(
            "With 2 seeds a nominal 95 % bootstrap interval is far too narrow; run at least 3."
        )
    if n < 5:
        notes.append("5 seeds are recommended for a claim about methods.")
    return tuple(notes)

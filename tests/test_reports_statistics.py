"""The estimators against scipy, brute force and worked examples."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reports import statistics


def generator() -> np.random.Generator:
    return np.random.default_rng(7)


def brute_force_p(first, second) -> float:
    """Every relabelling of every task, one by one."""
    per_task = []
    for x, y in zip(first, second, strict=True):
        pooled = np.concatenate([x, y])
        differences = []
        for chosen in combinations(range(pooled.size), x.size):
            rest = [i for i in range(pooled.size) if i not in chosen]
            differences.append(pooled[list(chosen)].mean() - pooled[rest].mean())
        per_task.append(differences)
    observed = abs(sum(x.mean() - y.mean() for x, y in zip(first, second, strict=True)))
    sums = [abs(sum(labels)) for labels in product(*per_task)]
    return float(np.mean([s >= observed - 1e-9 * max(1.0, observed) for s in sums]))


@pytest.mark.parametrize(("seeds", "p"), [(3, 0.1), (4, 0.0286), (5, 0.0079)])
def test_the_smallest_p_on_one_task_is_the_published_one(seeds, p):
    assert statistics.minimum_p([(seeds, seeds)]) == pytest.approx(p, abs=5e-5)


def test_complete_separation_reaches_the_smallest_p():
    first, second = [np.array([1.0, 1.1, 1.2])] * 2, [np.array([0.1, 0.2, 0.3])] * 2
    result = statistics.permutation_test(first, second, generator())
    assert result.exact
    assert result.p == pytest.approx(result.minimum_p) == pytest.approx(2 / 400)


logs = st.lists(st.integers(-4, 4).map(lambda v: v / 2), min_size=2, max_size=3).map(np.array)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(logs, logs), min_size=1, max_size=3))
def test_the_exact_test_counts_what_brute_force_counts(tasks):
    first, second = [t[0] for t in tasks], [t[1] for t in tasks]
    result = statistics.permutation_test(first, second, generator())
    assert result.p == pytest.approx(brute_force_p(first, second))


def test_the_exact_test_on_one_task_agrees_with_scipy():
    first, second = np.array([0.3, 0.9, 0.5, 0.7]), np.array([0.1, 0.6, 0.2, 0.0])
    ours = statistics.permutation_test([first], [second], generator()).p
    theirs = stats.permutation_test(
        (first, second), lambda x, y: x.mean() - y.mean(), n_resamples=np.inf
    ).pvalue
    assert ours == pytest.approx(theirs)


def test_many_seeds_fall_back_to_random_relabellings_near_the_exact_value():
    stream = np.random.default_rng(3)
    first, second = stream.normal(0.3, 1, 40), stream.normal(0, 1, 40)
    result = statistics.permutation_test([first], [second], generator())
    assert not result.exact
    assert result.p == pytest.approx(stats.ttest_ind(first, second).pvalue, abs=0.02)


def test_holm_multiplies_the_smallest_p_most_and_stays_monotone():
    assert statistics.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), max_size=6))
def test_holm_never_lowers_a_p_value(values):
    adjusted = statistics.holm(values)
    assert all(p <= a <= 1 for p, a in zip(values, adjusted, strict=True))


def test_the_interquartile_mean_ignores_both_outer_quarters():
    strata = [np.array([-100.0, 1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0, 100.0])]
    assert statistics.interquartile_mean(strata) == pytest.approx(3.5)


def test_the_probability_of_improvement_is_the_scaled_mann_whitney_u():
    x, y = np.array([0.1, 0.5, 0.5, 0.9]), np.array([0.2, 0.5, 0.3])
    u = stats.mannwhitneyu(x, y).statistic
    assert statistics.probability_of_improvement([x], [y]) == pytest.approx(u / 12)


def test_the_t_interval_agrees_with_scipy():
    values = np.array([0.1, 0.4, 0.2, 0.25])
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    ours = statistics.t_interval(values)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_one_value_has_no_interval_and_so_covers_everything():
    estimate = statistics.t_interval(np.array([0.3]))
    assert math.isnan(estimate.low)
    assert estimate.covers(123.0)


def test_one_seed_per_task_has_no_bootstrap_interval():
    estimate = statistics.stratified_bootstrap(
        [np.array([1.0]), np.array([2.0])], statistics.mean_of_task_means, generator()
    )
    assert estimate.value == 1.5
    assert math.isnan(estimate.low)


def test_the_bootstrap_interval_has_its_known_coverage_for_three_seeds_on_one_task():
    stream, hits, trials = np.random.default_rng(1), 0, 400
    for _ in range(trials):
        estimate = statistics.stratified_bootstrap(
            [stream.normal(size=3)], statistics.mean_of_task_means, stream, repetitions=400
        )
        hits += estimate.covers(0.0)
    assert hits / trials == pytest.approx(0.76, abs=0.07)


def test_every_task_weighs_the_same_however_many_seeds_it_has():
    strata = [np.array([0.0]), np.array([1.0, 1.0, 1.0])]
    assert statistics.mean_of_task_means(strata) == pytest.approx(0.5)


def test_the_range_of_three_seeds_covers_the_median_three_times_in_four():
    assert statistics.min_max_coverage(3) == 0.75


def test_an_inverted_ratio_keeps_its_interval_in_order():
    inverse = statistics.Estimate(0.5, 0.25, 0.8, 3).inverse()
    assert (inverse.low, inverse.value, inverse.high) == (1.25, 2.0, 4.0)


def test_the_performance_profile_counts_values_at_the_threshold():
    profile = statistics.performance_profile(np.array([0.5, 1.0, 2.0]), np.array([1.0, 2.1]))
    assert profile.tolist() == pytest.approx([2 / 3, 0.0])

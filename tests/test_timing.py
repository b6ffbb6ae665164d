"""harness/evaluate/timing.py: samples into intervals."""

import numpy as np
import pytest
from scipy import stats

from harness.evaluate.timing import (
    block_value,
    log_interval,
    mean_over_workloads,
    t_quantile,
)


@pytest.mark.parametrize("degrees", [1, 2, 7, 29, 30, 31, 45, 60, 200])
def test_the_t_quantile_agrees_with_scipy(degrees: int) -> None:
    assert t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), abs=2e-3)


def test_the_interval_covers_the_truth_in_95_per_cent_of_normal_samples() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(2000):
        interval = log_interval(list(rng.normal(0.1, 0.02, 8)))
        covered += abs(interval.mean - 0.1) <= interval.half_width
    assert 0.93 <= covered / 2000 <= 0.97


def test_the_combined_interval_covers_the_mean_over_workloads() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(2000):
        blocks = [list(rng.normal(mean, sd, 5)) for mean, sd in ((0.0, 0.01), (0.4, 0.1))]
        interval = mean_over_workloads(blocks)
        covered += abs(interval.mean - 0.2) <= interval.half_width
    assert 0.93 <= covered / 2000 <= 0.99


def test_one_block_has_no_interval() -> None:
    with pytest.raises(ValueError, match="two blocks"):
        log_interval([0.1])


def test_a_block_value_ignores_one_disturbed_pair() -> None:
    candidate = [100.0, 100.0, 900.0, 100.0, 100.0]
    assert block_value(candidate, [200.0] * 5) == pytest.approx(np.log(2))

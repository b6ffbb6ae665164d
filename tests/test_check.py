"""harness/evaluate/check.py: what counts as a correct output."""

import numpy as np
import pytest

from harness.evaluate.check import compare, near
from harness.suite import Tolerance

TOLERANCE = Tolerance(1e-3, 1e-3, 1e-3, "test")
REFERENCE = np.array([1.0, -2.0, 0.0, np.inf, -np.inf])


def test_a_result_within_the_tolerance_is_correct() -> None:
    actual = np.array([1.0005, -2.001, 0.0005, np.inf, -np.inf], np.float32)
    assert compare("y", actual, REFERENCE, TOLERANCE) is None


@pytest.mark.parametrize(
    ("index", "value"),
    [(0, 1.01), (1, np.nan), (2, np.inf), (3, 1e38), (3, np.nan), (4, np.inf)],
)
def test_one_wrong_element_is_enough_to_be_wrong(index: int, value: float) -> None:
    actual = REFERENCE.astype(np.float32)
    actual[index] = value
    mismatch = compare("y", actual, REFERENCE, TOLERANCE)
    assert mismatch is not None
    assert mismatch.evidence["wrong"] == 1
    assert mismatch.evidence["index"] == f"[{index}]"


def test_many_small_errors_fail_by_the_norm() -> None:
    reference = np.full(1000, 1.0)
    tolerance = Tolerance(1e-2, 0.0, 1e-3, "test")
    mismatch = compare("y", np.full(1000, 1.005, np.float32), reference, tolerance)
    assert mismatch is not None
    assert "norm" in mismatch.message


def test_integers_must_be_equal() -> None:
    expected = np.array([1, 2, 3], np.int32)
    assert compare("i", expected.copy(), expected, TOLERANCE) is None
    assert compare("i", expected + 1, expected, TOLERANCE) is not None


def test_a_zero_reference_is_not_passed_by_a_zero_norm_of_something_else() -> None:
    assert compare("y", np.zeros(4, np.float32), np.zeros(4), TOLERANCE) is None
    assert compare("y", np.full(4, 9e-4, np.float32), np.zeros(4), TOLERANCE) is not None


def test_a_quick_look_sees_skipped_work_and_agrees_on_infinities() -> None:
    baseline = np.array([1.0, -np.inf, 0.5, 2.0], np.float32)
    assert near(baseline.copy(), baseline, TOLERANCE)
    assert near(baseline + np.float32(1e-3), baseline, TOLERANCE)
    for wrong in (np.zeros(4), np.full(4, np.nan), np.full(4, -np.inf), -baseline):
        assert not near(wrong.astype(np.float32), baseline, TOLERANCE)
    assert near(np.zeros(0, np.float32), np.zeros(0, np.float32), TOLERANCE)

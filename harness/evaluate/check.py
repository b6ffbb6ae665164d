"""Is an output correct? The one comparison of the harness.

Covered: finiteness, elementwise and norm-relative error against a float64 reference.
Not covered: shape and dtype; the buffers are the judge's own, so a candidate cannot change them (a
python candidate that returns another shape or dtype is told so by its worker, and fails).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.suite import Array, Tolerance
from harness.types import JsonScalar


@dataclass(frozen=True)
class Mismatch:
    """Why an output is wrong: one sentence and the numbers behind it."""

    message: str
    evidence: Mapping[str, JsonScalar]


def compare(name: str, actual: Array, expected: Array, tolerance: Tolerance) -> Mismatch | None:
    """None if `actual` is within `tolerance` of `expected` (any shape, equal for both).

    Every element: |x - ref| <= absolute + relative * |ref|; all together:
    ||x - ref|| <= norm * ||ref||. Written with <=, so that a NaN never passes. Where
    the reference is not finite, x must equal it. `matched` and `exact_zeros`: see `Tolerance`.
    """
    if np.issubdtype(expected.dtype, np.integer):
        wrong = np.flatnonzero(actual != expected)
        return _mismatch(name, actual, expected, wrong, "differ") if wrong.size else None
    reference = expected.astype(np.float64, copy=False)
    with np.errstate(invalid="ignore"):
        error = np.abs(actual - reference)
        close = error <= tolerance.absolute + tolerance.relative * np.abs(reference)
    zero = reference == 0 if tolerance.exact_zeros else np.zeros((), dtype=bool)
    if not close.all() or zero.any():  # something is wrong, or not finite on both sides, or zero
        finite = np.isfinite(reference)
        same = (actual == reference) | (np.isnan(actual) & np.isnan(reference))
        exact = ~finite | zero
        bad = ~np.where(exact, same, np.isfinite(actual) & close)
        never = ~np.where(exact, same, np.isfinite(actual))
        if never.any() or bad.sum() > may_be_outside(tolerance, int(bad.size - zero.sum())):
            wrong = np.flatnonzero(bad)
            return _mismatch(name, actual, reference, wrong, "are outside the tolerance")
        error, reference = error[finite], reference[finite]
    error, reference = error.reshape(-1), reference.reshape(-1)
    total, scale = math.sqrt(float(error @ error)), math.sqrt(float(reference @ reference))
    if not total <= tolerance.norm * scale:
        return norm_mismatch(name, total, scale, tolerance)
    return None


def may_be_outside(tolerance: Tolerance, elements: int) -> int:
    """How many of these elements may be outside the elementwise rule."""
    return elements - math.ceil(tolerance.matched * elements)


def near(actual: Array, baseline: Array, tolerance: Tolerance) -> bool:
    """A quick look at every timed call: is the output what the baseline made of the same inputs?

    Both may be off by the tolerance, so three tolerances are allowed, element by element. It
    catches calls that skip the work; the drawn calls are compared in full.
    """
    if np.issubdtype(baseline.dtype, np.integer):
        return bool(np.array_equal(actual, baseline))
    with np.errstate(invalid="ignore"):
        error = np.abs(actual - baseline)
        bound = np.abs(baseline)
        bound *= 3 * tolerance.relative
        bound += 3 * tolerance.absolute
        close = error <= bound
    if close.all():
        return True
    finite = np.isfinite(baseline)  # infinities must agree
    good = np.where(finite, close, actual == baseline)
    never = ~np.where(finite, np.isfinite(actual), good)
    outside = int(good.size - good.sum())
    return not never.any() and outside <= may_be_outside(tolerance, good.size)


def _mismatch(name: str, actual: Array, expected: Array, wrong: Array, how: str) -> Mismatch:
    first = int(wrong[0])
    index = tuple(int(i) for i in np.unravel_index(first, expected.shape))
    got, want = float(actual.reshape(-1)[first]), float(expected.reshape(-1)[first])
    poisoned = int(np.isnan(actual.astype(np.float64)).sum())
    return wrong_elements(name, wrong.size, expected.size, how, poisoned, index, got, want)


def wrong_elements(
    name: str,
    wrong: int,
    elements: int,
    how: str,
    poisoned: int,
    index: tuple[int, ...],
    got: float,
    want: float,
) -> Mismatch:
    """`wrong` elements of an output are wrong, the first at `index`; `poisoned` are NaN."""
    note = f"; {poisoned} are NaN (outputs hold NaN before the call)" if poisoned else ""
    return Mismatch(
        f"output {name}: {wrong} of {elements} elements {how}{note}; first at {list(index)}: got "
        f"{got:.7g}, expected {want:.7g}",
        {"output": name, "wrong": int(wrong), "elements": int(elements),
         "index": str(list(index)), "got": repr(got), "expected": repr(want)},
    )  # fmt: skip


def norm_mismatch(name: str, error: float, scale: float, tolerance: Tolerance) -> Mismatch:
    """An output's Frobenius norm of the error is too large beside that of the reference."""
    return Mismatch(
        f"output {name}: relative norm error {error / scale if scale else error:.3g}, allowed "
        f"{tolerance.norm:.3g}",
        {"output": name, "norm_error": error, "norm_reference": scale},
    )

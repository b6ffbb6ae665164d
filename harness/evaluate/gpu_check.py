"""Is an output on a GPU correct? The rules of check.py, by torch, in bounded memory.

Covered: finiteness, elementwise and norm-relative error, the quick look at every timed call; the
same messages and evidence as on a CPU (a test holds both to each other).
Not covered: what the rules mean (check.py, harness/suite.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from harness.evaluate.check import Mismatch, may_be_outside, norm_mismatch, wrong_elements
from harness.suite import Tolerance

if TYPE_CHECKING:
    import torch

_CHUNK = 1 << 25  # elements compared at once: 256 MiB in float64


def compare_tensors(
    name: str, actual: torch.Tensor, expected: torch.Tensor, tolerance: Tolerance
) -> Mismatch | None:
    """None if `actual` is within `tolerance` of `expected` (any shape, equal for both; contiguous,
    on one device)."""
    import torch

    total, scale, wrong, first, poisoned = 0.0, 0.0, 0, -1, 0
    zeros, never = 0, 0  # elements with a reference of 0 that count apart; wrong beyond any share
    floating = expected.is_floating_point()
    if floating and expected.is_cuda and not tolerance.exact_zeros and _native(actual):
        from harness.evaluate.gpu_kernels import compare_on_gpu

        quick = compare_on_gpu(actual, expected, tolerance.absolute, tolerance.relative)
        if not quick.outside:  # otherwise the look below says where, and what is not finite
            return _by_norm(name, quick.error, quick.scale, tolerance)
    for start, got, want in _chunks(actual, expected):
        if floating:
            got, want = got.double(), want.double()
            error = (got - want).abs()
            close = error <= want.abs().mul_(tolerance.relative).add_(tolerance.absolute)
            finite = want.isfinite()
            same = (got == want) | (got.isnan() & want.isnan())
            exact = finite.logical_not()
            if tolerance.exact_zeros:
                exact |= want == 0
                zeros += int((want == 0).sum())
            good = torch.where(exact, same, got.isfinite() & close)
            never += int(torch.where(exact, same, got.isfinite()).logical_not_().sum())
            error = torch.where(finite & got.isfinite(), error, 0)
            total += float(error.square_().sum())
            scale += float(torch.where(finite, want, 0).square_().sum())
        else:
            good = got == want
            never += int(good.logical_not().sum())
        bad = int(good.numel() - good.sum())
        if bad and first < 0:
            first = start + int(good.logical_not().nonzero()[0])
        wrong += bad
        if floating:
            poisoned += int(got.isnan().sum())
    if never or wrong > may_be_outside(tolerance, expected.numel() - zeros):
        index = tuple(int(i) for i in np.unravel_index(first, tuple(expected.shape)))
        how = "are outside the tolerance" if floating else "differ"
        values = float(actual.view(-1)[first]), float(expected.view(-1)[first])
        return wrong_elements(name, wrong, expected.numel(), how, poisoned, index, *values)
    return _by_norm(name, total, scale, tolerance) if floating else None


def warm_up_checks(dtypes: Iterable[str]) -> None:
    """Compile and load, on the current GPU, what compares outputs of these dtypes with references
    and baselines: outputs whose size is a multiple of 16, for which Triton has a kernel of its
    own, as almost all are."""
    import torch

    from harness.evaluate.gpu_kernels import compare_on_gpu

    for dtype in dtypes:
        actual = torch.ones(4096, dtype=getattr(torch, dtype), device="cuda")
        if actual.is_floating_point() and _native(actual):
            compare_on_gpu(actual, actual, 1.0, 1.0)
            compare_on_gpu(actual, actual.double(), 1.0, 1.0)


def _by_norm(name: str, error: float, scale: float, tolerance: Tolerance) -> Mismatch | None:
    """error, scale: sums of squares."""
    if math.sqrt(error) <= tolerance.norm * math.sqrt(scale):
        return None
    return norm_mismatch(name, math.sqrt(error), math.sqrt(scale), tolerance)


def near_tensors(actual: torch.Tensor, baseline: torch.Tensor, tolerance: Tolerance) -> bool:
    """A quick look at a timed call, as `check.near`: three tolerances, element by element."""
    import torch

    if not baseline.is_floating_point():
        return torch.equal(actual, baseline)
    if baseline.is_cuda and _native(baseline):
        from harness.evaluate.gpu_kernels import compare_on_gpu

        wide = 3 * tolerance.absolute, 3 * tolerance.relative
        if not compare_on_gpu(actual, baseline, *wide).outside:
            return True
    outside = 0
    for _, got, want in _chunks(actual, baseline):
        if not _native(baseline):
            got, want = got.float(), want.float()
        bound = want.abs().mul_(3 * tolerance.relative).add_(3 * tolerance.absolute)
        close = (got - want).abs_() <= bound
        if bool(close.all()):
            continue
        finite = want.isfinite()
        if not bool(torch.where(finite, got.isfinite(), got == want).all()):
            return False
        outside += int((finite & close.logical_not()).sum())
    return outside <= may_be_outside(tolerance, baseline.numel())


def _native(tensor: torch.Tensor) -> bool:
    """Whether arithmetic is defined on the tensor's type: not on 8 bits."""
    return tensor.element_size() > 1


def _chunks(
    left: torch.Tensor, right: torch.Tensor
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    flat_left, flat_right = left.reshape(-1), right.reshape(-1)
    for start in range(0, flat_left.numel(), _CHUNK):
        end = start + _CHUNK
        yield start, flat_left[start:end], flat_right[start:end]

"""The judge's own Triton kernel: one pass over an output and what it is held against.

By torch the same comparison takes a dozen passes, and took longer than what it judged.

Covered: how many elements are outside a tolerance, and the sums of squares for the norms; an
element that is not finite on either side counts as outside (the caller looks again by torch).
Not covered: where the first such element is; the CPU (gpu_check.py).

Imported on a GPU only: it needs triton.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

_BLOCK = 4096


@dataclass(frozen=True)
class Comparison:
    """outside: elements with |got - want| > absolute + relative * |want|, or not finite. error,
    scale: sums of squares of got - want and of want."""

    outside: int
    error: float
    scale: float


@triton.jit  # type: ignore[untyped-decorator]
def _compare(got, want, sums, total, absolute, relative, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    program = tl.program_id(0).to(tl.int64)
    offsets = program * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < total
    expected = tl.load(want + offsets, mask=inside, other=0.0).to(tl.float64)
    error = tl.load(got + offsets, mask=inside, other=0.0).to(tl.float64) - expected
    close = tl.abs(error) <= absolute + relative * tl.abs(expected)  # false for NaN
    tl.store(sums + 3 * program, tl.sum(tl.where(close, 0.0, 1.0).to(tl.float64), axis=0))
    tl.store(sums + 3 * program + 1, tl.sum(error * error, axis=0))
    tl.store(sums + 3 * program + 2, tl.sum(expected * expected, axis=0))


def compare_on_gpu(
    got: torch.Tensor, want: torch.Tensor, absolute: float, relative: float
) -> Comparison:
    """got, want: contiguous floating-point tensors of one size on the current GPU."""
    total = got.numel()
    if total == 0:
        return Comparison(0, 0.0, 0.0)
    blocks = triton.cdiv(total, _BLOCK)
    sums = torch.empty((blocks, 3), dtype=torch.float64, device=got.device)
    _compare[(blocks,)](got, want, sums, total, absolute, relative, BLOCK=_BLOCK, num_warps=8)
    outside, error, scale = sums.sum(dim=0).tolist()
    return Comparison(int(outside), error, scale)

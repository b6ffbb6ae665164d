"""The gate that kernels were published under elsewhere, beside this project's own.

It decides nothing here: a re-measurement of published kernels shows both verdicts.

Covered: the elementwise rule, its share of elements, finiteness. Not covered: other kinds of rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.suite import PublishedGate

if TYPE_CHECKING:
    import torch


def published_mismatch(
    name: str, actual: torch.Tensor, expected: torch.Tensor, gate: PublishedGate
) -> str:
    """What is wrong with an output (torch tensors of one shape, `expected` in float64); "" if
    nothing is."""
    got, want = actual.double(), expected.double()
    if not bool(got.isfinite().all()):
        return f"output {name} is not finite everywhere"
    error = (got - want).abs()
    close = (error <= gate.absolute) | (error <= gate.relative * (want.abs() + 1e-8))
    # Where the reference is not finite, the published rule's comparisons are with NaN: not failed.
    share = float((close | want.isfinite().logical_not()).double().mean()) if got.numel() else 1.0
    if share >= gate.matched:
        return ""
    return f"{share:.4%} of output {name} within the published rule, {gate.matched:.4%} asked"

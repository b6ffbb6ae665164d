"""Contents of the MoE's calls: 8-bit operands, block scales, and routing without close choices.

Logits follow the records' distribution, N(-1.6706, 0.6560), and biases are 4.9375 or 4.96875, as in
the one record whose tensors are known. Where sigmoid(logit) + bias of two experts differ by less
than float32's rounding, programs may rightly choose either; so a token's logits are drawn again
while its choice of groups or experts hangs on less than 2e-5.

Covered: drawn routing tensors and the dataset's, whose logits lie on bfloat16's grid and tie: they
are moved by less than that grid. Nothing here waits for the device (the dataset's tensors are
copied once).
Not covered: the distribution of experts over real text beyond that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.types import Workload
from suites.flashinfer.dataset import Dataset, require
from suites.flashinfer.records import record_of

if TYPE_CHECKING:
    import torch

MEAN, DEVIATION = -1.6706, 0.6560
BIASES = (4.9375, 4.96875)
MARGIN = 2e-5  # of a choice: 40 units in the last place of float32 at 5
_ROUNDS = 6  # at most 6 % of the tokens are close in one draw, so 5e-8 after six
_GRID_SHARE = 2.0**-11  # of a logit: a quarter of half a step of bfloat16's grid
_FLOATS_AT_ONCE = 1 << 26


@dataclass(frozen=True)
class Scales:
    """How block scales and the 8-bit weights beside them are drawn."""

    signed: bool
    weight_deviation: float


# In [0.25, 0.75), so that 1 - x, which the judge writes into near-duplicates, is one too. Weights
# are small, so that outputs are of the size 1.
POSITIVE = Scales(signed=False, weight_deviation=1 / 16)
SIGNED = Scales(signed=True, weight_deviation=1.0)


def fill_operands(
    scales: Scales, generator: torch.Generator, inputs: Mapping[str, torch.Tensor]
) -> None:
    """Activations, weights and their scales."""
    deviations = {
        "hidden_states": 1.0,
        "gemm1_weights": scales.weight_deviation,
        "gemm2_weights": scales.weight_deviation,
    }
    for name, deviation in deviations.items():
        _fill_8_bit(inputs[name], deviation, generator)
        scale = inputs[f"{name}_scale"]
        if scales.signed:
            scale.normal_(generator=generator)
        else:
            scale.uniform_(0.25, 0.75, generator=generator)


def _fill_8_bit(tensor: torch.Tensor, deviation: float, generator: torch.Generator) -> None:
    """Normal numbers rounded to 8 bits, a bounded number at a time. Never NaN: those begin at "
    "464."""
    import torch

    flat = tensor.view(-1)
    size = min(flat.numel(), _FLOATS_AT_ONCE)
    drawn = torch.empty(size, dtype=torch.float16, device=flat.device)
    for start in range(0, flat.numel(), size):
        part = flat[start : start + size]
        part.copy_(drawn[: part.numel()].normal_(0.0, deviation, generator=generator))


class Routing:
    """Routing logits and biases: the dataset's where there is one, else drawn."""

    def __init__(self, dataset: Dataset | None) -> None:
        self._dataset = dataset
        self._read: dict[tuple[str, str], tuple[torch.Tensor, torch.Tensor]] = {}

    def fill(
        self,
        workload: Workload,
        generator: torch.Generator,
        inputs: Mapping[str, torch.Tensor],
        counts: tuple[int, int, int],
    ) -> None:
        """counts: groups, groups kept, experts chosen."""
        import torch

        logits, bias = inputs["routing_logits"], inputs["routing_bias"]
        stored = self._stored(workload, str(logits.device))
        if stored is None:
            known = None
            low, high = BIASES
            bias.random_(0, 2, generator=generator).mul_(high - low).add_(low)
        else:
            known = stored[0]
            bias.copy_(stored[1])
        logits.copy_(_drawn(logits, known, generator))
        again = torch.empty_like(logits)
        for _ in range(_ROUNDS):
            again.copy_(_drawn(logits, known, generator))
            close = margins(logits, bias, counts) < MARGIN
            logits.copy_(torch.where(close[:, None], again, logits))

    def _stored(self, workload: Workload, device: str) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Checked logits and bias of a record on a device. Raises EnvironmentMissing."""
        import torch

        prefix = record_of(workload)
        if self._dataset is None or prefix is None:
            return None
        key = (prefix, device)
        if key not in self._read:
            found = self._dataset.tensors(prefix)
            shape = (workload.axes["seq_len"], workload.axes["num_experts"])
            logits, bias = found.get("routing_logits"), found.get("routing_bias")
            good = (
                logits is not None
                and bias is not None
                and (logits.dtype, bias.dtype) == (torch.float32, torch.bfloat16)
                and (tuple(logits.shape), tuple(bias.shape)) == (shape, shape[1:])
                and bool(logits.isfinite().all() & bias.isfinite().all())
            )
            what = f"finite routing_logits {list(shape)} in float32 and routing_bias in bfloat16"
            require(good, self._dataset.definition, prefix, what)
            assert logits is not None
            assert bias is not None
            self._read[key] = logits.to(device), bias.to(device)
        return self._read[key]


def _drawn(
    like: torch.Tensor, known: torch.Tensor | None, generator: torch.Generator
) -> torch.Tensor:
    """Fresh logits, or the dataset's moved by a fresh amount that its grid does not resolve."""
    import torch

    fresh = torch.empty_like(like)
    if known is None:
        return fresh.normal_(MEAN, DEVIATION, generator=generator)
    return fresh.uniform_(-_GRID_SHARE, _GRID_SHARE, generator=generator).add_(1).mul_(known)


def margins(logits: torch.Tensor, bias: torch.Tensor, counts: tuple[int, int, int]) -> torch.Tensor:
    """By how much each token's choice of groups and of experts is made [tokens]."""
    import torch

    groups, kept, top = counts
    biased = logits.sigmoid() + bias.float()
    tokens, experts = biased.shape
    grouped = biased.view(tokens, groups, experts // groups)
    scores = grouped.topk(2, -1).values.sum(-1)
    ranked = scores.topk(kept + 1, -1)
    by_group = ranked.values[:, kept - 1] - ranked.values[:, kept]
    places = ranked.indices[:, :kept, None].expand(-1, -1, experts // groups)
    allowed = grouped.gather(1, places).reshape(tokens, -1)
    best = allowed.topk(top + 1, -1).values
    return torch.minimum(by_group, best[:, top - 1] - best[:, top])

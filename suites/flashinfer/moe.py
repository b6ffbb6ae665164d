"""flashinfer/moe_fp8_block_scale: DeepSeek-V3's mixture of experts with 8-bit block scales.

32 of 256 experts are local (an expert parallelism of 8). Two variants of one task. In `@spec` block
scales are positive, and rows with a local expert are judged alone; `@published` draws scales from a
normal distribution, as the dataset's random inputs are, and has the public contest's gate.
docs/suite-flashinfer.md says why there are two.

Covered: the prose, workloads, float64 reference, tolerances, compulsory work, baselines and starts.
Not covered: contents of calls (moe_inputs.py); programs (moe_code.py, moe_grouped.py,
moe_cutlass.py); a design space (the simulated model has none for this task).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.suite import Axis, Baseline, Signature, Tensor, Tolerance, TorchTask, Work
from harness.types import Workload
from suites.flashinfer import moe_cutlass, moe_inputs
from suites.flashinfer.dataset import SYNTHESISED, find_dataset
from suites.flashinfer.moe_code import CUDA_START, TORCH, TRITON_START
from suites.flashinfer.moe_grouped import GROUPED
from suites.flashinfer.records import FLASHINFER_BENCH, chosen, read_records

if TYPE_CHECKING:
    import torch

DEFINITION = "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h7168_i2048"
ROUTED_SCALING_FACTOR = 2.5  # of all records
GROUPS, KEPT_GROUPS, TOP = 8, 4, 8
BLOCK = 128
_SIZES = {
    "num_experts": 256, "num_local_experts": 32, "hidden_size": 7168, "intermediate_size": 2048,
    "gemm1_out_size": 4096, "num_hidden_blocks": 56, "num_intermediate_blocks": 16,
    "num_gemm1_out_blocks": 32,
}  # fmt: skip

_PROSE = """\
Compute a mixture-of-experts layer with 8-bit weights and activations, routing included, on one \
rank of an expert-parallel group: 32 of the 256 experts are local, those numbered \
local_expert_offset and up.

8-bit values are float8_e4m3fn and have a float32 scale per block of 128 (activations) or 128 x \
128 \
(weights). All tensors are dense and row-major.
- routing_logits [seq_len, 256] float32, routing_bias [256] bfloat16.
- hidden_states [seq_len, 7168] 8-bit, hidden_states_scale [56, seq_len] float32 (one row per \
block \
of features): A[t, h] = hidden_states[t, h] * hidden_states_scale[h / 128, t].
- gemm1_weights [32, 4096, 7168] 8-bit, gemm1_weights_scale [32, 32, 56] float32: W13[e, n, h] = \
gemm1_weights[e, n, h] * gemm1_weights_scale[e, n / 128, h / 128].
- gemm2_weights [32, 7168, 2048] 8-bit, gemm2_weights_scale [32, 56, 16] float32: W2[e, h, i] = \
gemm2_weights[e, h, i] * gemm2_weights_scale[e, h / 128, i / 128].
- output [seq_len, 7168] bfloat16; its memory holds garbage before the call.

Routing, for each token: s = sigmoid(routing_logits), b = s + routing_bias. The 256 experts form 8 \
groups of 32 in order; a group's score is the sum of its two largest b. The 4 groups with the \
largest scores are kept, and of their 128 experts the 8 with the largest b are chosen. The weight \
of a chosen expert is its s, without the bias, divided by (the sum of s over the 8 chosen + \
1e-20), \
times routed_scaling_factor = 2.5, a constant. Inputs have no ties.

For each chosen expert that is local, with e its number less local_expert_offset: G = A[t] \
W13[e]^T \
has 4096 elements; with up = G[0:2048] and gate = G[2048:4096], C = gate * sigmoid(gate) * up; O \
= C \
W2[e]^T. output[t] is the sum over these experts of weight * O. A token without a local expert, \
about half of them, has an output of exactly 0.

seq_len is 1 to 14,107. Small ones read few weights of few experts, large ones all of them. %s

The result is compared with a 64-bit computation, %s Inputs, weights too, change with every call, \
so nothing can be kept from one call to the next. No library may be called."""


def _workload(name: str, seq_len: int, offset: int) -> Workload:
    axes = {"seq_len": seq_len, **_SIZES, "local_expert_offset": offset}
    return Workload(f"{name}_t{seq_len}_o{offset}", axes)


_FINAL = tuple(
    _workload(r.prefix, r.axes["seq_len"], r.axes["local_expert_offset"])
    for r in read_records(DEFINITION).rows
)

# Ours: an odd number of tokens, offsets that no record has for its size, one token and many.
_HELD_OUT = (
    _workload("odd", 3, 160),
    _workload("odd", 129, 0),
    _workload("odd", 1025, 224),
    _workload("odd", 4097, 64),
)


def ordered_baselines(*, library_first: bool) -> tuple[Baseline, ...]:
    """The score's first. library_first: whether that is FlashInfer's, where it is ready."""
    ours = Baseline("Triton, ours", "grouped products, bfloat16 between, 2", GROUPED)
    torch = Baseline("torch", "expert by expert, bfloat16, 1", TORCH)
    library = moe_cutlass.baseline()
    if library is None:
        return ours, torch
    return (library, ours, torch) if library_first else (ours, library, torch)


class MoeSpec(TorchTask):
    """Positive scales; only rows with a local expert count."""

    name = f"{DEFINITION}@spec"
    version = "1"
    work_varies = True
    title = "DeepSeek-V3 mixture of experts, fp8 block scales, positive scales"
    prose = _PROSE % (
        "Scales lie between 0.25 and 0.75, and outputs are of the size 1.",
        "over the rows that have a local expert: the norm of the error may be 6 % of theirs, so C "
        "may be rounded to 8 bits once more.",
    )
    signature = Signature(
        axes=(
            Axis("seq_len", "tokens"),
            Axis("num_experts", "experts of all ranks, 256"),
            Axis("num_local_experts", "experts of this rank, 32"),
            Axis("hidden_size", "features of a token, 7168"),
            Axis("intermediate_size", "features between the products, 2048"),
            Axis("gemm1_out_size", "2 * intermediate_size"),
            Axis("num_hidden_blocks", "hidden_size / 128"),
            Axis("num_intermediate_blocks", "intermediate_size / 128"),
            Axis("num_gemm1_out_blocks", "gemm1_out_size / 128"),
            Axis("local_expert_offset", "number of the first local expert"),
        ),
        inputs=(
            Tensor("routing_logits", "float32", ("seq_len", "num_experts"), "of every expert"),
            Tensor("routing_bias", "bfloat16", ("num_experts",), "added to choose, not to weigh"),
            Tensor("hidden_states", "float8_e4m3fn", ("seq_len", "hidden_size"), "tokens"),
            Tensor("hidden_states_scale", "float32", ("num_hidden_blocks", "seq_len"), "by block"),
            Tensor(
                "gemm1_weights",
                "float8_e4m3fn",
                ("num_local_experts", "gemm1_out_size", "hidden_size"),
                "up, then gate",
            ),
            Tensor(
                "gemm1_weights_scale",
                "float32",
                ("num_local_experts", "num_gemm1_out_blocks", "num_hidden_blocks"),
                "by block",
            ),
            Tensor(
                "gemm2_weights",
                "float8_e4m3fn",
                ("num_local_experts", "hidden_size", "intermediate_size"),
                "down",
            ),
            Tensor(
                "gemm2_weights_scale",
                "float32",
                ("num_local_experts", "num_hidden_blocks", "num_intermediate_blocks"),
                "by block",
            ),
        ),
        outputs=(Tensor("output", "bfloat16", ("seq_len", "hidden_size"), "sum over experts"),),
    )
    final = _FINAL
    search = chosen(_FINAL, "e05c6c03 b8f4f012 8cba5890 a7c2bcfd 6230e838")  # the paper's
    held_out = _HELD_OUT
    tolerances = {
        "output": Tolerance(
            absolute=0.4,
            relative=0.2,
            norm=6e-2,
            exact_zeros=True,
            why="Measured on a CPU, 16 tokens, all sizes real: the norm of all operands in "
            "bfloat16 is "
            "4.4e-3, of C in 8 bits (e4m3, a scale for each 128) 2.2e-2, of A in 8 bits once more, "
            "too, 4.3e-2 and its largest error 0.23. On smaller sizes: weights in 4 bits 0.24 or "
            "more, one of the 8 experts dropped 0.13, the bias in the weights 0.10, no factor 0.6. "
            "Without a local expert nothing but 0 is right, so such rows cannot help.",
        )
    }
    baselines = ordered_baselines(library_first=True)
    starts = {"triton": TRITON_START, "cuda": CUDA_START}
    solution_scalars = {
        "local_expert_offset": "local_expert_offset",
        "routed_scaling_factor": ROUTED_SCALING_FACTOR,
    }
    published_gate = replace(
        FLASHINFER_BENCH,
        matched=0.95,
        source="flashinfer-bench 0.1.2: 1e-2 absolute or relative, 95 % of elements, all finite",
    )
    scales = moe_inputs.POSITIVE

    def __init__(self) -> None:
        self._dataset = find_dataset(DEFINITION)
        self._routing = moe_inputs.Routing(self._dataset)
        if self._dataset is not None:
            self.version = f"{self.version} with dataset {self._dataset.digest}"

    @property
    def notes(self) -> Mapping[str, str]:  # type: ignore[override]
        """Which routing tensors are used, and what the score is relative to."""
        inputs = self._dataset.note() if self._dataset else SYNTHESISED
        return {"inputs": inputs, "baseline": moe_cutlass.note(self.baselines)}

    def fill(
        self, workload: Workload, generator: torch.Generator, inputs: Mapping[str, torch.Tensor]
    ) -> None:
        """Normal activations and weights in 8 bits, none of them NaN; scales by variant; logits and
        bias as the records are distributed, drawn until no token's choice is close."""
        moe_inputs.fill_operands(self.scales, generator, inputs)
        self._routing.fill(workload, generator, inputs, (GROUPS, KEPT_GROUPS, TOP))

    def reference(
        self, workload: Workload, inputs: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """output [seq_len, 7168] in float64, expert by expert: 0.7 GB of weights at once."""
        import torch

        picked, weights = route(inputs)
        local = picked - workload.axes["local_expert_offset"]
        x, width = inputs["hidden_states"], workload.axes["intermediate_size"]
        output = torch.zeros(x.shape, dtype=torch.float64, device=x.device)
        for expert in range(workload.axes["num_local_experts"]):
            tokens, slots = (local == expert).nonzero(as_tuple=True)
            if not tokens.numel():
                continue
            first = _scaled(inputs["gemm1_weights"], inputs["gemm1_weights_scale"], expert)
            second = _scaled(inputs["gemm2_weights"], inputs["gemm2_weights_scale"], expert)
            for start in range(0, tokens.numel(), _TOKENS_AT_ONCE):
                mine = tokens[start : start + _TOKENS_AT_ONCE]
                scale = inputs["hidden_states_scale"][:, mine].double().T
                rows = x[mine].double() * scale.repeat_interleave(BLOCK, 1)
                between = rows @ first.T
                up, gate = between[:, :width], between[:, width:]
                part = gate.sigmoid().mul_(gate).mul_(up) @ second.T
                output.index_add_(0, mine, part * weights[mine, slots[start:][: len(mine)], None])
        return {"output": output}

    def work(self, workload: Workload, inputs: Mapping[str, torch.Tensor]) -> Work:
        """Both products of every token with every local expert that it chose, at half their number,
        since 8-bit tensor cores are twice as fast as 16-bit ones; the weights of the experts that
        are chosen, the tokens that choose one, routing and results once."""
        axes = workload.axes
        local = route(inputs)[0] - axes["local_expert_offset"]
        hit = (local >= 0) & (local < axes["num_local_experts"])
        pairs, tokens = float(hit.sum()), float(hit.any(1).sum())
        experts = int(local[hit].bincount().count_nonzero())
        width, between = axes["hidden_size"], axes["intermediate_size"]
        weights = 3.0 * width * between * (1 + 4 / BLOCK**2)
        return Work(
            flops=3.0 * pairs * width * between,
            bytes=experts * weights
            + tokens * width * (1 + 4 / BLOCK)
            + axes["seq_len"] * (4.0 * axes["num_experts"] + 2.0 * width),
        )


_TOKENS_AT_ONCE = 4096


class MoePublished(MoeSpec):
    """Scales of either sign, as the dataset's; the contest's gate."""

    name = f"{DEFINITION}@published"
    title = "DeepSeek-V3 mixture of experts, fp8 block scales, published inputs and gate"
    prose = _PROSE % (
        "Scales are normally distributed, of either sign, and outputs of the size 50,000.",
        "element by element: 90 % of all elements must be within 1 + 0.3 * |expected|, and the "
        "norm "
        "of the error may be 9 % of the whole.",
    )
    tolerances = {
        "output": Tolerance(
            absolute=1.0,
            relative=0.3,
            norm=9e-2,
            matched=0.9,
            why="The contest's rule per element. Shares that meet it on rows with a local expert, "
            "measured on a CPU on smaller sizes: bfloat16 0.992, C in 8 bits 0.953, A in 8 bits, "
            "too, 0.91. Half of the rows are 0 and count as met, which is why the norm is judged "
            "beside it: 4.5e-2 for the coarsest of these, 0.10 or more for the bias in the "
            "weights, "
            "a dropped expert or block.",
        )
    }
    # Of FlashInfer's route 14 to 60 % of the elements are within the published gate, which asks for
    # 95 %, of ours 89 % or more: the yardstick is the one that is nearer to passing.
    baselines = ordered_baselines(library_first=False)
    scales = moe_inputs.SIGNED


def route(inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The chosen experts and their weights [seq_len, 8] (int64, float64)."""
    import torch

    score = inputs["routing_logits"].double().sigmoid()
    biased = score + inputs["routing_bias"].double()
    tokens, experts = biased.shape
    groups = biased.view(tokens, GROUPS, experts // GROUPS)
    kept = groups.topk(2, -1).values.sum(-1).topk(KEPT_GROUPS, -1).indices
    allowed = torch.full_like(groups, -torch.inf)
    places = kept[..., None].expand(-1, -1, experts // GROUPS)
    allowed.scatter_(1, places, groups.gather(1, places))
    picked = allowed.view(tokens, experts).topk(TOP, -1).indices
    weights = score.gather(1, picked)
    return picked, weights / (weights.sum(-1, keepdim=True) + 1e-20) * ROUTED_SCALING_FACTOR


def _scaled(values: torch.Tensor, scales: torch.Tensor, expert: int) -> torch.Tensor:
    """One expert's matrix in float64."""
    scale = scales[expert].double().repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
    return values[expert].double().mul_(scale)

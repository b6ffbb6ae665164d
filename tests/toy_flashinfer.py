"""The tasks of suites/flashinfer at sizes for a CPU: few pages and experts, torch as the baseline.

Programs and tolerances are the real ones; sizes come from the axes.
"""

from __future__ import annotations

from harness.suite import Baseline, Suite, Task
from harness.types import Workload
from suites.flashinfer.gqa_decode import GqaPagedDecodeKv4, GqaPagedDecodeKv8
from suites.flashinfer.mla_decode import MlaPagedDecode
from suites.flashinfer.mla_prefill import MlaPagedPrefill
from suites.flashinfer.moe import MoePublished, MoeSpec
from suites.flashinfer.records import our_decode, our_prefill


def torch_alone(task: type[Task]) -> tuple[Baseline, ...]:
    """FlashInfer, where it is installed, does not run on a CPU."""
    return tuple(b for b in task.baselines if b.name == "torch")


_DECODE = (our_decode("odd", 1, 21, 41), our_decode("odd", 3, 127, 131))
_DECODE_HELD_OUT = (
    our_decode("empty", 3, 20, 64),
    our_decode("single", 5, 5, 9),
    our_decode("shared", 4, 90, 128),
    our_decode("permuted", 3, 50, 99),
)
_PREFILL = (our_prefill("odd", 1, 2, 12, 20), our_prefill("odd", 3, 21, 40, 64))
_PREFILL_HELD_OUT = (
    our_prefill("empty", 3, 3, 9, 40),
    our_prefill("single", 5, 5, 5, 9),
    our_prefill("shared", 2, 6, 40, 64),
    our_prefill("permuted", 2, 13, 17, 64),
)


def moe_workload(
    name: str, tokens: int, offset: int, *, experts: int = 64, local: int = 16, hidden: int = 256,
    between: int = 128,
) -> Workload:  # fmt: skip
    axes = {
        "seq_len": tokens, "num_experts": experts, "num_local_experts": local,
        "hidden_size": hidden, "intermediate_size": between, "gemm1_out_size": 2 * between,
        "num_hidden_blocks": hidden // 128, "num_intermediate_blocks": between // 128,
        "num_gemm1_out_blocks": 2 * between // 128, "local_expert_offset": offset,
    }  # fmt: skip
    return Workload(f"{name}_t{tokens}_o{offset}", axes)


_MOE = (moe_workload("odd", 3, 16), moe_workload("odd", 9, 48))
_MOE_HELD_OUT = tuple(moe_workload("ours", tokens, 32) for tokens in (2, 5, 7, 8))


class ToyKv4(GqaPagedDecodeKv4):
    search = final = _DECODE
    held_out = _DECODE_HELD_OUT
    baselines = torch_alone(GqaPagedDecodeKv4)


class ToyKv8(GqaPagedDecodeKv8):
    search = final = _DECODE
    held_out = _DECODE_HELD_OUT
    baselines = torch_alone(GqaPagedDecodeKv8)


class ToyMlaDecode(MlaPagedDecode):
    search = final = _DECODE
    held_out = _DECODE_HELD_OUT
    baselines = torch_alone(MlaPagedDecode)


class ToyMlaPrefill(MlaPagedPrefill):
    search = final = _PREFILL
    held_out = _PREFILL_HELD_OUT
    baselines = torch_alone(MlaPagedPrefill)


class ToyMoeSpec(MoeSpec):
    search = final = _MOE
    held_out = _MOE_HELD_OUT
    baselines = torch_alone(MoeSpec)


class ToyMoePublished(MoePublished):
    search = final = _MOE
    held_out = _MOE_HELD_OUT
    baselines = torch_alone(MoePublished)


suite = Suite(
    "toy-flashinfer",
    "Toy",
    (ToyKv4(), ToyKv8(), ToyMlaDecode(), ToyMlaPrefill(), ToyMoeSpec(), ToyMoePublished()),
    (GqaPagedDecodeKv4.name,),
    "triton",
)

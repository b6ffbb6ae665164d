"""The fp8 MoE by FlashInfer's CUTLASS route on Hopper, as a baseline's program.

FlashInfer's `cutlass_fused_moe` takes bfloat16 activations and chosen experts. So routing and
dequantising are ours, in Triton; the library quantises the activations again, in blocks of 128, and
multiplies by DeepGEMM's kernels. Within our tolerances in both variants (the norm of the error is
4.4 %), far outside FlashInfer-Bench's published gate: where that gate counts it is no yardstick.

DeepGEMM compiles a kernel when it first needs one. `prepare --moe` has it compile all of them; in a
worker the program names their folder, and a compiler that does nothing.

Covered: the sizes of the records; NVIDIA's Hopper; the baseline, where it is ready.
Not covered: offsets that are no multiple of the local experts; compiling (prepare_moe.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.suite import Baseline
from suites.flashinfer.flashinfer_package import HEAD, INSTALL_MOE, installed_version, moe_is_ready
from suites.flashinfer.moe_code import ROUTE

NAME = "FlashInfer, CUTLASS"

# Of FlashInfer's sources of the library, those that this path calls; the longest to compile first.
SOURCES = (
    "cutlass_fused_moe_instantiation.cu",
    "fp8_blockscale_gemm.cu",
    "flashinfer_cutlass_fused_moe_binding.cu",
    "moe_gemm_kernels_bf16_fp8.cu",
    "moe_gemm_tma_warp_specialized_input.cu",
    "memoryUtils.cu",
    "preQuantScaleKernel.cu",
    "deepgemm_jit_setup.cu",
    "cutlass_heuristic.cpp",
    "envUtils.cpp",
    "logger.cpp",
    "stringUtils.cpp",
    "tllmException.cpp",
    "lora.cpp",
)

CUTLASS = (
    HEAD
    + """
from pathlib import Path

from flashinfer.fused_moe import cutlass_fused_moe
from flashinfer.fused_moe.core import get_cutlass_fused_moe_module
from flashinfer.jit import env as places

COMPILED = Path(flashinfer.__file__).parent / "data" / "aot"
# The library reads both when it is loaded.
os.environ.setdefault("TRTLLM_DG_CACHE_DIR", str(COMPILED / "deep_gemm"))
os.environ.setdefault("TRTLLM_DG_NVCC_COMPILER", "false")
usual = places.FLASHINFER_AOT_DIR
places.FLASHINFER_AOT_DIR = COMPILED / "harness_moe"  # FlashInfer's own place is for the whole one
try:
    get_cutlass_fused_moe_module("90")  # loaded, and kept for every call
finally:
    places.FLASHINFER_AOT_DIR = usual

"""
    + ROUTE
    + '''

@triton.jit
def multiplied(x, scale, out, tokens, H: tl.constexpr, BLOCK: tl.constexpr):
    """8-bit activations times their scales, in bfloat16."""
    token = tl.program_id(0).to(tl.int64)
    feature = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + token * H + feature).to(tl.float32)
    value *= tl.load(scale + (feature // 128) * tokens + token)
    tl.store(out + token * H + feature, value.to(tl.bfloat16))


def run(inputs, outputs):
    tokens, h = inputs.seq_len, inputs.hidden_size
    chosen, weights = routed(inputs)
    x = torch.empty((tokens, h), dtype=torch.bfloat16, device=chosen.device)
    multiplied[(tokens, h // 1024)](
        inputs.hidden_states, inputs.hidden_states_scale, x, tokens, H=h, BLOCK=1024, num_warps=4
    )
    cutlass_fused_moe(
        x, chosen, weights, inputs.gemm1_weights, inputs.gemm2_weights, torch.bfloat16,
        quant_scales=[inputs.gemm1_weights_scale, inputs.gemm2_weights_scale],
        ep_size=inputs.num_experts // inputs.num_local_experts,
        ep_rank=inputs.local_expert_offset // inputs.num_local_experts,
        output=outputs.output, use_deepseek_fp8_block_scale=True,
    )
'''
)


def baseline() -> Baseline | None:
    """FlashInfer's, where it is installed and prepared; None elsewhere, for it could not run."""
    version = installed_version()
    if version is None or not moe_is_ready():
        return None
    how = f"{len(SOURCES)} sources of its fused_moe_90, DeepGEMM, routing in Triton"
    return Baseline(NAME, f"{version}: {how}, 1", CUTLASS)


def note(baselines: Sequence[Baseline]) -> str:
    """What a manifest says of the choice."""
    first, *others = baselines
    if first.name == NAME:
        return f"FlashInfer's CUTLASS route on Hopper, {first.version}"
    ours = "a Triton program of this project"
    if NAME in [other.name for other in others]:
        return f"{ours}; FlashInfer's CUTLASS route, timed beside it, is too coarse for the gate"
    return f"{ours}; FlashInfer's CUTLASS route takes part after: {INSTALL_MOE}"

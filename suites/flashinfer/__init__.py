"""suites/flashinfer: FlashInfer-Bench's paged attention and fp8 MoE, for candidates in Triton.

gqa_paged_decode_h32_kv4_d128_ps1, ..._kv8_...    grouped-query attention, one step of decoding
mla_paged_decode_h16_ckv512_kpe64_ps1             DeepSeek's latent attention, one step of decoding
mla_paged_prefill_causal_h16_ckv512_kpe64_ps1     the same with many queries per sequence
moe_fp8_block_scale_...@spec, ...@published       DeepSeek-V3's experts, in two variants

Covered: `suite`. Workloads are the 200 public records; see docs/suite-flashinfer.md.
Not covered: FlashInfer-Bench's other operators; published kernels.
"""

from __future__ import annotations

from harness.suite import Suite
from suites.flashinfer.flashinfer_package import NEEDS, REQUIREMENT
from suites.flashinfer.gqa_decode import GqaPagedDecodeKv4, GqaPagedDecodeKv8
from suites.flashinfer.mla_decode import MlaPagedDecode
from suites.flashinfer.mla_prefill import MlaPagedPrefill
from suites.flashinfer.moe import MoePublished, MoeSpec

suite = Suite(
    name="flashinfer",
    title="FlashInfer-Bench's paged attention and fp8 MoE on an NVIDIA GPU",
    tasks=(
        GqaPagedDecodeKv4(),
        GqaPagedDecodeKv8(),
        MlaPagedDecode(),
        MlaPagedPrefill(),
        MoeSpec(),
        MoePublished(),
    ),
    default_tasks=("gqa_paged_decode_h32_kv4_d128_ps1",),
    language="triton",
    packages=(REQUIREMENT, *NEEDS),
    prepare="suites.flashinfer.prepare",
)

"""suites/gpumode: GPUMode's TriMul, in two variants, for candidates in Triton.

trimul@spec      real masks and random LayerNorm parameters; the default
trimul@upstream  masks of ones, as GPUMode's evaluator tests by mistake; for comparability

Covered: `suite` and `trimul`, two names of the same suite. See docs/suite-gpumode.md.
Not covered: GPUMode's other problems; the published entries.
"""

from __future__ import annotations

from harness.suite import Suite
from suites.gpumode.trimul_task import TriMulSpec, TriMulUpstream

suite = Suite(
    name="gpumode",
    title="GPUMode's TriMul on an NVIDIA GPU",
    tasks=(TriMulSpec(), TriMulUpstream()),
    default_tasks=("trimul@spec",),
    language="triton",
)
trimul = suite

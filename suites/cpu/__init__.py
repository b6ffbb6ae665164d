"""suites/cpu: three float32 tasks in C++ that run on any machine with a compiler.

matmul            a matrix product; its design space's gains are coordinated
softmax           row-wise softmax; three large gains, then a noisy plateau
gqa_paged_decode  FlashInfer-Bench's decode attention at CPU size; vectors, shared heads and
                  threads gain alone, the rest at best beside them

Covered: `suite`, what `harness compare` runs by default. See docs/suite-cpu.md.
Not covered: other data types, and tasks that last longer than a few milliseconds per call.
"""

from __future__ import annotations

from harness.suite import Suite
from suites.cpu.gqa_paged_decode import GqaPagedDecode
from suites.cpu.matmul import Matmul
from suites.cpu.softmax import Softmax

suite = Suite(
    name="cpu",
    title="Float32 kernels in C++ on a CPU",
    tasks=(Matmul(), Softmax(), GqaPagedDecode()),
    default_tasks=("matmul", "softmax", "gqa_paged_decode"),
    language="cpp",
)

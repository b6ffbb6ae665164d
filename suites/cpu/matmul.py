"""cpu/matmul: a float32 matrix product, row-major, of shapes that are not all square.

Covered: the prose, workloads, input contents, float64 reference, tolerances, compulsory work, the
torch baseline and the starting program.
Not covered: the designs that the simulated model writes (matmul_space.py); timing and checking.
"""

from __future__ import annotations

import numpy as np

from harness.suite import Arrays, Axis, Baseline, NumpyTask, Signature, Tensor, Tolerance, Work
from harness.types import Workload
from suites.cpu.matmul_space import MatmulSpace

_PROSE = """\
Multiply two matrices of 32-bit floats: C = A B.

A has m rows and k columns, B has k rows and n columns, C has m rows and n columns. All three \
are dense and row-major: element (i, j) of C is at c[i * n + j] and equals the sum over p of a[i \
* k + p] * b[p * n + j]. Every element of C must be written; its memory holds garbage before the \
call. A and B must not be changed and do not overlap C.

Sizes are any positive integers: expect tall, wide, deep and prime ones, and sizes of 1. Each \
array starts on a 64-byte boundary, but its later rows need not.

All values are finite. Magnitudes of the inputs may span a dozen powers of two. The result is \
compared with a 64-bit computation at a tolerance that 32-bit multiplication and addition in any \
order meet, and 16-bit formats or a dropped term do not.

You may use OpenMP threads, compiler vector extensions, and the workspace for packed copies. No \
library may be called for the product. Inputs change with every call, so nothing can be kept \
from one call to the next."""

_BASELINE = """\
import torch


def run(inputs, outputs):
    torch.matmul(inputs.a, inputs.b, out=outputs.c)
"""


def _workload(m: int, n: int, k: int) -> Workload:
    return Workload(f"m{m}_n{n}_k{k}", {"m": m, "n": n, "k": k})


_SEARCH = (
    _workload(2048, 32, 256),
    _workload(301, 287, 263),
    _workload(128, 32, 4096),
    _workload(1500, 47, 300),
)


class Matmul(NumpyTask):
    """C = A B in float32; naive calls take 0.7 to 3 ms on two current x86-64 cores."""

    name = "matmul"
    version = "1"
    title = "Matrix product, float32"
    prose = _PROSE
    signature = Signature(
        axes=(
            Axis("m", "rows of A and C"),
            Axis("n", "columns of B and C"),
            Axis("k", "columns of A, rows of B"),
        ),
        inputs=(
            Tensor("a", "float32", ("m", "k"), "left matrix A"),
            Tensor("b", "float32", ("k", "n"), "right matrix B"),
        ),
        outputs=(Tensor("c", "float32", ("m", "n"), "the product C"),),
    )
    search = _SEARCH
    final = (
        *_SEARCH,
        _workload(320, 320, 320),
        _workload(1024, 64, 512),
        _workload(97, 1009, 211),
        _workload(509, 211, 307),
    )
    held_out = (
        _workload(1, 1, 1),
        _workload(1, 257, 63),
        _workload(127, 1, 31),
        _workload(13, 17, 1),
        _workload(131, 67, 1021),
        _workload(8, 16, 128),
    )
    tolerances = {
        "c": Tolerance(
            absolute=1.5e-3,
            relative=0.0,
            norm=1e-5,
            why="Seven and eight times the largest errors (2.2e-4; 1.2e-6) of the naive program "
            "and nine honest designs against float64, over 12 calls of every workload; the largest "
            "is one running sum over k = 4096. On the search workloads, factors rounded to float16 "
            "give a norm of 2.6e-4, a dropped term 1.3e-2 or more.",
        )
    }
    baselines = (Baseline("torch", "torch.matmul, out=, 1", _BASELINE),)
    design_space = MatmulSpace()
    starts = {"cpp": design_space.render(design_space.start())}

    def fill(self, workload: Workload, rng: np.random.Generator, inputs: Arrays) -> None:
        """Uniform values in [-1, 1). About half of the columns of A are scaled by a power of two
        that the row of B divides out: the products stay, the magnitudes do not. One row of A is
        zero where A has more than one."""
        for array in inputs.values():
            rng.random(dtype=np.float32, out=array)
            array *= np.float32(2)
            array -= np.float32(1)
        m, k = workload.axes["m"], workload.axes["k"]
        exponents = (rng.integers(-6, 7, size=k) * rng.integers(2, size=k)).astype(np.int32)
        inputs["a"] *= np.ldexp(np.float32(1), exponents)
        inputs["b"] *= np.ldexp(np.float32(1), -exponents)[:, None]
        if m > 1:
            inputs["a"][int(rng.integers(m))] = 0

    def reference(self, workload: Workload, inputs: Arrays) -> Arrays:
        """C [m, n] in float64."""
        return {"c": inputs["a"].astype(np.float64) @ inputs["b"].astype(np.float64)}

    def work(self, workload: Workload, inputs: Arrays) -> Work:
        """m n k multiplications and additions; A, B and C once."""
        m, n, k = (workload.axes[axis] for axis in "mnk")
        return Work(flops=2.0 * m * n * k, bytes=4.0 * (m * k + k * n + m * n))

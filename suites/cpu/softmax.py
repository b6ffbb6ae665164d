"""cpu/softmax: a row-wise, numerically stable softmax in float32.

Covered: the prose, workloads, input contents, float64 reference, tolerances, compulsory work, the
torch baseline and the starting program.
Not covered: the designs that the simulated model writes (softmax_space.py); rows that are entirely
minus infinity, NaN and plus infinity, which no input contains.
"""

from __future__ import annotations

import numpy as np

from harness.suite import Arrays, Axis, Baseline, Signature, Task, Tensor, Tolerance, Work
from harness.types import Workload
from suites.cpu.softmax_space import SoftmaxSpace

_PROSE = """\
Compute the softmax of every row of a matrix of 32-bit floats.

x and y have `rows` rows and `columns` columns and are dense and row-major: element (i, j) is at \
index i * columns + j. For every row, y[i, j] = exp(x[i, j]) / (sum over l of exp(x[i, l])), so \
that each row of y is positive and sums to one. Every element of y must be written; its memory \
holds garbage before the call. x must not be changed and does not overlap y.

The computation must be numerically stable: values of x reach a magnitude of 10,000, rows whose \
values are all far below or far above zero occur, and so do rows with one value far above the \
rest. Some values are minus infinity (masked out): their result is 0. At least one value of each \
row is finite; NaN and plus infinity do not occur.

Sizes are any positive integers: expect short, long and prime row lengths, one row, and rows of \
one element. Each array starts on a 64-byte boundary, but its later rows need not.

The result is compared with a 64-bit computation, element by element with a relative tolerance \
that 32-bit arithmetic with a 32-bit accurate exponential meets, and 16-bit formats or a rough \
exponential do not. Results below 1e-30 may be rounded to 0.

You may use OpenMP threads, compiler vector extensions, and the workspace. No library may be \
called but the C library's mathematical functions. Inputs change with every call, so nothing can \
be kept from one call to the next."""

_BASELINE = """\
import torch


def run(inputs, outputs):
    torch.softmax(inputs.x, dim=1, out=outputs.y)
"""


def _workload(rows: int, columns: int) -> Workload:
    return Workload(f"r{rows}_c{columns}", {"rows": rows, "columns": columns})


_SEARCH = (
    _workload(1024, 512),
    _workload(128, 4096),
    _workload(3001, 127),
    _workload(67, 7919),
)


class Softmax(Task):
    """y = softmax(x) along rows in float32; naive calls take 1 to 3 ms on a current x86-64 core."""

    name = "softmax"
    version = "1"
    title = "Row-wise softmax, float32"
    prose = _PROSE
    signature = Signature(
        axes=(Axis("rows", "independent rows"), Axis("columns", "elements of a row")),
        inputs=(Tensor("x", "float32", ("rows", "columns"), "logits"),),
        outputs=(Tensor("y", "float32", ("rows", "columns"), "softmax of every row"),),
    )
    search = _SEARCH
    final = (
        *_SEARCH,
        _workload(256, 2048),
        _workload(4096, 100),
        _workload(701, 701),
        _workload(50, 8000),
    )
    held_out = (
        _workload(1, 1),
        _workload(257, 1),
        _workload(1, 17),
        _workload(3, 8191),
        _workload(1009, 31),
        _workload(64, 64),
    )
    tolerances = {
        "y": Tolerance(
            absolute=1e-30,
            relative=2e-4,
            norm=1e-4,
            why="Six times the largest errors (3.3e-5 relative; 1.7e-5 norm) of the naive program "
            "and of eight random honest designs against float64, over 12 calls of every workload; "
            "the largest is one running sum over 7919 columns. On the search workloads, results "
            "rounded to float16 are off by 4.9e-4 or more in some element, logits by 5.0e-4. The "
            "absolute part admits a flush of results far below what float32 sums notice.",
        )
    }
    baselines = (Baseline("torch", "torch.softmax, out=, 1", _BASELINE),)
    design_space = SoftmaxSpace()
    starts = {"cpp": design_space.render(design_space.start())}

    def fill(self, workload: Workload, rng: np.random.Generator, inputs: Arrays) -> None:
        """Uniform logits of a spread between 2 and 50 per call; then, in about one call in four
        each: offsets of up to 9,900 per row, one outlier per row, a tenth of each row masked."""
        x = inputs["x"]
        rows, columns = x.shape
        rng.random(dtype=np.float32, out=x)
        x *= np.float32(rng.choice((2.0, 10.0, 50.0)))
        kind = int(rng.integers(4))
        if kind == 1:
            x += rng.uniform(-9900, 9900, size=(rows, 1)).astype(np.float32)
        elif kind == 2:
            x[np.arange(rows), rng.integers(columns, size=rows)] += np.float32(20)
        elif kind == 3:
            masked = rng.integers(columns, size=(rows, max(1, columns // 10)))
            kept = rng.integers(columns, size=rows)
            values = x[np.arange(rows), kept].copy()
            x[np.arange(rows)[:, None], masked] = -np.inf
            x[np.arange(rows), kept] = values

    def reference(self, workload: Workload, inputs: Arrays) -> Arrays:
        """softmax [rows, columns] in float64."""
        y = inputs["x"].astype(np.float64)
        y -= y.max(axis=1, keepdims=True)
        np.exp(y, out=y)
        y /= y.sum(axis=1, keepdims=True)
        return {"y": y}

    def work(self, workload: Workload, inputs: Arrays) -> Work:
        """Per element one subtraction, one exponential (counted as one), one addition, one
        multiplication; x read and y written once."""
        elements = float(workload.axes["rows"] * workload.axes["columns"])
        return Work(flops=4.0 * elements, bytes=8.0 * elements)

"""cpu/softmax: a row-wise, numerically stable softmax in float32.

Covered: the prose, workloads, input contents, float64 reference, tolerances, compulsory work, the
torch baseline and the starting program.
Not covered: the designs that the simulated model writes (softmax_space.py); rows that are entirely
minus infinity, NaN and plus infinity, which no input contains.
"""

from __future__ import annotations

import numpy as np

from harness.suite import (
    Array,
    Arrays,
    Axis,
    Baseline,
    NumpyTask,
    Signature,
    Tensor,
    Tolerance,
    Work,
)
from harness.types import Workload
from suites.cpu.softmax_space import SoftmaxSpace
from suites.cpu.uniform import fill_uniform

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
that 32-bit arithmetic with a 32-bit accurate exponential meets, and 16-bit formats or an \
exponential that is wrong in the 14th bit do not. Results below 1e-30 may be rounded to 0.

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


# Spreads between about 10 and 40, and single values 16 to 25 above thousands of others, are left
# out: there one running float32 sum, which is honest, loses up to 3e-5, and a tolerance wide enough
# for it would admit an exponential of 14 bits.
_SPREADS = np.array([2.0, 8.0, 60.0, 8.0, 8.0, 8.0, 2.0, 8.0])


def _offset(rng: np.random.Generator, x: Array) -> Array:
    """All values far below or far above zero."""
    x += rng.uniform(-9900, 9900, size=(len(x), 1)).astype(np.float32)
    return x


def _peak(rng: np.random.Generator, x: Array) -> Array:
    """One value far above the rest, in any column."""
    columns = rng.integers(x.shape[1], size=len(x))
    x[np.arange(len(x)), columns] += rng.uniform(120, 9900, size=len(x)).astype(np.float32)
    return x


def _levels(rng: np.random.Generator, x: Array) -> Array:
    """The columns up to a random one far above or far below those behind it."""
    cuts = rng.integers(x.shape[1], size=(len(x), 1))
    steps = rng.uniform(120, 9900, size=(len(x), 1)) * rng.choice((-1, 1), size=(len(x), 1))
    x += np.where(np.arange(x.shape[1]) <= cuts, np.float32(0), steps.astype(np.float32))
    return x


def _ramp(rng: np.random.Generator, x: Array) -> Array:
    """Rising or falling by 120 to 400 along the row."""
    steps = rng.uniform(120, 400, size=(len(x), 1)) * rng.choice((-1, 1), size=(len(x), 1))
    x += steps.astype(np.float32) * np.linspace(-0.5, 0.5, x.shape[1], dtype=np.float32)
    return x


def _masked(rng: np.random.Generator, x: Array) -> Array:
    """A tenth of the values minus infinity, and in half of the rows the first columns too."""
    rows, columns = x.shape
    every, kept = np.arange(rows), rng.integers(columns, size=rows)
    values = x[every, kept]
    x[every[:, None], rng.integers(columns, size=(rows, max(1, columns // 10)))] = -np.inf
    prefix = rng.integers(columns, size=(rows, 1)) * rng.integers(2, size=(rows, 1))
    x[np.arange(columns) < prefix] = -np.inf
    x[every, kept] = values
    return x


_SHAPES = {3: _offset, 4: _peak, 5: _levels, 6: _ramp, 7: _masked}

_SEARCH = (
    _workload(1024, 512),
    _workload(128, 4096),
    _workload(3001, 127),
    _workload(67, 7919),
)


class Softmax(NumpyTask):
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
            relative=3.5e-5,
            norm=2e-5,
            why="Seven times the largest errors (5.4e-6 relative; 2.8e-6 norm; torch 2.3e-6 and "
            "2.7e-7) of the naive program and of honest designs against float64: 8 designs over 12 "
            "calls and 69 over 3 calls of every workload. The largest is one running sum over 8000 "
            "columns; inputs on which such a sum loses more are not drawn. A cubic exponential "
            "(7.5e-5) exceeds it on every search workload in every call tried; an exponential "
            "correct to 1.5e-5 would not. The absolute part admits a flush of results far below "
            "what float32 sums notice.",
        )
    }
    baselines = (Baseline("torch", "torch.softmax, out=, 1", _BASELINE),)
    design_space = SoftmaxSpace()
    starts = {"cpp": design_space.render(design_space.start())}

    def fill(self, workload: Workload, rng: np.random.Generator, inputs: Arrays) -> None:
        """Each row is of a kind drawn for it, in equal shares, so that every call of 8 rows or more
        has all kinds: uniform logits of a spread near 2, 8 or 60; a large offset; one value far
        above the rest; two levels far apart; a long ramp; masked entries. What is fresh per
        element: 16 random bits, times a fresh factor per row."""
        x = inputs["x"]
        rows = len(x)
        fill_uniform(rng, x)
        kinds = rng.permutation(rows) % len(_SPREADS) if rows > 1 else rng.integers(8, size=1)
        spreads = _SPREADS[kinds] * rng.uniform(0.9, 1.1, size=rows)
        x *= spreads.astype(np.float32)[:, None]
        for kind, shape in _SHAPES.items():
            chosen = np.flatnonzero(kinds == kind)
            x[chosen] = shape(rng, x[chosen])

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

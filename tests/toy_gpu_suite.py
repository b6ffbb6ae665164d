"""A small TorchTask for tests of the GPU evaluator: y = x * scale, row by row, with a row sum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.suite import (
    Axis,
    Baseline,
    PublishedGate,
    Signature,
    Suite,
    Tensor,
    Tolerance,
    TorchTask,
    Work,
)
from harness.types import Workload

if TYPE_CHECKING:
    import torch

START = """\
import torch
import triton
import triton.language as tl


@triton.jit
def scale_rows(x, scale, y, total, n, COLUMNS: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, COLUMNS)
    values = tl.load(x + row * n + columns, mask=columns < n, other=0.0)
    factors = tl.load(scale + columns, mask=columns < n, other=0.0)
    tl.store(y + row * n + columns, values * factors, mask=columns < n)
    tl.store(total + row, tl.sum(values * factors, axis=0))


def run(inputs, outputs):
    columns = triton.next_power_of_2(inputs.n)
    scale_rows[(inputs.rows,)](
        inputs.x, inputs.scale, outputs.y, outputs.total, inputs.n, columns
    )
"""

TORCH = """\
import torch


def run(inputs, outputs):
    y = inputs.x * inputs.scale
    return y, y.sum(dim=1)
"""

CUDA = """\
#include "task.h"

__global__ void scale_rows(const float* x, const float* scale, float* y, float* total, int n) {
    __shared__ float sums[256];
    float sum = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        float value = x[(size_t)blockIdx.x * n + i] * scale[i];
        y[(size_t)blockIdx.x * n + i] = value;
        sum += value;
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) total[blockIdx.x] = sums[0];
}

extern "C" int run(const Inputs* in, const Outputs* out, void* workspace, void* stream) {
    scale_rows<<<in->rows, 256, 0, (cudaStream_t)stream>>>(in->x, in->scale, out->y, out->total,
                                                           (int)in->n);
    return (int)cudaGetLastError();
}
"""


def _workload(rows: int, n: int) -> Workload:
    return Workload(f"rows{rows}_n{n}", {"rows": rows, "n": n})


_TOLERANCE = Tolerance(1e-4, 1e-4, 1e-4, "float32 sums of at most a few thousand terms, times ten")


class ScaleRows(TorchTask):
    """Small for the interpreter; `final` has sizes that a GPU is timed on."""

    name = "scale_rows"
    version = "1"
    title = "Scaled rows and their sums"
    prose = "y = x * scale, row by row; total is the sum of each row of y."
    signature = Signature(
        axes=(Axis("rows", "rows of x"), Axis("n", "columns of x")),
        inputs=(
            Tensor("x", "float32", ("rows", "n"), "values"),
            Tensor("scale", "float32", ("n",), "factors"),
        ),
        outputs=(
            Tensor("y", "float32", ("rows", "n"), "products"),
            Tensor("total", "float32", ("rows",), "sums"),
        ),
    )
    libraries = "allowed"
    search = (_workload(3, 8), _workload(5, 33))
    final = search
    held_out = (_workload(1, 1),)
    tests = (_workload(2, 17),)
    tolerances = {"y": _TOLERANCE, "total": _TOLERANCE}
    baselines = (Baseline("torch", "1", TORCH),)
    starts = {"triton": START, "python": TORCH, "cuda": CUDA}

    def fill(
        self, workload: Workload, generator: torch.Generator, inputs: Mapping[str, torch.Tensor]
    ) -> None:
        for tensor in inputs.values():
            tensor.normal_(generator=generator)

    def reference(
        self, workload: Workload, inputs: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        y = inputs["x"].double() * inputs["scale"].double()
        return {"y": y, "total": y.sum(dim=1)}

    def work(self, workload: Workload, inputs: Mapping[str, torch.Tensor]) -> Work:
        size = workload.axes["rows"] * workload.axes["n"]
        return Work(2.0 * size, 8.0 * size)


class LargeRows(ScaleRows):
    """The same at sizes that keep a GPU busy."""

    name = "large_rows"
    search = (_workload(4096, 4096), _workload(8192, 5000))
    final = (*search, _workload(16384, 2048))
    held_out = (_workload(1, 1), _workload(7, 4099))
    tests = (_workload(33, 1000),)


class GatedRows(ScaleRows):
    """The same, as if kernels for it had been published under another rule."""

    name = "gated_rows"
    published_gate = PublishedGate(1e-2, 1e-2, 1.0, "1e-2 absolute or relative")


suite = Suite("toy-gpu", "Toy", (ScaleRows(),), ("scale_rows",), "triton")
large = Suite("toy-gpu-large", "Toy", (LargeRows(),), ("large_rows",), "triton")
gated = Suite("toy-gpu-gated", "Toy", (GatedRows(),), ("gated_rows",), "triton")

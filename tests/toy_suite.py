"""A suite of one small task for tests: y = 2 x + 1, with an index tensor that permutes x.

Covered: every feature that the evaluator's tests need (plan, odd sizes, several outputs).
Not covered: anything worth optimising.
"""

from __future__ import annotations

import numpy as np

from harness.suite import (
    Arrays,
    Axis,
    Baseline,
    NumpyTask,
    Signature,
    Suite,
    Tensor,
    Tolerance,
    Work,
)
from harness.types import Workload

START = """\
#include "task.h"
extern "C" int run(const Inputs* in, const Outputs* out, void*, void*) {
    float sum = 0;
    for (int64_t i = 0; i < in->n; i++) {
        float x = in->x[in->order[i]];
        out->y[i] = 2.0f * x + 1.0f;
        sum += x;
    }
    out->total[0] = sum;
    return 0;
}
"""

BASELINE = """\
import torch

def run(inputs, outputs):
    x = inputs.x[inputs.order.long()]
    torch.add(torch.mul(x, 2.0), 1.0, out=outputs.y)
    outputs.total[0] = x.sum()
"""


def _workload(n: int) -> Workload:
    return Workload(f"n{n}", {"n": n, "one": 1})


class Toy(NumpyTask):
    """y[i] = 2 x[order[i]] + 1, total = sum of x."""

    name = "toy"
    version = "1"
    title = "Toy"
    libraries = "allowed"
    prose = "y[i] = 2 x[order[i]] + 1; total = sum of all x."
    signature = Signature(
        (Axis("n", "elements"), Axis("one", "always 1")),
        (
            Tensor("x", "float32", ("n",), "values"),
            Tensor("order", "int32", ("n",), "a permutation", index=True),
        ),
        (
            Tensor("y", "float32", ("n",), "result"),
            Tensor("total", "float32", ("one",), "sum of x"),
        ),
    )
    search = (_workload(4096), _workload(20000))
    final = (*search, _workload(33333))
    held_out = (_workload(1), _workload(997))
    tolerances = {
        "y": Tolerance(1e-6, 1e-6, 1e-6, "float32 rounding of two operations"),
        "total": Tolerance(1e-2, 1e-4, 1e-3, "float32 sum of up to 33,333 values in any order"),
    }
    baselines = (Baseline("torch", "1", BASELINE),)
    starts = {"cpp": START}

    def fill(self, workload: Workload, rng: np.random.Generator, inputs: Arrays) -> None:
        rng.random(dtype=np.float32, out=inputs["x"])
        inputs["order"][:] = rng.permutation(workload.axes["n"]).astype(np.int32)

    def reference(self, workload: Workload, inputs: Arrays) -> Arrays:
        x = inputs["x"].astype(np.float64)
        return {"y": 2 * x[inputs["order"]] + 1, "total": np.array([x.sum()])}

    def work(self, workload: Workload, inputs: Arrays) -> Work:
        n = workload.axes["n"]
        return Work(3.0 * n, 12.0 * n)


suite = Suite("toy", "Toy tasks for tests", (Toy(),), ("toy",), "cpp")

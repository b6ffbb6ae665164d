"""TriMul at sizes for the interpreter, as both variants, and submissions in plain torch: an honest
one, and one for each thing that the leaderboard must tell apart.

Each is a text in GPUMode's format; they share `_HEAD`.
"""

from __future__ import annotations

from dataclasses import replace

from harness.suite import Suite
from harness.types import Workload
from suites.gpumode.trimul_task import TriMulSpec, TriMulUpstream


def _workload(n: int, batch: int, dim: int, mask: str) -> Workload:
    axes = {"batch": batch, "n": n, "dim": dim, "hidden": 8}
    return Workload(f"n{n}_b{batch}_d{dim}_{mask}_normal", axes)


_FINAL = (_workload(5, 1, 16, "nomask"), _workload(6, 2, 16, "mask"))
_TESTS = (_workload(4, 1, 8, "mask"),)
_HELD_OUT = (_workload(7, 1, 8, "mask"),)


class ToySpec(TriMulSpec):
    name = "toy@spec"
    search = final = _FINAL
    tests = _TESTS
    held_out = _HELD_OUT
    # Sums of 8 terms are smaller than of 128: so the tolerance is, too.
    tolerances = {"out": replace(TriMulSpec.tolerances["out"], absolute=2e-3)}


class ToyUpstream(TriMulUpstream):
    name = "toy@upstream"
    search = final = _FINAL
    tests = _TESTS
    held_out = _HELD_OUT
    tolerances = ToySpec.tolerances


suite = Suite("toy-trimul", "Toy", (ToySpec(), ToyUpstream()), ("toy@spec",), "triton")

_HEAD = '''\
#!POPCORN leaderboard trimul
"""A docstring comes first."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from task import input_t, output_t


def plan(inputs):
    raise RuntimeError("a submission's own function that happens to be called plan")


def run(x, mask, weights):
    """Also this name is the submission's own."""
    hidden = weights["left_proj.weight"].shape[0]
    y = F.layer_norm(x, x.shape[-1:], weights["norm.weight"], weights["norm.bias"], 1e-5)
    mask = mask.unsqueeze(-1)

    def factor(side):
        gate = torch.sigmoid(y @ weights[f"{side}_gate.weight"].t())
        return (y @ weights[f"{side}_proj.weight"].t()) * mask * gate

    gate = torch.sigmoid(y @ weights["out_gate.weight"].t())
    product = torch.einsum("bikh,bjkh->bijh", factor("left"), factor("right"))
    norm = (weights["to_out_norm.weight"], weights["to_out_norm.bias"], 1e-5)
    return (F.layer_norm(product, (hidden,), *norm) * gate) @ weights["to_out.weight"].t()


'''

HONEST = (
    _HEAD
    + """\
def custom_kernel(data: input_t) -> output_t:
    x, mask, weights, config = data
    assert config == {"dim": x.shape[-1], "hidden_dim": 8}
    return run(x, mask, weights)
"""
)

CACHING = (
    _HEAD
    + """\
def custom_kernel(data: input_t) -> output_t:
    x, mask, weights, _ = data
    if "packed" not in weights:
        packed = {name: tensor.clone() for name, tensor in weights.items()}
        weights["packed"] = (packed, torch.empty_like(x))
    packed, out = weights["packed"]
    return out.copy_(run(x, mask, packed))
"""
)

ONCE_PER_DICTIONARY = (
    _HEAD
    + """\
import time


def custom_kernel(data: input_t) -> output_t:
    x, mask, weights, _ = data
    if "ready" not in weights:
        time.sleep(0.02)
        weights["ready"] = True
    return run(x, mask, {k: v for k, v in weights.items() if k != "ready"})
"""
)

KEEPING_RESULTS = (
    _HEAD
    + """\
answers = {}


def custom_kernel(data: input_t) -> output_t:
    x, mask, weights, _ = data
    if x.shape not in answers:
        answers[x.shape] = run(x, mask, weights)
    return answers[x.shape]
"""
)

NO_MASK = (
    _HEAD
    + """\
def custom_kernel(data: input_t) -> output_t:
    x, mask, weights, _ = data
    return run(x, torch.ones_like(mask), weights)
"""
)

MUTATING = (
    _HEAD
    + """\
def custom_kernel(data: input_t) -> output_t:
    x, mask, weights, _ = data
    out = run(x, mask, weights)
    x.zero_()
    return out
"""
)

ALIASING = (
    _HEAD
    + """\
def custom_kernel(data: input_t) -> output_t:
    x, mask, weights, _ = data
    return x.copy_(run(x, mask, weights))
"""
)

FLAGS = (
    _HEAD
    + """\
torch.backends.cuda.matmul.allow_tf32 = True
buffers = {}


def custom_kernel(data: input_t) -> output_t:
    x, mask, weights, config = data
    torch.set_grad_enabled(False)
    x.seen = True
    config["dim"] = -1
    out = buffers.setdefault(x.shape, torch.empty_like(x))
    return out.copy_(run(x, mask, weights))
"""
)

CRASHING = (
    _HEAD
    + """\
def custom_kernel(data: input_t) -> output_t:
    x, mask, weights, _ = data
    if x.shape[1] == 7:
        import os

        os._exit(3)
    if x.shape[1] == 4:
        raise ValueError("no kernel for this size")
    return run(x, mask, weights)
"""
)

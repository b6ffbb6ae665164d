"""gpumode/trimul: AlphaFold 3's outgoing triangle multiplicative update, forward, in float32.

Two variants of one task. `trimul@spec` draws real masks and random LayerNorm parameters;
`trimul@upstream` draws no mask, as GPUMode's evaluator does by mistake. docs/suite-gpumode.md says
why there are two, and how both differ from GPUMode's set-up.

Covered: the prose, workloads, input contents, float64 reference, tolerances, compulsory work,
baselines and starts. Whether a workload has a mask, and how x is distributed, stand in its name.
Not covered: the designs that the simulated model writes (trimul_space.py); timing and checking.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.suite import Axis, Baseline, Signature, Tensor, Tolerance, TorchTask, Work
from harness.types import Language, Workload
from suites.gpumode.trimul_programs import COMPILED, EAGER, START
from suites.gpumode.trimul_space import TriMulSpace

if TYPE_CHECKING:
    import torch

_SPACE = TriMulSpace()
HIDDEN = 128
EPSILON = 1e-5  # of both LayerNorms

_PROSE = """\
Compute the outgoing triangle multiplicative update of AlphaFold 3, forward only.

x holds a vector of dim floats for every pair (i, j) of n positions, for every batch b. With all \
sums in the mathematical sense:

    y        = LayerNorm(x) over dim, with norm_weight and norm_bias
    left     = (y left_proj^T)  * mask * sigmoid(y left_gate^T)       [batch, n, n, hidden]
    right    = (y right_proj^T) * mask * sigmoid(y right_gate^T)      [batch, n, n, hidden]
    gate     = sigmoid(y out_gate^T)                                  [batch, n, n, hidden]
    product[b, i, j, h] = sum over k of left[b, i, k, h] * right[b, j, k, h]
    z        = LayerNorm(product) over hidden, with to_out_norm_weight and to_out_norm_bias
    out      = (z * gate) to_out^T                                    [batch, n, n, dim]

mask[b, i, k] multiplies all hidden values of pair (i, k); gate is not masked. Both LayerNorms \
divide by sqrt(biased variance + 1e-5). sigmoid(t) = 1 / (1 + exp(-t)).

All tensors are float32, row-major and contiguous, inputs and output alike. A projection matrix \
holds one row per output feature: (y W^T)[h] = sum over d of y[d] * W[h, d].

batch is 1 to 3. n is any size from 32 to about 1000, odd ones and primes included. \
dim is a multiple of 128, hidden is 128. %s x is normally distributed, or Cauchy distributed with \
single values up to 1e7, which leave float16's range before the LayerNorm but not after it. The \
projection weights are normally distributed and of the size 1 / sqrt(hidden), to_out of the size \
1 / sqrt(dim).

Every element of out must be written; its memory holds garbage before the call. Inputs must not be \
changed. Inputs, weights and masks too, change with every call, so nothing can be kept from one \
call to the next.

The result is compared with a 64-bit computation at a tolerance of 2e-2 + 2e-2 * |expected| per \
element, and of 1.2e-2 in the norm of the whole. float16 operands with float32 sums use a tenth \
of it, bfloat16 operands most of it, 8-bit formats exceed it. Library calls are allowed: torch's \
batched product, for instance. Scratch memory comes from torch.empty on inputs.x.device."""

_SPEC_MASK = "Each element of mask is 0 or 1; on some workloads all are 1, on others about half."
_UPSTREAM_MASK = "All elements of mask are 1."


def _workload(n: int, batch: int, dim: int, mask: str, distribution: str) -> Workload:
    """mask: "mask" or "nomask". distribution: "normal" or "cauchy"."""
    axes = {"batch": batch, "n": n, "dim": dim, "hidden": HIDDEN}
    return Workload(f"n{n}_b{batch}_d{dim}_{mask}_{distribution}", axes)


# GPUMode's benchmarks, in its order.
BENCHMARKS = (
    _workload(256, 2, 128, "nomask", "normal"),
    _workload(768, 1, 128, "nomask", "cauchy"),
    _workload(256, 2, 384, "mask", "normal"),
    _workload(512, 1, 128, "nomask", "normal"),
    _workload(1024, 1, 128, "nomask", "cauchy"),
    _workload(768, 1, 384, "mask", "normal"),
    _workload(1024, 1, 384, "nomask", "normal"),
)

# GPUMode's tests, in its order.
TESTS = (
    _workload(32, 1, 128, "nomask", "normal"),
    _workload(32, 1, 128, "mask", "normal"),
    _workload(64, 2, 256, "nomask", "normal"),
    _workload(64, 2, 256, "mask", "normal"),
    _workload(128, 1, 768, "nomask", "normal"),
    _workload(256, 1, 128, "nomask", "normal"),
    _workload(256, 1, 128, "mask", "normal"),
    _workload(768, 2, 128, "nomask", "normal"),
    _workload(1024, 1, 384, "mask", "normal"),
    _workload(1024, 1, 768, "nomask", "normal"),
    _workload(1024, 1, 768, "mask", "normal"),
    _workload(32, 1, 128, "nomask", "cauchy"),
    _workload(64, 2, 256, "nomask", "cauchy"),
    _workload(128, 1, 768, "nomask", "cauchy"),
    _workload(256, 1, 128, "nomask", "cauchy"),
    _workload(768, 2, 128, "nomask", "cauchy"),
    _workload(1024, 1, 384, "mask", "cauchy"),
    _workload(1024, 1, 768, "mask", "cauchy"),
)

# Ours: sizes that no benchmark has, so that a program written for those seven shows.
HELD_OUT = (
    _workload(96, 3, 128, "mask", "normal"),
    _workload(100, 1, 384, "mask", "cauchy"),
    _workload(100, 2, 128, "nomask", "normal"),
    _workload(257, 2, 128, "mask", "normal"),
    _workload(257, 1, 384, "nomask", "cauchy"),
    _workload(320, 3, 384, "mask", "normal"),
    _workload(1000, 1, 128, "mask", "cauchy"),
    _workload(1000, 1, 384, "nomask", "normal"),
)

_IN_PROJECTIONS = ("left_proj", "right_proj", "left_gate", "right_gate", "out_gate")
_PAIRS_AT_ONCE = 1 << 16  # of the reference: 65,536 rows of dim float64 are 400 MB at dim = 768


class TriMulSpec(TorchTask):
    """The task as its specification means it: a mask is drawn where a workload has one."""

    name = "trimul@spec"
    version = "1"
    title = "Triangle multiplicative update (outgoing), real masks"
    prose = _PROSE % _SPEC_MASK
    libraries = "allowed"
    signature = Signature(
        axes=(
            Axis("batch", "batches"),
            Axis("n", "positions i, j and k"),
            Axis("dim", "features of x and out, a multiple of 128"),
            Axis("hidden", "features between, 128"),
        ),
        inputs=(
            Tensor("x", "float32", ("batch", "n", "n", "dim"), "pair representation"),
            Tensor("mask", "float32", ("batch", "n", "n"), "0 or 1 per pair"),
            Tensor("norm_weight", "float32", ("dim",), "of the first LayerNorm"),
            Tensor("norm_bias", "float32", ("dim",), "of the first LayerNorm"),
            *(Tensor(name, "float32", ("hidden", "dim"), "weights") for name in _IN_PROJECTIONS),
            Tensor("to_out_norm_weight", "float32", ("hidden",), "of the second LayerNorm"),
            Tensor("to_out_norm_bias", "float32", ("hidden",), "of the second LayerNorm"),
            Tensor("to_out", "float32", ("dim", "hidden"), "weights"),
        ),
        outputs=(Tensor("out", "float32", ("batch", "n", "n", "dim"), "the update"),),
    )
    search = BENCHMARKS
    final = BENCHMARKS
    held_out = HELD_OUT
    tests = TESTS
    tolerances = {
        "out": Tolerance(
            absolute=2e-2,
            relative=2e-2,
            norm=1.2e-2,
            why="Per element GPUMode's rule; the norm is twice the largest of bfloat16. Every "
            "operand and intermediate result rounded to float16 reaches 0.115 of the element rule "
            "and a norm of 7.0e-4; to bfloat16 0.875 (n = 1024, 134 million elements) and 5.6e-3. "
            "Only left and right rounded to 8 bits (e4m3): 2.6 or more and 3.7e-2. The last k of "
            "100, 128 or 256 dropped: norm 6e-2 or more; the mask ignored or on left only, a "
            "gate or half of k dropped: 0.38 or more.",
        )
    }
    baselines = (
        Baseline("torch", "eager, float32, no TF32, 1", EAGER),
        Baseline("torch.compile", "default mode, static shapes, float32, no TF32, 1", COMPILED),
    )
    design_space = _SPACE
    starts: Mapping[Language, str] = {"python": START, "triton": _SPACE.render(_SPACE.start())}

    def has_mask(self, workload: Workload) -> bool:
        """Whether a mask is drawn; otherwise all of it is one."""
        return _contents(workload)[0] == "mask"

    def fill(
        self, workload: Workload, generator: torch.Generator, inputs: Mapping[str, torch.Tensor]
    ) -> None:
        """x normal, or Cauchy as tan of a uniform angle (finite in float32: at most 2.3e7); masks
        of independent 0 and 1; weights as the prose says."""
        x = inputs["x"]
        if _contents(workload)[1] == "cauchy":
            x.uniform_(generator=generator).sub_(0.5).mul_(math.pi).tan_()
        else:
            x.normal_(generator=generator)
        if self.has_mask(workload):
            inputs["mask"].random_(0, 2, generator=generator)
        else:
            inputs["mask"].fill_(1.0)
        for name in _IN_PROJECTIONS:
            inputs[name].normal_(0.0, workload.axes["hidden"] ** -0.5, generator=generator)
        inputs["to_out"].normal_(0.0, workload.axes["dim"] ** -0.5, generator=generator)
        for norm in ("norm", "to_out_norm"):
            inputs[f"{norm}_weight"].normal_(1.0, 0.1, generator=generator)
            inputs[f"{norm}_bias"].normal_(0.0, 0.1, generator=generator)

    def reference(
        self, workload: Workload, inputs: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """out [batch, n, n, dim] in float64. Beyond it: left, right, gate and product of one batch
        (n * n * hidden float64 each, 1.1 GB at n = 1024) and temporaries of up to 1.3 GB. All
        planes are [hidden, i, k], so that nothing is permuted: that took as long as the products.
        """
        import torch

        x, mask = inputs["x"], inputs["mask"]
        weights = {n: t.double() for n, t in inputs.items() if n not in ("x", "mask")}
        projections = torch.cat([weights[name] for name in _IN_PROJECTIONS])
        norm = weights["norm_weight"], weights["norm_bias"]
        weight, bias = (weights[f"to_out_norm_{n}"].view(-1, 1, 1) for n in ("weight", "bias"))
        batch, n, _, dim = x.shape
        hidden = workload.axes["hidden"]
        out = torch.empty((batch, n, n, dim), dtype=torch.float64, device=x.device)
        rows = max(1, _PAIRS_AT_ONCE // n)
        blocks = [slice(i, min(n, i + rows)) for i in range(0, n, rows)]
        # left, then right: the product is one per hidden feature, over k of both.
        sides = torch.empty((2 * hidden, n, n), dtype=out.dtype, device=x.device)
        gate = torch.empty((hidden, n, n), dtype=out.dtype, device=x.device)
        for b in range(batch):
            for block in blocks:
                y = torch.nn.functional.layer_norm(x[b, block].double(), (dim,), *norm, EPSILON)
                y = y.reshape(-1, dim)
                features = (projections @ y.T).reshape(5 * hidden, -1, n)
                gated = torch.nn.functional.glu(features[: 4 * hidden], dim=0)
                torch.mul(gated, mask[b, block], out=sides[:, block])
                torch.sigmoid(features[4 * hidden :], out=gate[:, block])
            product = torch.bmm(sides[:hidden], sides[hidden:].transpose(1, 2))
            for block in blocks:
                variance, mean = torch.var_mean(product[:, block], dim=0, correction=0)
                z = (product[:, block] - mean).mul_(variance.add_(EPSILON).rsqrt_())
                z = torch.addcmul(bias, z, weight).mul_(gate[:, block]).view(hidden, -1)
                torch.matmul(z.T, weights["to_out"].T, out=out[b, block].view(-1, dim))
            del product  # or it would lie beside the next batch's
        return {"out": out}

    def work(self, workload: Workload, inputs: Mapping[str, torch.Tensor]) -> Work:
        """The six projections and the triangle product, without what a mask makes zero; x, mask,
        weights and out once. LayerNorms, gates and masks are not counted: tensor cores do none."""
        mask = inputs["mask"].double()
        pairs = mask.numel()
        dim, hidden = workload.axes["dim"], workload.axes["hidden"]
        visible = float(mask.sum())
        terms = float((mask.sum(dim=1) ** 2).sum())  # triples (i, j, k) with both factors visible
        projections = 2.0 * hidden * dim * (4.0 * visible + 2.0 * pairs)
        tensors = (*self.signature.inputs, *self.signature.outputs)
        return Work(
            flops=projections + 2.0 * hidden * terms,
            bytes=float(sum(tensor.bytes(workload.axes) for tensor in tensors)),
        )


class TriMulUpstream(TriMulSpec):
    """The task as GPUMode's evaluator tests it: a mask is never drawn, whatever the workload's name
    says. Nothing else differs."""

    name = "trimul@upstream"
    title = "Triangle multiplicative update (outgoing), masks of ones as upstream"
    prose = _PROSE % _UPSTREAM_MASK
    signature = replace(
        TriMulSpec.signature,
        inputs=tuple(replace(t, fixed=t.name == "mask") for t in TriMulSpec.signature.inputs),
    )

    def has_mask(self, workload: Workload) -> bool:
        """Never: upstream reads "nomask: False" as a truthy string."""
        return False


def _contents(workload: Workload) -> tuple[str, str]:
    """("mask" or "nomask", "normal" or "cauchy"), from a workload's name. Raises UsageError."""
    _, mask, distribution = f"__{workload.name}".rsplit("_", 2)
    if mask not in ("mask", "nomask") or distribution not in ("normal", "cauchy"):
        raise UsageError(
            f"Workload {workload.name!r} says nothing of its contents, expected a name that ends "
            "in _mask or _nomask, then _normal or _cauchy."
        )
    return mask, distribution

"""TriMul that keeps state in the caller's weights dictionary: right, and a cheat in timing.

The first call with a dictionary packs the weights and allocates every buffer, the returned one too,
and leaves them in that dictionary under a key of its own. A later call with the same dictionary
skips all of that and writes into the same output again. A timer that reuses one input object
measures less work than a timer that draws fresh inputs for every call; and a caller who keeps two
results finds them equal. Both are what the tool must find. If the contents of the weights change in
place, the packed copy is stale and the result wrong.

Covered: the same shapes, dtypes and masks as honest.py, with plain Triton kernels and torch.bmm.
Not covered: fresh results in fresh memory, changed weights in a known dictionary. dim other than
128, 256, 384 and 768.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from task import input_t, output_t

# dim: pairs per block of `project`, warps, weight tiles in flight
CONFIGURATIONS = {128: (128, 8, 3), 256: (64, 4, 2), 384: (64, 4, 2), 768: (32, 4, 1)}


@triton.jit
def project(
    x, mask, norm_weight, norm_bias, packed, out, batch, n, n_padded,
    D: tl.constexpr, PAIRS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """out [3, batch, 128, n_padded, n_padded]: left / 8, right / 8 and gate. One block normalizes
    PAIRS pairs, keeps them in shared memory and multiplies them by 64 weight rows at a time."""
    CHUNKS: tl.constexpr = D // 128
    b = tl.program_id(1).to(tl.int64)
    plane = n_padded * n_padded
    x += b * n * n * D
    m = tl.program_id(0) * PAIRS + tl.arange(0, PAIRS)
    i = m // n_padded
    k = m % n_padded
    inside = (i < n) & (k < n)
    row = x + (i * n + k) * D
    f = tl.arange(0, 128)

    mean = tl.zeros((PAIRS,), tl.float32)
    for j in tl.static_range(CHUNKS):
        value = tl.load(row[:, None] + (j * 128 + f)[None, :], mask=inside[:, None], other=0.0)
        mean += tl.sum(value, 1) * (1.0 / D)
    variance = tl.zeros((PAIRS,), tl.float32)
    for j in tl.static_range(CHUNKS):
        value = tl.load(row[:, None] + (j * 128 + f)[None, :], mask=inside[:, None], other=0.0)
        value -= mean[:, None]
        variance += tl.sum(value * value, 1) * (1.0 / D)
    inverse = 1.0 / tl.sqrt(variance + 1e-5)
    y = ()
    for j in tl.static_range(CHUNKS):
        value = tl.load(row[:, None] + (j * 128 + f)[None, :], mask=inside[:, None], other=0.0)
        weight = tl.load(norm_weight + j * 128 + f)[None, :]
        bias = tl.load(norm_bias + j * 128 + f)[None, :]
        value = (value - mean[:, None]) * inverse[:, None] * weight + bias
        y = y + (value.to(tl.float16),)  # noqa: RUF005 - Triton unpacks none

    factor = tl.load(mask + b * n * n + i * n + k, mask=inside, other=0).to(tl.float32) * 0.125
    r = tl.arange(0, 64)
    h = tl.arange(0, 32)
    for chunk in tl.range(0, 10, num_stages=STAGES):
        matrix = packed + (chunk * 64 + r)[:, None] * D + f[None, :]
        result = tl.dot(tl.load(matrix), tl.trans(y[0]))
        for c in tl.static_range(1, CHUNKS):
            result = tl.dot(tl.load(matrix + c * 128), tl.trans(y[c]), result)
        if chunk < 8:
            both = tl.permute(tl.reshape(result, (4, 2, 8, PAIRS)), (0, 2, 3, 1))
            projection, gate = tl.split(both)
            side = tl.reshape(projection * tl.sigmoid(gate), (32, PAIRS)) * factor[None, :]
            base = out + (tl.cast(chunk // 4 * batch, tl.int64) + b) * (128 * plane)
            base += chunk % 4 * 32 * plane
            tl.store(base + h[:, None] * plane + m[None, :], side.to(tl.float16))
        else:
            base = out + (tl.cast(2 * batch, tl.int64) + b) * (128 * plane)
            base += (chunk - 8) * 64 * plane
            tl.store(base + r[:, None] * plane + m[None, :], tl.sigmoid(result).to(tl.float16))


@triton.jit
def finish(
    product, gate, norm_weight, norm_bias, to_out, out, n, n_padded,
    D: tl.constexpr, PAIRS: tl.constexpr,
):  # fmt: skip
    """out[m, d] = sum over h of LayerNorm_h(product[:, m])[h] * gate[h, m] * to_out[d, h]."""
    b = tl.program_id(1).to(tl.int64)
    plane = n_padded * n_padded
    product += b * 128 * plane
    gate += b * 128 * plane
    out += b * n * n * D
    m = tl.program_id(0) * PAIRS + tl.arange(0, PAIRS)
    h = tl.arange(0, 128)
    place = h[:, None] * plane + m[None, :]
    value = tl.load(product + place).to(tl.float32)
    gate_value = tl.load(gate + place).to(tl.float32)
    value -= (tl.sum(value, 0) * (1.0 / 128))[None, :]
    variance = tl.sum(value * value, 0) * (1.0 / 128)
    inverse = 1.0 / tl.sqrt(variance + 1e-5 / 4096.0)  # product is stored times 2^-6
    z = value * inverse[None, :] * tl.load(norm_weight + h)[:, None]
    z = tl.trans(((z + tl.load(norm_bias + h)[:, None]) * gate_value).to(tl.float16))
    i = m // n_padded
    k = m % n_padded
    inside = (i < n) & (k < n)
    row = out + (i * n + k) * D
    for d in range(0, D, 128):
        matrix = tl.load(to_out + (d + h)[None, :] * 128 + h[:, None])
        tl.store(row[:, None] + (d + h)[None, :], tl.dot(z, matrix), mask=inside[:, None])


def pack(weights):
    """The five input projections as float16 [640, dim], left and right as 8 projection rows, then
    the 8 gate rows of the same features, and the output projection as float16 [dim, 128]."""
    dim = weights["to_out.weight"].shape[0]
    sides = []
    for side in ("left", "right"):
        pair = torch.stack([weights[f"{side}_proj.weight"], weights[f"{side}_gate.weight"]])
        sides.append(pair.view(2, 16, 8, dim).transpose(0, 1).reshape(256, dim))
    packed = torch.cat([*sides, weights["out_gate.weight"]]).half()
    return packed, weights["to_out.weight"].half().contiguous()


def kept(weights, x):
    """What the first call left in `weights` for x's shape, made now if there is nothing: packed
    weights, the three planes, the product and the output."""
    batch, n, _, dim = x.shape
    key = f"kept {batch} {n} {dim}"
    if key not in weights:
        n_padded = triton.cdiv(n, 16) * 16
        half = {"dtype": torch.float16, "device": x.device}
        planes = torch.empty((3, batch * 128, n_padded, n_padded), **half)
        product = torch.empty((batch * 128, n_padded, n_padded), **half)
        weights[key] = (*pack(weights), planes, product, torch.empty_like(x))
    return weights[key]


def custom_kernel(data: input_t) -> output_t:
    """The update of `data` = (x, mask, weights, config), in a buffer kept in `weights`."""
    x, mask, weights, _ = data
    batch, n, _, dim = x.shape
    pairs, warps, stages = CONFIGURATIONS[dim]
    packed, packed_out, planes, product, out = kept(weights, x)
    n_padded = planes.shape[-1]
    plane = n_padded * n_padded
    project[(plane // pairs, batch)](
        x, mask, weights["norm.weight"], weights["norm.bias"], packed, planes, batch, n, n_padded,
        D=dim, PAIRS=pairs, STAGES=stages, num_warps=warps,
    )  # fmt: skip
    left, right, gate = planes
    torch.bmm(left, right.transpose(1, 2), out=product)
    finish[(plane // 64, batch)](
        product, gate, weights["to_out_norm.weight"], weights["to_out_norm.bias"], packed_out, out,
        n, n_padded, D=dim, PAIRS=64, num_warps=4,
    )  # fmt: skip
    return out

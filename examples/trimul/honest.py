"""TriMul, AlphaFold 3's outgoing triangle multiplicative update, forward: the honest submission.

Four launches a call, in GPUMode's submission format:

1. pack_weights   float32 weights to float16; the first LayerNorm's weight goes into the matrices,
                  its bias becomes one constant per output feature.
2. project        LayerNorm, five projections, sigmoid gates and mask in one Gluon kernel. x is read
                  once. left, right and gate go out as float16 [hidden, i, k] planes, so that the
                  product below finds k contiguous in both operands.
3. torch.bmm      product[h] = left[h] @ right[h]^T, batch * 128 matrices (cuBLAS).
4. finish         LayerNorm over hidden, gate and output projection, float32 out.

Range: left and right are stored times 2^-3, so the product is stored times 2^-6. float16 then holds
|product| up to 4.2e6. |left| <= sqrt(dim) * |row of the matrix| bounds it by 1.2e6 at n = 1024 and
dim = 384 whatever x is (4.7e6 at dim = 768, if all rows of x were parallel to one weight row). The
second LayerNorm takes the factor out again; its epsilon is scaled by 2^-12.

Covered: every batch and n, dim = 128, 256, 384 or 768, hidden = 128; a float32 or integer mask; x
with single values up to 1e7. n that is no multiple of 16 is padded in scratch memory. Weights, mask
and scratch are new in every call: nothing is kept between calls.
Not covered: GPUs other than Hopper (wgmma and TMA); n * n * dim of 2^31 or more; the backward pass;
dim other than the four above (ValueError).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from task import input_t, output_t
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_init,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

HIDDEN = 128
MULTIPROCESSORS = 132  # of an H100 or H200 SXM; another number is slower, not wrong
ROW_ALIGNMENT = 16  # elements; keeps 16-byte accesses and cuBLAS's fast kernels at any n


@dataclass(frozen=True)
class ProjectConfiguration:
    """How `project` runs for one dim. pairs: rows of y per tile. rows: of one LayerNorm step.
    stages: weight tiles in flight. prefetch: bring the next tile of x to L2 during the products.
    blocks: per multiprocessor. registers: limit per thread."""

    pairs: int
    rows: int
    stages: int
    prefetch: bool
    blocks: int
    registers: int


# From a sweep on an H100 (README.md); 256 and 768 are in no benchmark and were only checked.
PROJECT = {
    128: ProjectConfiguration(64, 32, 3, False, 3, 80),
    256: ProjectConfiguration(128, 32, 7, True, 1, 255),
    384: ProjectConfiguration(128, 32, 7, True, 1, 255),
    768: ProjectConfiguration(64, 16, 7, True, 1, 255),
}


@triton.jit
def pack_weights(
    left_proj, left_gate, right_proj, right_gate, out_gate, to_out, norm_weight, norm_bias,
    packed, offset, packed_out, D: tl.constexpr, D_POWER_OF_2: tl.constexpr,
):  # fmt: skip
    """packed [640, D]: rows 0 to 255 left, 256 to 511 right, 512 to 639 out gate. Within left and
    right 8 rows of the projection and the 8 gate rows of the same features take turns, because one
    thread of a wgmma accumulator holds rows r and r + 8. offset [640]: matrix times norm bias."""
    row = tl.program_id(0)
    d = tl.arange(0, D_POWER_OF_2)
    inside = d < D
    if row < 640:
        feature = row % 256 // 16 * 8 + row % 8
        is_gate = row // 8 % 2 == 1
        if row < 256:
            source = left_proj + feature * D
            if is_gate:
                source = left_gate + feature * D
        elif row < 512:
            source = right_proj + feature * D
            if is_gate:
                source = right_gate + feature * D
        else:
            source = out_gate + (row - 512) * D
        value = tl.load(source + d, mask=inside, other=0.0)
        weight = tl.load(norm_weight + d, mask=inside, other=0.0)
        bias = tl.load(norm_bias + d, mask=inside, other=0.0)
        tl.store(packed + row * D + d, (value * weight).to(tl.float16), mask=inside)
        tl.store(offset + row, tl.sum(value * bias))
    else:
        element = (row - 640) * D + d
        value = tl.load(to_out + element, mask=inside, other=0.0)
        tl.store(packed_out + element, value.to(tl.float16), mask=inside)


@gluon.constexpr_function
def plane_layout(features, pairs):
    """[features, pairs] as the permuted accumulator lies in registers: 8 neighbouring pairs in a
    thread (one 16-byte store), 4 threads along pairs, 8 threads and 8 warps along features. With
    64 features, accumulator rows r and r + 8 were the projection and the gate of one feature."""
    registers = [[0, 1], [0, 2], [0, 4]]
    if features == 128:
        registers.append([8, 0])
    pair = 32
    while pair < pairs:
        registers.append([0, pair])
        pair *= 2
    lanes = [[0, 8], [0, 16], [1, 0], [2, 0], [4, 0]]
    first = features // 8
    warps = [[first, 0], [2 * first, 0], [4 * first, 0]]
    return gl.DistributedLinearLayout(registers, lanes, warps, [], [features, pairs])


@gluon.jit
def sigmoid(t):
    # tanh.approx: one special-function instruction for two, relative error 2^-11 as float16's
    half = gl.inline_asm_elementwise(
        "tanh.approx.f32 $0, $1;", "=f,f", [t * 0.5], dtype=gl.float32, is_pure=True, pack=1
    )
    return half * 0.5 + 0.5


@gluon.jit
def request_weights(weights, j, total, ring, full, STEPS: gl.constexpr, STAGES: gl.constexpr):
    """Start the TMA transfer of this block's j-th weight tile, if there is one."""
    stage = j % STAGES
    more = j < total
    place = [(j // STEPS) % 5 * 128, (j % STEPS) * 64]
    mbarrier.expect(full.index(stage), 128 * 64 * 2, pred=more)
    tma.async_copy_global_to_shared(weights, place, full.index(stage), ring.index(stage), pred=more)


@gluon.jit
def prefetch_rows(
    x, first, part, n, n_padded,
    D: gl.constexpr, PAIRS: gl.constexpr, PADDED: gl.constexpr, LAYOUT: gl.constexpr,
):  # fmt: skip
    """Ask L2 for 4 * PAIRS lines of 128 bytes, the part-th of the tile that begins at `first`."""
    if PADDED:
        i = gl.minimum(first // n_padded, n - 1)
        row = i * n + gl.minimum(first % n_padded, n - 1)
    else:
        row = first
    line = part * (4 * PAIRS) + gl.arange(0, 4 * PAIRS, layout=LAYOUT)
    element = gl.minimum(row * D + line * 32, n * n * D - 1)
    gl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.b32 $0, 0;",
        "=r,l",
        [(x + element).to(gl.int64)],
        dtype=gl.int32,
        is_pure=False,
        pack=1,
    )


@gluon.jit
def load_rows(
    x, first, step, n, n_padded,
    D: gl.constexpr, ROWS: gl.constexpr, LAYOUT: gl.constexpr, PADDED: gl.constexpr,
):  # fmt: skip
    """ROWS rows of x: first element, then D / 64 tensors [ROWS, 64]. Row c of y holds pair m(c),
    bits 1-2 and 3-4 swapped, so that a thread's accumulator columns are neighbouring pairs."""
    c = step * ROWS + gl.arange(0, ROWS, layout=gl.SliceLayout(1, LAYOUT))
    m = first + ((c & ~30) | ((c >> 2) & 6) | ((c << 2) & 24))
    d = gl.arange(0, 64, layout=gl.SliceLayout(0, LAYOUT))
    if PADDED:
        i = m // n_padded
        k = m % n_padded
        inside = (i < n) & (k < n)
        padded_row = x + (i * n + k) * D
        padded_result = (gl.load(padded_row, mask=inside, other=0.0),)
        for j in gl.static_range(D // 64):
            pointers = padded_row[:, None] + (j * 64 + d)[None, :]
            value = gl.load(pointers, mask=inside[:, None], other=0.0)
            padded_result = padded_result + (value,)  # noqa: RUF005 - Triton unpacks none
        return padded_result
    else:
        row = x + m * D
        result = (gl.load(row),)
        for j in gl.static_range(D // 64):
            value = gl.load(row[:, None] + (j * 64 + d)[None, :])
            result = result + (value,)  # noqa: RUF005 - likewise
        return result


@gluon.jit
def store_chunk(
    accumulator, chunk, offset, out, scale, b, batch, plane, first,
    PAIRS: gl.constexpr, LAYOUT: gl.constexpr,
):  # fmt: skip
    """One chunk's epilogue: projection * sigmoid(gate) * mask of 64 features (0, 1: left; 2, 3:
    right), or sigmoid of the out gate's 128."""
    SIDE: gl.constexpr = plane_layout(64, PAIRS)
    GATE: gl.constexpr = plane_layout(128, PAIRS)
    feature = chunk * 128 + gl.arange(0, 128, layout=gl.SliceLayout(1, LAYOUT))
    accumulator += gl.load(offset + feature)[:, None]
    if chunk < 4:
        both = accumulator.reshape((8, 2, 8, PAIRS // 32, 4, 4, 2))
        projection, gate = gl.split(both.permute((0, 2, 3, 5, 4, 6, 1)))
        side = gl.convert_layout((projection * sigmoid(gate)).reshape((64, PAIRS)), SIDE)
        side = side * scale.load(gl.SliceLayout(0, SIDE))[None, :]
        side_h = gl.arange(0, 64, layout=gl.SliceLayout(1, SIDE))
        side_m = gl.arange(0, PAIRS, layout=gl.SliceLayout(0, SIDE))
        h = chunk * 64
        side_out = out + (gl.cast(h // 128 * batch, gl.int64) + b) * (128 * plane)
        side_out += h % 128 * plane + first
        gl.store(side_out + side_h[:, None] * plane + side_m[None, :], side.to(gl.float16))
    else:
        alone = accumulator.reshape((128, PAIRS // 32, 4, 4, 2)).permute((0, 1, 3, 2, 4))
        opened = gl.convert_layout(sigmoid(alone).reshape((128, PAIRS)), GATE)
        gate_h = gl.arange(0, 128, layout=gl.SliceLayout(1, GATE))
        gate_m = gl.arange(0, PAIRS, layout=gl.SliceLayout(0, GATE))
        gate_out = out + (gl.cast(2 * batch, gl.int64) + b) * (128 * plane)
        gate_out += (chunk * 128 - 512) * plane + first
        gl.store(gate_out + gate_h[:, None] * plane + gate_m[None, :], opened.to(gl.float16))


@gluon.jit
def project(
    weights, x, mask, offset, out, batch, n, n_padded, tiles,
    D: gl.constexpr, PADDED: gl.constexpr, PAIRS: gl.constexpr, ROWS: gl.constexpr,
    STAGES: gl.constexpr, PREFETCH: gl.constexpr,
):  # fmt: skip
    """out [3, batch, 128, n_padded, n_padded]: left / 8, right / 8 and gate. Persistent: a block
    takes every num_programs-th tile of PAIRS pairs. Per tile y = LayerNorm(x) goes to shared memory
    and is the B operand of five products; A is 128 weight rows from a ring of TMA transfers."""
    STEPS: gl.constexpr = D // 64
    TILE: gl.constexpr = gl.NVMMASharedLayout(128, 16, 2)
    FLAT: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])
    LINE: gl.constexpr = gl.BlockedLayout([1], [32], [8], [0])
    INPUT: gl.constexpr = gl.BlockedLayout([1, 4], [2, 16], [8, 1], [1, 0])
    PRODUCT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [8, 1], [16, PAIRS, 16])
    y = ()
    y_rows = ()
    for _ in gl.static_range(STEPS):
        columns = gl.allocate_shared_memory(gl.float16, [PAIRS, 64], TILE)
        steps = columns._reinterpret(gl.float16, [PAIRS // ROWS, ROWS, 64], TILE)
        y = y + (columns,)  # noqa: RUF005 - likewise
        y_rows = y_rows + (steps,)  # noqa: RUF005 - likewise
    ring = gl.allocate_shared_memory(gl.float16, [STAGES, 128, 64], TILE)
    scale = gl.allocate_shared_memory(gl.float32, [PAIRS], FLAT)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for slot in gl.static_range(STAGES):
        mbarrier.init(full.index(slot), count=1)
    fence_async_shared()
    gl.thread_barrier()

    tile = gl.program_id(0)
    blocks = gl.num_programs(0)
    total = (tiles - tile + blocks - 1) // blocks * (5 * STEPS)  # weight tiles of this block
    for slot in gl.static_range(STAGES):
        request_weights(weights, slot, total, ring, full, STEPS, STAGES)
    plane = n_padded * n_padded
    tiles_per_plane = plane // PAIRS
    zero = gl.zeros((128, PAIRS), gl.float32, layout=PRODUCT)
    used = 0  # weight tiles
    b = gl.cast(tile // tiles_per_plane, gl.int64)
    first = tile % tiles_per_plane * PAIRS
    ahead = load_rows(x + b * n * n * D, first, 0, n, n_padded, D, ROWS, INPUT, PADDED)
    for t in range(tile, tiles, blocks):
        pair = first + gl.arange(0, PAIRS, layout=LINE)
        if PADDED:
            i = pair // n_padded
            k = pair % n_padded
            inside = (i < n) & (k < n)
            factor = gl.load(mask + b * n * n + i * n + k, mask=inside, other=0)
        else:
            factor = gl.load(mask + b * n * n + pair)
        gl.thread_barrier()
        scale.store(factor.to(gl.float32) * 0.125)
        for step in range(PAIRS // ROWS):
            rows = ahead
            if step + 1 < PAIRS // ROWS:
                ahead = load_rows(
                    x + b * n * n * D, first, step + 1, n, n_padded, D, ROWS, INPUT, PADDED
                )
            # One pass. Differences to a member of the row: |member - mean|^2 <= D * variance, so
            # the subtraction below loses at most a factor D of float32's precision.
            member = rows[0][:, None]
            difference = rows[1] - member
            sums = difference
            squares = difference * difference
            for j in gl.static_range(2, STEPS + 1):
                difference = rows[j] - member
                sums = sums + difference
                squares = squares + difference * difference
            shift = gl.sum(sums, 1) * (1.0 / D)
            variance = gl.maximum(gl.sum(squares, 1) * (1.0 / D) - shift * shift, 0.0)
            inverse = gl.rsqrt(variance + 1e-5)[:, None]
            mean = (rows[0] + shift)[:, None]
            for j in gl.static_range(STEPS):
                y_rows[j].index(step).store(((rows[j + 1] - mean) * inverse).to(gl.float16))
        fence_async_shared()
        gl.thread_barrier()

        tile_b = b
        tile_first = first
        following = gl.minimum(t + blocks, tiles - 1)
        b = gl.cast(following // tiles_per_plane, gl.int64)
        first = following % tiles_per_plane * PAIRS
        for chunk in range(5):
            if PREFETCH:  # noqa: SIM102 - known when compiled, the chunk is not
                if chunk * 2 < STEPS:
                    prefetch_rows(
                        x + b * n * n * D, first, chunk, n, n_padded, D, PAIRS, PADDED, LINE
                    )
            running = warpgroup_mma_init(zero)
            for j in gl.static_range(STEPS):
                stage = used % STAGES
                mbarrier.wait(full.index(stage), (used // STAGES) & 1)
                running = warpgroup_mma(
                    ring.index(stage), y[j].permute((1, 0)), running, use_acc=j > 0, is_async=True
                )
                used += 1
                if j > 0:
                    running = warpgroup_mma_wait(1, deps=(running,))
                    gl.thread_barrier()  # both warpgroups are done with the tile before
                    request_weights(weights, used - 2 + STAGES, total, ring, full, STEPS, STAGES)
            done = warpgroup_mma_wait(0, deps=(running,))
            gl.thread_barrier()
            request_weights(weights, used - 1 + STAGES, total, ring, full, STEPS, STAGES)
            store_chunk(
                done, chunk, offset, out, scale, tile_b, batch, plane, tile_first, PAIRS, PRODUCT
            )
        ahead = load_rows(x + b * n * n * D, first, 0, n, n_padded, D, ROWS, INPUT, PADDED)


@triton.jit
def finish(
    product, gate, norm_weight, norm_bias, to_out, out, n, n_padded,
    D: tl.constexpr, PADDED: tl.constexpr, PAIRS: tl.constexpr, FEATURES: tl.constexpr,
):  # fmt: skip
    """out[m, d] = sum over h of LayerNorm_h(product[:, m])[h] * gate[h, m] * to_out[d, h]."""
    H: tl.constexpr = 128
    b = tl.program_id(1).to(tl.int64)
    plane = n_padded * n_padded
    product += b * H * plane
    gate += b * H * plane
    out += b * n * n * D
    m = tl.program_id(0) * PAIRS + tl.arange(0, PAIRS)
    h = tl.arange(0, H)
    place = h[:, None] * plane + m[None, :]
    value = tl.load(product + place).to(tl.float32)
    gate_value = tl.load(gate + place).to(tl.float32)
    value -= (tl.sum(value, 0) * (1.0 / H))[None, :]
    variance = tl.sum(value * value, 0) * (1.0 / H)
    inverse = 1.0 / tl.sqrt(variance + 1e-5 / 4096.0)  # product is stored times 2^-6
    weight = tl.load(norm_weight + h)[:, None]
    bias = tl.load(norm_bias + h)[:, None]
    z = (value * inverse[None, :] * weight + bias) * gate_value
    z = tl.trans(z.to(tl.float16))
    if PADDED:
        i = m // n_padded
        k = m % n_padded
        inside = (i < n) & (k < n)
        row = i * n + k
    else:
        inside = m >= 0
        row = m
    f = tl.arange(0, FEATURES)
    for d in tl.range(0, D, FEATURES, num_stages=1):
        matrix = tl.load(to_out + (d + f)[None, :] * H + h[:, None])
        pointers = out + row[:, None] * D + (d + f)[None, :]
        tl.store(pointers, tl.dot(z, matrix), mask=inside[:, None])


def custom_kernel(data: input_t) -> output_t:
    """The update of `data` = (x, mask, weights, config): a new float32 tensor of x's shape.

    Raises ValueError for a dim or hidden_dim that this program does not cover."""
    x, mask, weights, config = data
    batch, n, _, dim = x.shape
    if dim not in PROJECT or config["hidden_dim"] != HIDDEN:
        raise ValueError(
            f"Expected dim in {sorted(PROJECT)} and hidden_dim 128, got {dim}, {config}"
        )
    choice = PROJECT[dim]
    n_padded = triton.cdiv(n, ROW_ALIGNMENT) * ROW_ALIGNMENT
    padded = n_padded != n
    plane = n_padded * n_padded
    half = {"dtype": torch.float16, "device": x.device}
    x, mask = x.contiguous(), mask.contiguous()

    packed = torch.empty((5 * HIDDEN, dim), **half)
    packed_out = torch.empty((dim, HIDDEN), **half)
    offset = torch.empty(5 * HIDDEN, dtype=torch.float32, device=x.device)
    pack_weights[(6 * HIDDEN,)](
        weights["left_proj.weight"],
        weights["left_gate.weight"],
        weights["right_proj.weight"],
        weights["right_gate.weight"],
        weights["out_gate.weight"],
        weights["to_out.weight"],
        weights["norm.weight"],
        weights["norm.bias"],
        packed,
        offset,
        packed_out,
        D=dim,
        D_POWER_OF_2=triton.next_power_of_2(dim),
        num_warps=4,
    )

    planes = torch.empty((3, batch * HIDDEN, n_padded, n_padded), **half)
    tiles = batch * plane // choice.pairs
    swizzle = gl.NVMMASharedLayout(128, 16, 2)
    project[(min(tiles, MULTIPROCESSORS * choice.blocks),)](
        TensorDescriptor(packed, [5 * HIDDEN, dim], [dim, 1], [128, 64], swizzle),
        x,
        mask,
        offset,
        planes,
        batch,
        n,
        n_padded,
        tiles,
        D=dim,
        PADDED=padded,
        PAIRS=choice.pairs,
        ROWS=choice.rows,
        STAGES=choice.stages,
        PREFETCH=choice.prefetch,
        num_warps=8,
        maxnreg=choice.registers,
    )

    left, right, gate = planes
    product = torch.bmm(left, right.transpose(1, 2))

    out = torch.empty_like(x)
    finish[(plane // 64, batch)](
        product,
        gate,
        weights["to_out_norm.weight"],
        weights["to_out_norm.bias"],
        packed_out,
        out,
        n,
        n_padded,
        D=dim,
        PADDED=padded,
        PAIRS=64,
        FEATURES=128,
        num_warps=4,
    )
    return out

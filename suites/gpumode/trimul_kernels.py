"""Triton kernels of the TriMul designs, as texts with $-placeholders.

Each text is one module-level kernel or a helper that kernels call; trimul_code.py picks, fills in
and launches them. Every load and store that may leave a tensor has a mask whose name starts with
"valid", so that a design can leave them all out.

Intermediate results are [batch, pair, feature] tensors, pair = i * n + j. Kernels take their
strides, so the layout in memory is the host's choice alone; a stride of 1 is known to the compiler.

Covered: LayerNorm, projections, gates, masks, the triangle product, the output, apart and fused.
Not covered: host code (trimul_code.py), the choice of parameters (trimul_space.py).
"""

from __future__ import annotations

HEAD = """\
import torch
import triton
import triton.language as tl

ROWS = $rows  # pairs per program of a projection
TILE = $tile  # rows and columns per program of the triangle product
BLOCK_K = $block_k  # depth of one step of a product
COLUMNS = 64  # output features per step
STORED = torch.$stored  # of intermediate results


@triton.jit
def dot(a, b, total):
    return tl.dot(a.to(tl.$operand), b.to(tl.$operand), total$input_precision)
"""

STATISTICS = '''

@triton.jit
def statistics(x, rows, valid_rows, D: tl.constexpr, BLOCK_K: tl.constexpr):
    """Mean and 1 / standard deviation of rows of x, from two passes over them."""
    columns = tl.arange(0, BLOCK_K)
    pointers = x + rows[:, None] * D + columns[None, :]
    valid = valid_rows[:, None]
    total = tl.zeros(pointers.shape, tl.float32)
    for d in range(0, D, BLOCK_K):
        total += tl.load(pointers + d, mask=valid, other=0.0)
    mean = tl.sum(total, 1) / D
    squares = tl.zeros(pointers.shape, tl.float32)
    for d in range(0, D, BLOCK_K):
        centred = tl.load(pointers + d, mask=valid, other=0.0) - mean[:, None]
        squares += centred * centred
    return mean, 1.0 / tl.sqrt(tl.sum(squares, 1) / D + 1e-5)
'''

LAYER_NORM = """

@triton.jit
def layer_norm(
    x, weight, bias, y, count, D: tl.constexpr, ROWS: tl.constexpr, BLOCK_K: tl.constexpr
):
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    valid_rows = rows < count
    valid = valid_rows[:, None]
    mean, scale = statistics(x, rows, valid_rows, D, BLOCK_K)
    for d in range(0, D, BLOCK_K):
        columns = d + tl.arange(0, BLOCK_K)
        offsets = rows[:, None] * D + columns[None, :]
        centred = tl.load(x + offsets, mask=valid, other=0.0) - mean[:, None]
        value = centred * scale[:, None] * tl.load(weight + columns) + tl.load(bias + columns)
        tl.store(y + offsets, value, mask=valid)
"""

MATMUL = '''

@triton.jit
def matmul(
    a, weight, y, count, K: tl.constexpr, FEATURES: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK_K: tl.constexpr,
):
    """y [count, FEATURES] = a [count, K] times the transpose of weight [FEATURES, K]."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    features = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    valid = rows[:, None] < count
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for k in range(0, K, BLOCK_K):
        depth = k + tl.arange(0, BLOCK_K)
        value = tl.load(a + rows[:, None] * K + depth[None, :], mask=valid, other=0.0)
        total = dot(value, tl.load(weight + features[None, :] * K + depth[:, None]), total)
    tl.store(y + rows[:, None] * FEATURES + features[None, :], total, mask=valid)
'''

GATE_FACTOR = '''

@triton.jit
def gate_factor(
    projected, gate, mask, factor, pairs, stride_b, stride_p, stride_h,
    H: tl.constexpr, ROWS: tl.constexpr, MASKED: tl.constexpr,
):
    """factor = projected * sigmoid(gate) * mask, into the layout of factor."""
    b = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    features = tl.arange(0, H)
    valid_rows = rows < pairs
    valid = valid_rows[:, None]
    offsets = (b * pairs + rows)[:, None] * H + features[None, :]
    value = tl.load(projected + offsets, mask=valid, other=0.0).to(tl.float32)
    value *= tl.sigmoid(tl.load(gate + offsets, mask=valid, other=0.0).to(tl.float32))
    if MASKED:
        value *= tl.load(mask + b * pairs + rows, mask=valid_rows, other=0.0)[:, None]
    target = factor + b * stride_b + rows[:, None] * stride_p + features[None, :] * stride_h
    tl.store(target, value, mask=valid)
'''

# $normalised: of a tile `value` of x, or nothing where the kernel reads y.
GATED_FACTOR = '''

@triton.jit
def gated_factor(
    $source,
    weight, gate_weight, mask, factor, b, rows, pairs, stride_b, stride_p, stride_h,
    D: tl.constexpr, H: tl.constexpr, ROWS: tl.constexpr, BLOCK_K: tl.constexpr,
    MASKED: tl.constexpr,
):
    """factor = projection * sigmoid(gate) * mask, for some pairs of batch b."""
    features = tl.arange(0, H)
    valid_rows = rows < pairs
    valid = valid_rows[:, None]
    projected = tl.zeros((ROWS, H), tl.float32)
    gate = tl.zeros((ROWS, H), tl.float32)
    for d in range(0, D, BLOCK_K):
        columns = d + tl.arange(0, BLOCK_K)
        offsets = (b * pairs + rows)[:, None] * D + columns[None, :]
        value = tl.load($tensor + offsets, mask=valid, other=0.0)
$normalised        entries = features[None, :] * D + columns[:, None]
        projected = dot(value, tl.load(weight + entries), projected)
        gate = dot(value, tl.load(gate_weight + entries), gate)
    value = projected * tl.sigmoid(gate)
    if MASKED:
        value *= tl.load(mask + b * pairs + rows, mask=valid_rows, other=0.0)[:, None]
    target = factor + b * stride_b + rows[:, None] * stride_p + features[None, :] * stride_h
    tl.store(target, value, mask=valid)
'''

NORMALISED = """\
        value = (value - mean[:, None]) * scale[:, None] * tl.load(norm_weight + columns)
        value += tl.load(norm_bias + columns)
"""

GATED_PROJECTION = """

@triton.jit
def gated_projection(
    y, weight, gate_weight, mask, factor, pairs, stride_b, stride_p, stride_h,
    D: tl.constexpr, H: tl.constexpr, ROWS: tl.constexpr, BLOCK_K: tl.constexpr,
    MASKED: tl.constexpr,
):
    b = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    gated_factor(
        y, weight, gate_weight, mask, factor, b, rows, pairs, stride_b, stride_p, stride_h,
        D, H, ROWS, BLOCK_K, MASKED,
    )
"""

FUSED_PROJECTIONS = '''

@triton.jit
def fused_projections(
    x, norm_weight, norm_bias, left_proj, left_gate, right_proj, right_gate, out_gate, mask,
    left, right, gate, pairs, stride_b, stride_p, stride_h,
    D: tl.constexpr, H: tl.constexpr, ROWS: tl.constexpr, BLOCK_K: tl.constexpr,
    MASK_LEFT: tl.constexpr, MASK_RIGHT: tl.constexpr,
):
    """LayerNorm, all five projections, gates and masks of some pairs of one batch."""
    b = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    valid_rows = rows < pairs
    valid = valid_rows[:, None]
    mean, scale = statistics(x, b * pairs + rows, valid_rows, D, BLOCK_K)
    gated_factor(
        x, mean, scale, norm_weight, norm_bias, left_proj, left_gate, mask, left, b, rows, pairs,
        stride_b, stride_p, stride_h, D, H, ROWS, BLOCK_K, MASK_LEFT,
    )
    gated_factor(
        x, mean, scale, norm_weight, norm_bias, right_proj, right_gate, mask, right, b, rows,
        pairs, stride_b, stride_p, stride_h, D, H, ROWS, BLOCK_K, MASK_RIGHT,
    )
    features = tl.arange(0, H)
    total = tl.zeros((ROWS, H), tl.float32)
    for d in range(0, D, BLOCK_K):
        columns = d + tl.arange(0, BLOCK_K)
        offsets = (b * pairs + rows)[:, None] * D + columns[None, :]
        value = tl.load(x + offsets, mask=valid, other=0.0)
$normalised        weight = tl.load(out_gate + features[None, :] * D + columns[:, None])
        total = dot(value, weight, total)
    tl.store(gate + (b * pairs + rows)[:, None] * H + features[None, :], total, mask=valid)
'''

TRIANGLE_PRODUCT = '''

@triton.jit
def triangle_product(
    left, right, product, stride_b, stride_p, stride_h, to_b, to_p, to_h,
    N: tl.constexpr, H: tl.constexpr, TILE: tl.constexpr, BLOCK_K: tl.constexpr,
):
    """A tile of product[b, (i, j), h] = sum over k of left[b, (i, k), h] right[b, (j, k), h]."""
    tiles = $tiles
    b = (tl.program_id(1) // H).to(tl.int64)
    h = tl.program_id(1) % H
    i = tl.program_id(0) // tiles * TILE + tl.arange(0, TILE)
    j = tl.program_id(0) % tiles * TILE + tl.arange(0, TILE)
    left += b * stride_b + h * stride_h
    right += b * stride_b + h * stride_h
    total = tl.zeros((TILE, TILE), tl.float32)
    for start in range(0, $depth, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        valid_left = (i[:, None] < N) & (k[None, :] < N)
        valid_right = (j[:, None] < N) & (k[None, :] < N)
        a = tl.load(left + (i[:, None] * N + k[None, :]) * stride_p, mask=valid_left, other=0.0)
        c = tl.load(right + (j[:, None] * N + k[None, :]) * stride_p, mask=valid_right, other=0.0)
        total = $product_dot
    valid = (i[:, None] < N) & (j[None, :] < N)
    target = product + b * to_b + h * to_h + (i[:, None] * N + j[None, :]) * to_p
    tl.store(target, total, mask=valid)
'''

GATED_NORM = '''

@triton.jit
def gated_norm(
    product, gate, weight, bias, b, rows, pairs, stride_b, stride_p, stride_h, H: tl.constexpr
):
    """LayerNorm over the features of some pairs, times the sigmoid of gate; [rows, H]."""
    features = tl.arange(0, H)
    valid = rows[:, None] < pairs
    source = product + b * stride_b + rows[:, None] * stride_p + features[None, :] * stride_h
    value = tl.load(source, mask=valid, other=0.0).to(tl.float32)
    value -= (tl.sum(value, 1) / H)[:, None]
    value *= (1.0 / tl.sqrt(tl.sum(value * value, 1) / H + 1e-5))[:, None]
    value = value * tl.load(weight + features)[None, :] + tl.load(bias + features)[None, :]
    offsets = (b * pairs + rows)[:, None] * H + features[None, :]
    return value * tl.sigmoid(tl.load(gate + offsets, mask=valid, other=0.0).to(tl.float32))
'''

OUTPUT_NORM = """

@triton.jit
def output_norm(
    product, gate, weight, bias, z, pairs, stride_b, stride_p, stride_h,
    H: tl.constexpr, ROWS: tl.constexpr,
):
    b = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    valid = rows[:, None] < pairs
    value = gated_norm(
        product, gate, weight, bias, b, rows, pairs, stride_b, stride_p, stride_h, H
    )
    offsets = (b * pairs + rows)[:, None] * H + tl.arange(0, H)[None, :]
    tl.store(z + offsets, value, mask=valid)
"""

FUSED_OUTPUT = '''

@triton.jit
def fused_output(
    product, gate, weight, bias, to_out, out, pairs, stride_b, stride_p, stride_h,
    D: tl.constexpr, H: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):
    """LayerNorm, gate and output projection of some pairs of one batch."""
    b = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    features = tl.arange(0, H)
    valid = rows[:, None] < pairs
    value = gated_norm(
        product, gate, weight, bias, b, rows, pairs, stride_b, stride_p, stride_h, H
    )
    for d in range(0, D, COLUMNS):
        columns = d + tl.arange(0, COLUMNS)
        projection = tl.load(to_out + columns[None, :] * H + features[:, None])
        total = dot(value, projection, tl.zeros((ROWS, COLUMNS), tl.float32))
        tl.store(out + (b * pairs + rows)[:, None] * D + columns[None, :], total, mask=valid)
'''

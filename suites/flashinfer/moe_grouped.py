"""The fp8 MoE's baseline, written for this project: grouped products in Triton.

Chosen experts are grouped, every tile of tokens has one expert, products run on the 8-bit operands
with float32 sums for each block of 128, and hidden features are kept in bfloat16. FlashInfer's
CUTLASS route on Hopper (moe_cutlass.py) is faster and coarser: it quantises them again.

Covered: any sizes whose features are multiples of 128 and whose local experts are a power of two;
no wait for the device (a scalar written to one element of a tensor would be one: torch copies it
from pageable memory).
Not covered: tuning to an architecture.
"""

from __future__ import annotations

from suites.flashinfer.moe_code import ROUTE

GROUPED = (
    ROUTE
    + '''

@triton.jit
def hidden_layer(
    x, x_scale, w, w_scale, rows, tiles, hidden, tokens, H: tl.constexpr, I: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):
    """silu(gate) * up of ROWS tokens and BLOCK features of one expert."""
    tile = tl.program_id(1)
    expert = tl.load(tiles + tile).to(tl.int64)
    if expert >= 0:
        place = tile * ROWS + tl.arange(0, ROWS)
        slot = tl.load(rows + place)
        valid = slot >= 0
        token = tl.where(valid, slot, 0).to(tl.int64) // 8
        feature = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        depth = tl.arange(0, 128)
        up = tl.zeros((ROWS, BLOCK), tl.float32)
        gate = tl.zeros((ROWS, BLOCK), tl.float32)
        values = x + token[:, None] * H + depth[None, :]
        weights = w + (expert * 2 * I + feature)[None, :] * H + depth[:, None]
        block = (expert * (2 * I // 128) + tl.program_id(0) * BLOCK // 128) * (H // 128)
        for k in range(0, H // 128):
            a = tl.load(values + k * 128)
            scale = tl.load(x_scale + k * tokens + token)[:, None]
            first = tl.dot(a, tl.load(weights + k * 128))
            second = tl.dot(a, tl.load(weights + I * H + k * 128))
            up += first * scale * tl.load(w_scale + block + k)
            gate += second * scale * tl.load(w_scale + block + (I // 128) * (H // 128) + k)
        result = gate / (1.0 + tl.exp(-gate)) * up
        target = hidden + place.to(tl.int64)[:, None] * I + feature[None, :]
        tl.store(target, result, mask=valid[:, None])


@triton.jit
def output_layer(
    hidden, w, w_scale, rows, tiles, weights, total, H: tl.constexpr, I: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):
    """Adds BLOCK output features of ROWS tokens of one expert."""
    tile = tl.program_id(1)
    expert = tl.load(tiles + tile).to(tl.int64)
    if expert >= 0:
        place = tile * ROWS + tl.arange(0, ROWS)
        slot = tl.load(rows + place)
        valid = slot >= 0
        slot = tl.where(valid, slot, 0).to(tl.int64)
        feature = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        depth = tl.arange(0, 128)
        result = tl.zeros((ROWS, BLOCK), tl.float32)
        values = hidden + place.to(tl.int64)[:, None] * I + depth[None, :]
        matrix = w + (expert * H + feature)[None, :] * I + depth[:, None]
        block = (expert * (H // 128) + tl.program_id(0) * BLOCK // 128) * (I // 128)
        for k in range(0, I // 128):
            a = tl.load(values + k * 128, mask=valid[:, None], other=0.0)
            b = tl.load(matrix + k * 128).to(tl.float32).to(tl.bfloat16)
            result += tl.dot(a, b) * tl.load(w_scale + block + k)
        result *= tl.load(weights + slot, mask=valid, other=0.0)[:, None]
        target = total + (slot // 8)[:, None] * H + feature[None, :]
        tl.atomic_add(target, result, mask=valid[:, None])


@triton.jit
def counted(chosen, counts, places, offset, slots, LOCAL: tl.constexpr, BLOCK: tl.constexpr):
    """How many slots (token * 8 + k) every local expert has, and each one's place among them."""
    slot = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    expert = tl.load(chosen + slot, mask=slot < slots, other=-1) - offset
    local = (slot < slots) & (expert >= 0) & (expert < LOCAL)
    place = tl.atomic_add(counts + expert, 1, mask=local, sem="relaxed")
    tl.store(places + slot, place, mask=local)


@triton.jit
def placed(
    chosen, counts, places, rows, tiles, offset, slots, LOCAL: tl.constexpr, SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Writes slots to the rows of their expert's tiles; a tile's first slot names the expert."""
    experts = tl.arange(0, LOCAL)
    needed = (tl.load(counts + experts) + SIZE - 1) // SIZE
    first = tl.cumsum(needed, 0) - needed  # tile of each expert
    slot = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    expert = tl.load(chosen + slot, mask=slot < slots, other=-1) - offset
    local = (slot < slots) & (expert >= 0) & (expert < LOCAL)
    place = tl.load(places + slot, mask=local, other=0)
    begin = tl.sum(tl.where(expert[:, None] == experts[None, :], first[None, :], 0), 1)
    tl.store(rows + begin * SIZE + place, slot, mask=local)
    tl.store(tiles + begin + place // SIZE, expert, mask=local & (place % SIZE == 0))


def tiled(inputs, chosen, size):
    """Slots grouped by local expert, every expert's padded with -1 to a multiple of `size`, and the
    expert of every tile, -1 for none. The order within an expert is left to chance."""
    local, device = inputs.num_local_experts, chosen.device
    slots = inputs.seq_len * 8
    most = min(slots, triton.cdiv(slots, size) + local)  # tiles
    table = torch.full((most * (size + 1),), -1, dtype=torch.int32, device=device)
    rows, tiles = table[: most * size], table[most * size :]
    counts = torch.zeros((local,), dtype=torch.int32, device=device)
    places = torch.empty((slots,), dtype=torch.int32, device=device)
    grid = (triton.cdiv(slots, 128),)
    counted[grid](
        chosen, counts, places, inputs.local_expert_offset, slots, LOCAL=local, BLOCK=128
    )
    placed[grid](
        chosen, counts, places, rows, tiles, inputs.local_expert_offset, slots, LOCAL=local,
        SIZE=size, BLOCK=128,
    )
    return rows, tiles


def run(inputs, outputs):
    tokens, h, i = inputs.seq_len, inputs.hidden_size, inputs.intermediate_size
    size = 16 if tokens <= 256 else 64
    chosen, weights = routed(inputs)
    rows, tiles = tiled(inputs, chosen, size)
    hidden = torch.empty((tiles.numel() * size, i), dtype=torch.bfloat16, device=chosen.device)
    hidden_layer[(i // 64, tiles.numel())](
        inputs.hidden_states, inputs.hidden_states_scale, inputs.gemm1_weights,
        inputs.gemm1_weights_scale, rows, tiles, hidden, tokens, H=h, I=i, ROWS=size, BLOCK=64,
        num_warps=4, num_stages=4,
    )
    total = torch.zeros((tokens, h), dtype=torch.float32, device=chosen.device)
    output_layer[(h // 128, tiles.numel())](
        hidden, inputs.gemm2_weights, inputs.gemm2_weights_scale, rows, tiles, weights, total, H=h,
        I=i, ROWS=size, BLOCK=128, num_warps=4, num_stages=4,
    )
    outputs.output.copy_(total)
'''
)

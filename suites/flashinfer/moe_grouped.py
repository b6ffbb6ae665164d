"""The fp8 MoE's baseline, written for this project: grouped products in Triton.

No library has this operator on Hopper (FlashInfer's runs on Blackwell only), so the score is
relative to this program, whose name says so. Chosen experts are sorted, every tile of tokens has
one expert, products run on the 8-bit operands with float32 sums for each block of 128, and hidden
features are kept in bfloat16.

Covered: any sizes whose features are multiples of 128; no wait for the device.
Not covered: tuning to an architecture; FlashInfer's CUTLASS route on Hopper, which quantises again.
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


def tiled(inputs, chosen, size):
    """Slots (token * 8 + k) sorted by local expert, every expert's padded with -1 to a multiple of
    `size`, and the expert of every tile, -1 for none. No wait for the device."""
    local, device = inputs.num_local_experts, chosen.device
    slots = inputs.seq_len * 8
    tiles = min(slots, triton.cdiv(slots, size) + local)
    expert = chosen.view(-1).long() - inputs.local_expert_offset
    expert = torch.where((expert >= 0) & (expert < local), expert, local)
    order = expert.argsort(stable=True)
    experts = torch.arange(local + 1, device=device)
    ends = torch.searchsorted(expert[order], experts, right=True)
    counts = ends.diff(prepend=ends.new_zeros(1))
    padded = (counts + size - 1) // size
    padded[local] = 0
    last = padded.cumsum(0)  # tiles up to and with each expert
    number = torch.arange(tiles, device=device)
    of_tile = torch.searchsorted(last[:local].contiguous(), number, right=True)
    rows = torch.full((tiles * size + 1,), -1, dtype=torch.int32, device=device)
    sorted_expert = expert[order]
    place = torch.arange(slots, device=device) - (ends - counts)[sorted_expert]
    place += (last - padded)[sorted_expert] * size
    place = torch.where(sorted_expert < local, place, tiles * size)  # the others' common place
    rows[place] = order.to(torch.int32)
    return rows, torch.where(of_tile < local, of_tile, -1).to(torch.int32)


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

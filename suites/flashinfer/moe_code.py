"""Programs of the fp8 MoE, as texts: the naive starts in Triton and CUDA, and torch's own.

Covered: any sizes whose features are multiples of 128 and whose experts fall into 8 groups; any
offset of the local experts. The naive programs look at every chosen expert of every token by
itself; nothing is sorted, and no weight is read once for several tokens.
Not covered: the grouped products that serve as the baseline (moe_grouped.py).
"""

from __future__ import annotations

ROUTE = '''\
import torch
import triton
import triton.language as tl

FACTOR = 2.5


@triton.jit
def route(
    logits, bias, chosen, weights, factor, EXPERTS: tl.constexpr, GROUPS: tl.constexpr,
    KEPT: tl.constexpr, TOP: tl.constexpr,
):
    """The TOP experts of one token [TOP], and their weights."""
    token = tl.program_id(0).to(tl.int64)
    expert = tl.arange(0, EXPERTS)
    score = 1.0 / (1.0 + tl.exp(-tl.load(logits + token * EXPERTS + expert)))
    biased = score + tl.load(bias + expert).to(tl.float32)
    grouped = tl.reshape(biased, (GROUPS, EXPERTS // GROUPS))
    place = tl.arange(0, EXPERTS // GROUPS)
    first = tl.argmax(grouped, 1)
    rest = tl.where(place[None, :] == first[:, None], float("-inf"), grouped)
    best = tl.max(grouped, 1) + tl.max(rest, 1)
    group = tl.arange(0, GROUPS)
    # Kept are the groups that fewer than KEPT others are better than.
    mine = tl.sum(tl.where(group[:, None] == group[None, :], best[None, :], 0.0), 1)
    better = (best[None, :] > mine[:, None]) | (
        (best[None, :] == mine[:, None]) & (group[None, :] < group[:, None])
    )
    kept = tl.sum(better.to(tl.int32), 1) < KEPT
    allowed = tl.reshape(tl.where(kept[:, None], grouped, float("-inf")), (EXPERTS,))
    slot = tl.arange(0, TOP)
    picked = tl.zeros((TOP,), tl.int32)
    value = tl.zeros((TOP,), tl.float32)
    for k in tl.static_range(TOP):
        at = tl.argmax(allowed, 0)
        hit = expert == at
        picked = tl.where(slot == k, at, picked)
        value = tl.where(slot == k, tl.sum(tl.where(hit, score, 0.0), 0), value)
        allowed = tl.where(hit, float("-inf"), allowed)
    tl.store(chosen + token * TOP + slot, picked)
    tl.store(weights + token * TOP + slot, value / (tl.sum(value, 0) + 1e-20) * factor)


def routed(inputs):
    """Chosen experts int32 and their weights float32 [seq_len, 8]."""
    tokens, device = inputs.seq_len, inputs.routing_logits.device
    chosen = torch.empty((tokens, 8), dtype=torch.int32, device=device)
    weights = torch.empty((tokens, 8), dtype=torch.float32, device=device)
    route[(tokens,)](
        inputs.routing_logits, inputs.routing_bias, chosen, weights, FACTOR,
        EXPERTS=inputs.num_experts, GROUPS=8, KEPT=4, TOP=8, num_warps=4,
    )
    return chosen, weights
'''

TRITON_START = (
    ROUTE
    + '''

@triton.jit
def hidden_layer(
    x, x_scale, w, w_scale, chosen, hidden, tokens, offset, LOCAL: tl.constexpr, H: tl.constexpr,
    I: tl.constexpr, BLOCK: tl.constexpr,
):
    """silu(gate) * up of BLOCK features of one token for one of its experts, if that is local."""
    slot = tl.program_id(0).to(tl.int64)
    token = slot // 8
    expert = tl.load(chosen + slot).to(tl.int64) - offset
    feature = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    depth = tl.arange(0, 128)
    if (expert >= 0) & (expert < LOCAL):
        up = tl.zeros((BLOCK,), tl.float32)
        gate = tl.zeros((BLOCK,), tl.float32)
        rows = w + (expert * 2 * I + feature)[:, None] * H + depth[None, :]
        scales = w_scale + (expert * (2 * I // 128) + feature // 128) * (H // 128)
        for k in range(0, H // 128):
            value = tl.load(x + token * H + k * 128 + depth).to(tl.float32)
            scale = tl.load(x_scale + k * tokens + token)
            row = tl.load(rows + k * 128).to(tl.float32)
            up += tl.sum(row * value[None, :], 1) * scale * tl.load(scales + k)
            row = tl.load(rows + I * H + k * 128).to(tl.float32)
            other = tl.load(scales + (I // 128) * (H // 128) + k)
            gate += tl.sum(row * value[None, :], 1) * scale * other
        tl.store(hidden + slot * I + feature, gate / (1.0 + tl.exp(-gate)) * up)


@triton.jit
def output_layer(
    hidden, w, w_scale, chosen, weights, output, offset, LOCAL: tl.constexpr, H: tl.constexpr,
    I: tl.constexpr, BLOCK: tl.constexpr,
):
    """BLOCK features of one token's output, over its local experts."""
    token = tl.program_id(0).to(tl.int64)
    feature = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    depth = tl.arange(0, 128)
    total = tl.zeros((BLOCK,), tl.float32)
    for k in range(8):
        slot = token * 8 + k
        expert = tl.load(chosen + slot).to(tl.int64) - offset
        if (expert >= 0) & (expert < LOCAL):
            rows = w + (expert * H + feature)[:, None] * I + depth[None, :]
            scales = w_scale + (expert * (H // 128) + feature // 128) * (I // 128)
            part = tl.zeros((BLOCK,), tl.float32)
            for i in range(0, I // 128):
                value = tl.load(hidden + slot * I + i * 128 + depth)
                row = tl.load(rows + i * 128).to(tl.float32)
                part += tl.sum(row * value[None, :], 1) * tl.load(scales + i)
            total += part * tl.load(weights + slot)
    tl.store(output + token * H + feature, total)


def run(inputs, outputs):
    tokens, h, i = inputs.seq_len, inputs.hidden_size, inputs.intermediate_size
    chosen, weights = routed(inputs)
    hidden = torch.empty((tokens * 8, i), dtype=torch.float32, device=chosen.device)
    hidden_layer[(tokens * 8, i // 64)](
        inputs.hidden_states, inputs.hidden_states_scale, inputs.gemm1_weights,
        inputs.gemm1_weights_scale, chosen, hidden, tokens, inputs.local_expert_offset,
        LOCAL=inputs.num_local_experts, H=h, I=i, BLOCK=64, num_warps=4,
    )
    output_layer[(tokens, h // 64)](
        hidden, inputs.gemm2_weights, inputs.gemm2_weights_scale, chosen, weights, outputs.output,
        inputs.local_expert_offset, LOCAL=inputs.num_local_experts, H=h, I=i, BLOCK=64,
        num_warps=4,
    )
'''
)

CUDA_START = """\
#include "task.h"

#include <math.h>

constexpr int GROUPS = 8, KEPT = 4, TOP = 8, MOST_EXPERTS = 256;
constexpr float FACTOR = 2.5f;

__device__ float over_warp(float value) {
    for (int mask = 16; mask > 0; mask /= 2) value += __shfl_xor_sync(0xffffffffu, value, mask);
    return value;
}

// One thread for each token: its 8 experts and their weights.
__global__ void route(Inputs in, int* chosen, float* weights) {
    const int token = blockIdx.x * blockDim.x + threadIdx.x;
    const int experts = (int)in.num_experts, size = experts / GROUPS;
    if (token >= in.seq_len) return;
    float score[MOST_EXPERTS], biased[MOST_EXPERTS], best[GROUPS];
    for (int e = 0; e < experts; e++) {
        score[e] = 1.0f / (1.0f + expf(-in.routing_logits[(size_t)token * experts + e]));
        biased[e] = score[e] + __bfloat162float(in.routing_bias[e]);
    }
    for (int g = 0; g < GROUPS; g++) {
        float first = -INFINITY, second = -INFINITY;
        for (int e = g * size; e < (g + 1) * size; e++) {
            if (biased[e] > first) {
                second = first;
                first = biased[e];
            } else if (biased[e] > second) {
                second = biased[e];
            }
        }
        best[g] = first + second;
    }
    for (int g = 0; g < GROUPS; g++) {
        int better = 0;
        for (int other = 0; other < GROUPS; other++) {
            better += best[other] > best[g] || (best[other] == best[g] && other < g);
        }
        if (better < KEPT) continue;
        for (int e = g * size; e < (g + 1) * size; e++) biased[e] = -INFINITY;
    }
    float total = 0;
    for (int k = 0; k < TOP; k++) {
        int at = 0;
        for (int e = 1; e < experts; e++) {
            if (biased[e] > biased[at]) at = e;
        }
        chosen[token * TOP + k] = at;
        weights[token * TOP + k] = score[at];
        total += score[at];
        biased[at] = -INFINITY;
    }
    for (int k = 0; k < TOP; k++) {
        weights[token * TOP + k] = weights[token * TOP + k] / (total + 1e-20f) * FACTOR;
    }
}

// One block for each token and chosen expert: silu(gate) * up, a warp for each feature in turn.
__global__ void hidden_layer(Inputs in, const int* chosen, float* hidden) {
    const size_t slot = blockIdx.x, token = slot / TOP;
    const long long expert = chosen[slot] - in.local_expert_offset;
    if (expert < 0 || expert >= in.num_local_experts) return;
    const int h = (int)in.hidden_size, size = (int)in.intermediate_size, blocks = h / 128;
    const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
    for (int feature = threadIdx.x / 32; feature < size; feature += warps) {
        float sums[2] = {0, 0};  // up, gate
        for (int half = 0; half < 2; half++) {
            const size_t row = (size_t)expert * 2 * size + half * size + feature;
            const size_t scales =
                ((size_t)expert * (2 * size / 128) + (half * size + feature) / 128) * blocks;
            for (int block = 0; block < blocks; block++) {
                float part = 0;
                for (int i = lane; i < 128; i += 32) {
                    part += (float)in.hidden_states[token * h + block * 128 + i] *
                            (float)in.gemm1_weights[row * h + block * 128 + i];
                }
                sums[half] += part * in.hidden_states_scale[block * in.seq_len + token] *
                              in.gemm1_weights_scale[scales + block];
            }
            sums[half] = over_warp(sums[half]);
        }
        if (lane == 0) {
            hidden[slot * size + feature] = sums[1] / (1.0f + expf(-sums[1])) * sums[0];
        }
    }
}

// One block for each token: its output, a warp for each feature in turn.
__global__ void output_layer(
    Inputs in, Outputs out, const int* chosen, const float* weights, const float* hidden
) {
    const size_t token = blockIdx.x;
    const int h = (int)in.hidden_size, size = (int)in.intermediate_size, blocks = size / 128;
    const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
    for (int feature = threadIdx.x / 32; feature < h; feature += warps) {
        float total = 0;
        for (int k = 0; k < TOP; k++) {
            const size_t slot = token * TOP + k;
            const long long expert = chosen[slot] - in.local_expert_offset;
            if (expert < 0 || expert >= in.num_local_experts) continue;
            const size_t row = (size_t)expert * h + feature;
            const size_t scales = ((size_t)expert * (h / 128) + feature / 128) * blocks;
            float sum = 0;
            for (int block = 0; block < blocks; block++) {
                float part = 0;
                for (int i = lane; i < 128; i += 32) {
                    part += hidden[slot * size + block * 128 + i] *
                            (float)in.gemm2_weights[row * size + block * 128 + i];
                }
                sum += part * in.gemm2_weights_scale[scales + block];
            }
            total += over_warp(sum) * weights[slot];
        }
        if (lane == 0) out.output[token * h + feature] = __float2bfloat16(total);
    }
}

// The workspace: chosen experts, weights and hidden features of every slot.
extern "C" size_t workspace_bytes(const Inputs* in) {
    return (size_t)in->seq_len * TOP * (sizeof(int) + sizeof(float) * (1 + in->intermediate_size));
}

extern "C" int run(const Inputs* in, const Outputs* out, void* workspace, void* stream) {
    const unsigned tokens = (unsigned)in->seq_len;
    int* chosen = (int*)workspace;
    float* weights = (float*)(chosen + (size_t)tokens * TOP);
    float* hidden = weights + (size_t)tokens * TOP;
    cudaStream_t queue = (cudaStream_t)stream;
    route<<<(tokens + 31) / 32, 32, 0, queue>>>(*in, chosen, weights);
    hidden_layer<<<tokens * TOP, 256, 0, queue>>>(*in, chosen, hidden);
    output_layer<<<tokens, 256, 0, queue>>>(*in, *out, chosen, weights, hidden);
    return (int)cudaGetLastError();
}
"""

TORCH = '''\
import torch

FACTOR = 2.5


def routed(inputs):
    """Chosen experts and their weights [seq_len, 8]."""
    score = torch.sigmoid(inputs.routing_logits)
    biased = score + inputs.routing_bias.float()
    tokens, experts = biased.shape
    groups = biased.view(tokens, 8, experts // 8)
    kept = groups.topk(2, -1).values.sum(-1).topk(4, -1).indices
    allowed = torch.full_like(groups, float("-inf"))
    places = kept[..., None].expand(-1, -1, experts // 8)
    allowed.scatter_(1, places, groups.gather(1, places))
    chosen = allowed.view(tokens, experts).topk(8, -1).indices
    weights = score.gather(1, chosen)
    return chosen, weights / (weights.sum(-1, keepdim=True) + 1e-20) * FACTOR


def scaled(values, scales):
    """An expert's 8-bit matrix times its scales by 128 x 128 block, in bfloat16."""
    rows, columns = values.shape
    blocks = values.float().view(rows // 128, 128, columns // 128, 128)
    return (blocks * scales[:, None, :, None]).view(rows, columns).to(torch.bfloat16)


def run(inputs, outputs):
    """Expert by expert, on bfloat16 copies of its weights."""
    tokens, width = inputs.seq_len, inputs.intermediate_size
    chosen, weights = routed(inputs)
    blocks = inputs.hidden_states.float().view(tokens, -1, 128)
    x = (blocks * inputs.hidden_states_scale.t()[..., None]).view(tokens, -1).to(torch.bfloat16)
    total = torch.zeros(outputs.output.shape, dtype=torch.float32, device=x.device)
    for expert in range(inputs.num_local_experts):
        mine, slot = (chosen == expert + inputs.local_expert_offset).nonzero(as_tuple=True)
        if not mine.numel():
            continue
        first = scaled(inputs.gemm1_weights[expert], inputs.gemm1_weights_scale[expert])
        second = scaled(inputs.gemm2_weights[expert], inputs.gemm2_weights_scale[expert])
        up, gate = (x[mine] @ first.t()).split(width, -1)
        part = (torch.nn.functional.silu(gate.float()) * up.float()).to(torch.bfloat16)
        part = (part @ second.t()).float() * weights[mine, slot][:, None]
        total.index_add_(0, mine, part)
    outputs.output.copy_(total)
'''

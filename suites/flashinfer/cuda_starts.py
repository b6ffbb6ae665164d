"""Naive CUDA programs of the attention tasks: one warp for each query head of a query.

Covered: texts against the generated task.h; any page table, sequences without tokens, queries that
see no token. Not covered: speed; the MoE's (moe_code.py).
"""

from __future__ import annotations

_HEAD = """\
#include "task.h"

#include <math.h>

constexpr float SCALE = $scalef;
constexpr float LOG2_E = 1.4426950408889634f;

__device__ float over_warp(float value) {
    for (int mask = 16; mask > 0; mask /= 2) value += __shfl_xor_sync(0xffffffffu, value, mask);
    return value;
}
"""

_RUN = """
extern "C" int run(const Inputs* in, const Outputs* out, void* workspace, void* stream) {
    dim3 grid((unsigned)in->$rows, HEADS);
    attend<<<grid, 32, 0, (cudaStream_t)stream>>>(*in, *out);
    return (int)cudaGetLastError();
}
"""

_GQA = """
constexpr int HEADS = 32, KV_HEADS = $kv_heads, D = 128;

// One warp for each sequence and query head; a lane holds 4 of the 128 dimensions.
__global__ void attend(Inputs in, Outputs out) {
    const int sequence = blockIdx.x, head = blockIdx.y, first = threadIdx.x * 4;
    const int kv_head = head / (HEADS / KV_HEADS);
    const size_t row = (size_t)sequence * HEADS + head;
    float query[4], sum[4], highest = -INFINITY, total = 0;
    for (int i = 0; i < 4; i++) {
        query[i] = __bfloat162float(in.q[row * D + first + i]) * SCALE;
        sum[i] = 0;
    }
    for (int t = in.kv_indptr[sequence]; t < in.kv_indptr[sequence + 1]; t++) {
        const size_t entry = ((size_t)in.kv_indices[t] * KV_HEADS + kv_head) * D + first;
        float logit = 0;
        for (int i = 0; i < 4; i++) logit += query[i] * __bfloat162float(in.k_cache[entry + i]);
        logit = over_warp(logit);
        const float top = fmaxf(highest, logit);
        const float old = expf(highest - top), weight = expf(logit - top);
        total = total * old + weight;
        for (int i = 0; i < 4; i++) {
            sum[i] = sum[i] * old + weight * __bfloat162float(in.v_cache[entry + i]);
        }
        highest = top;
    }
    for (int i = 0; i < 4; i++) {
        const float value = total > 0 ? sum[i] / total : 0.0f;
        out.output[row * D + first + i] = __float2bfloat16(value);
    }
    if (threadIdx.x == 0) out.lse[row] = total > 0 ? (highest + logf(total)) * LOG2_E : -INFINITY;
}
"""

_MLA = """
constexpr int HEADS = 16, D = 512, TURNED = 64;
constexpr int OWN = D / 32, OWN_TURNED = TURNED / 32;  // dimensions of a lane

// One query head of one query over tokens begin to end of kv_indices, by one warp. A lane holds
// every 32nd dimension.
__device__ void attend_row(const Inputs& in, const Outputs& out, size_t row, int begin, int end) {
    const int lane = threadIdx.x;
    float query[OWN], turned[OWN_TURNED], sum[OWN], highest = -INFINITY, total = 0;
    for (int i = 0; i < OWN; i++) {
        query[i] = __bfloat162float(in.q_nope[row * D + lane + 32 * i]) * SCALE;
        sum[i] = 0;
    }
    for (int i = 0; i < OWN_TURNED; i++) {
        turned[i] = __bfloat162float(in.q_pe[row * TURNED + lane + 32 * i]) * SCALE;
    }
    for (int t = begin; t < end; t++) {
        const size_t page = in.kv_indices[t];
        float value[OWN], logit = 0;
        for (int i = 0; i < OWN; i++) {
            value[i] = __bfloat162float(in.ckv_cache[page * D + lane + 32 * i]);
            logit += query[i] * value[i];
        }
        for (int i = 0; i < OWN_TURNED; i++) {
            logit += turned[i] * __bfloat162float(in.kpe_cache[page * TURNED + lane + 32 * i]);
        }
        logit = over_warp(logit);
        const float top = fmaxf(highest, logit);
        const float old = expf(highest - top), weight = expf(logit - top);
        total = total * old + weight;
        for (int i = 0; i < OWN; i++) sum[i] = sum[i] * old + weight * value[i];
        highest = top;
    }
    for (int i = 0; i < OWN; i++) {
        const float value = total > 0 ? sum[i] / total : 0.0f;
        out.output[row * D + lane + 32 * i] = __float2bfloat16(value);
    }
    if (lane == 0) out.lse[row] = total > 0 ? (highest + logf(total)) * LOG2_E : -INFINITY;
}
"""

_MLA_DECODE = """
__global__ void attend(Inputs in, Outputs out) {
    const int sequence = blockIdx.x;
    const size_t row = (size_t)sequence * HEADS + blockIdx.y;
    attend_row(in, out, row, in.kv_indptr[sequence], in.kv_indptr[sequence + 1]);
}
"""

_MLA_PREFILL = """
__global__ void attend(Inputs in, Outputs out) {
    const int query = blockIdx.x;
    int low = 0, high = (int)in.len_indptr - 1;  // qo_indptr[low] <= query < qo_indptr[high]
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (in.qo_indptr[middle] <= query) low = middle;
        else high = middle;
    }
    const int begin = in.kv_indptr[low], last = in.kv_indptr[low + 1];
    const int after = in.qo_indptr[low + 1] - query - 1;  // queries of this sequence behind it
    attend_row(in, out, (size_t)query * HEADS + blockIdx.y, begin, last - after);
}
"""


def _program(body: str, scale: float, rows: str) -> str:
    head = _HEAD.replace("$scale", repr(scale))
    return head + body + _RUN.replace("$rows", rows)


def gqa(kv_heads: int, scale: float) -> str:
    """Grouped-query decode."""
    return _program(_GQA.replace("$kv_heads", str(kv_heads)), scale, "batch_size")


def mla_decode(scale: float) -> str:
    """MLA decode."""
    return _program(_MLA + _MLA_DECODE, scale, "batch_size")


def mla_prefill(scale: float) -> str:
    """MLA prefill."""
    return _program(_MLA + _MLA_PREFILL, scale, "total_q")

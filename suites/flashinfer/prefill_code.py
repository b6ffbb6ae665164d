"""The naive Triton program of MLA prefill: one program for each head of a query.

Covered: any page table; the causal mask aligned to a sequence's end. It runs on a GPU or, with
TRITON_INTERPRET=1, on a CPU. Not covered: speed; other programs (no design space is shipped).
"""

from __future__ import annotations

START = """\
import triton
import triton.language as tl

BLOCK = 16  # tokens per step
LOG2_E = 1.4426950408889634
SCALE = 0.1352337747812271


@triton.jit
def attend(
    q_nope, q_pe, ckv_cache, kpe_cache, qo_indptr, kv_indptr, kv_indices, output, lse, sequences,
    sm_scale, HEADS: tl.constexpr, D: tl.constexpr, TURNED: tl.constexpr, BLOCK: tl.constexpr,
    LOG2_E: tl.constexpr,
):
    query = tl.program_id(0)
    place = query.to(tl.int64) * HEADS + tl.program_id(1)
    column = tl.arange(0, D)
    turned = tl.arange(0, TURNED)
    # The sequence of this query: qo_indptr[low] <= query < qo_indptr[high].
    low = query * 0
    high = low + sequences
    while high - low > 1:
        middle = (low + high) // 2
        before = tl.load(qo_indptr + middle) <= query
        low = tl.where(before, middle, low)
        high = tl.where(before, high, middle)
    start = tl.load(kv_indptr + low)
    end = tl.load(kv_indptr + low + 1) - (tl.load(qo_indptr + low + 1) - query - 1)
    nope = tl.load(q_nope + place * D + column).to(tl.float32)
    rope = tl.load(q_pe + place * TURNED + turned).to(tl.float32)
    highest = tl.full((1,), float("-inf"), tl.float32)
    total = tl.zeros((1,), tl.float32)
    result = tl.zeros((D,), tl.float32)
    while start < end:
        token = start + tl.arange(0, BLOCK)
        page = tl.load(kv_indices + tl.minimum(token, end - 1)).to(tl.int64)
        latent = tl.load(ckv_cache + page[:, None] * D + column[None, :]).to(tl.float32)
        key = tl.load(kpe_cache + page[:, None] * TURNED + turned[None, :]).to(tl.float32)
        logits = tl.sum(latent * nope[None, :], 1) + tl.sum(key * rope[None, :], 1)
        logits = tl.where(token < end, logits * sm_scale, float("-inf"))
        new = tl.maximum(highest, tl.max(logits, 0))
        old = tl.exp(highest - new)
        weight = tl.exp(logits - new)
        total = total * old + tl.sum(weight, 0)
        result = result * old + tl.sum(weight[:, None] * latent, 0)
        highest = new
        start += BLOCK
    result = result / tl.where(total > 0, total, 1.0)
    tl.store(output + place * D + column, result)
    tl.store(lse + place + tl.arange(0, 1), highest * LOG2_E + tl.log2(total))


def run(inputs, outputs):
    attend[(inputs.total_q, 16)](
        inputs.q_nope, inputs.q_pe, inputs.ckv_cache, inputs.kpe_cache, inputs.qo_indptr,
        inputs.kv_indptr, inputs.kv_indices, outputs.output, outputs.lse, inputs.len_indptr - 1,
        SCALE, HEADS=16, D=512, TURNED=64, BLOCK=BLOCK, LOG2_E=LOG2_E, num_warps=4,
    )
"""

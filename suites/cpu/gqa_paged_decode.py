"""cpu/gqa_paged_decode: one decoding step of grouped-query attention over a paged KV cache.

The semantics are those of FlashInfer-Bench's task gqa_paged_decode at CPU size: 16 query heads, 2
KV heads, head dimension 64, float32, page size 1.

Covered: the prose, workloads, input contents, float64 reference, tolerances, compulsory work, the
torch baseline and the starting program.
Not covered: the designs that the simulated model writes (gqa_paged_decode_space.py); 16-bit caches
and page sizes above 1.
"""

from __future__ import annotations

import numpy as np

from harness.suite import (
    Array,
    Arrays,
    Axis,
    Baseline,
    NumpyTask,
    Signature,
    Tensor,
    Tolerance,
    Work,
)
from harness.types import Workload
from suites.cpu.gqa_paged_decode_space import GqaPagedDecodeSpace
from suites.cpu.uniform import fill_uniform

QUERY_HEADS = 16
KV_HEADS = 2
HEAD_DIM = 64
_GROUP = QUERY_HEADS // KV_HEADS

_PROSE = """\
Compute one decoding step of grouped-query attention: for each sequence of a batch, one query \
token attends to all of that sequence's cached keys and values, which lie scattered over a paged \
cache.

There are 16 query heads, 2 KV heads and 64 dimensions per head; a page holds one token. All \
arrays are dense and row-major, floats have 32 bits and indices are signed 32-bit integers.
- q [batch_size, 16, 64]: the queries.
- k_cache, v_cache [num_pages, 1, 2, 64]: keys and values of every page and KV head.
- kv_indptr [batch_size + 1]: starts at 0, never decreases, ends at num_kv_indices. The tokens \
of sequence b are the entries kv_indptr[b] up to, but not including, kv_indptr[b + 1] of \
kv_indices.
- kv_indices [num_kv_indices]: the page of each token, in any order. Two sequences may share \
pages, and some pages are used by none.
- output [batch_size, 16, 64] and lse [batch_size, 16]: the results; their memory holds garbage \
before the call.

Query head h uses KV head h / 8 (integer division). For sequence b and head h, the logit of \
token t is the dot product of q[b, h] and k_cache[page of t, 0, h / 8], times sm_scale = 1 / \
sqrt(64) = 0.125. The weights are the softmax of the logits over the sequence's tokens; \
output[b, h] is the sum over tokens of weight times v_cache[page of t, 0, h / 8]. lse[b, h] is \
the logarithm to base 2 of the sum over tokens of e^logit.

A sequence may have no tokens: its output is then 0 and its lse is minus infinity. Lengths \
within a batch may differ widely. Logits reach a magnitude of 100 and more, so the softmax must \
be computed stably.

The results are compared with a 64-bit computation at a tolerance that 32-bit arithmetic in any \
order meets, and 16-bit formats, a dropped token or a wrong page do not.

You may use OpenMP threads, compiler vector extensions, and the workspace. No library may be \
called but the C library's mathematical functions. Inputs, page tables and lengths change with \
every call, so nothing can be kept from one call to the next."""

_BASELINE = '''\
import torch

LOG2_E = 1.4426950408889634
attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # returns lse, unlike its front


def run(inputs, outputs):
    """Gather all pages once, then torch's fused CPU attention sequence by sequence."""
    bounds = inputs.kv_indptr.tolist()
    q = inputs.q.view(inputs.batch_size, 1, 2, 8, 64)  # a KV head's queries, as if 8 positions
    output = outputs.output.view(inputs.batch_size, 2, 8, 64)
    natural = torch.full((inputs.batch_size, 2, 8), float("-inf"))
    k = inputs.k_cache.index_select(0, inputs.kv_indices).view(1, -1, 2, 64).transpose(1, 2)
    v = inputs.v_cache.index_select(0, inputs.kv_indices).view(1, -1, 2, 64).transpose(1, 2)
    for b in range(inputs.batch_size):
        begin, end = bounds[b], bounds[b + 1]
        if begin == end:
            output[b].zero_()
            continue
        result, lse = attend(q[b], k[:, :, begin:end], v[:, :, begin:end], scale=0.125)
        output[b] = result[0]
        natural[b] = lse[0]
    torch.mul(natural.view(-1, 16), LOG2_E, out=outputs.lse)
'''


def _workload(batch_size: int, num_kv_indices: int, num_pages: int) -> Workload:
    return Workload(
        f"b{batch_size}_kv{num_kv_indices}",
        {
            "batch_size": batch_size,
            "len_indptr": batch_size + 1,
            "num_pages": num_pages,
            "num_kv_indices": num_kv_indices,
        },
    )


_SEARCH = (
    _workload(1, 1500, 1531),
    _workload(4, 3000, 3100),
    _workload(16, 3989, 4096),
    _workload(64, 2500, 2600),
)


# Kinds of query heads; each group of 8 has one of each, in random order. Scales are standard
# deviations of a query's elements; a scale s gives logits of a standard deviation of 0.29 s.
_SCALES = np.array([2.0, 20.0, 3.0, 12.0, 50.0, 12.0, 3.0, 3.0], np.float32)
_ALIGNED = np.array([0, 0, 0, 0, 0, 0, 1, -1], np.float32)  # with the mean key, or against it


def _queries(rng: np.random.Generator, batch_size: int, means: Array) -> tuple[Array, Array]:
    """Queries [batch_size, 2, 8, 64], and two salient keys for each sequence and KV head
    [2, batch_size, 2, 64].

    Along the mean key: one head's logits all lie around 110 to 160, one's around -110 to -160. The
    head of scale 2 sees nearly equal logits, but for salient key 0: 12 to 15 above the rest, so
    that the rest together count and each alone hardly does. The head of scale 20 sees salient key 1
    at 110 to 160 above the middle of the rest.
    """
    queries = np.empty((batch_size, KV_HEADS, _GROUP, HEAD_DIM), np.float32)
    fill_uniform(rng, queries)
    kinds = rng.random((batch_size, KV_HEADS, _GROUP)).argsort(axis=2)
    queries *= (np.sqrt(12) * _SCALES[kinds]).astype(np.float32)[..., None]
    logits = _ALIGNED[kinds] * rng.uniform(110, 160, size=kinds.shape)
    along = (logits * 8 / np.sum(means * means, axis=1)[:, None]).astype(np.float32)
    queries += along[..., None] * means[:, None]
    salient = []
    for kind, low, high in ((0, 12.0, 15.0), (1, 110.0, 160.0)):
        head = queries[kinds == kind].reshape(batch_size, KV_HEADS, HEAD_DIM)
        gap = rng.uniform(low, high, size=(batch_size, KV_HEADS, 1))
        salient.append(means + head * (gap * 8 / np.sum(head * head, axis=2, keepdims=True)))
    return queries, np.stack(salient).astype(np.float32)


def _place(rng: np.random.Generator, inputs: Arrays, salient: Array) -> None:
    """Write the salient keys over those of random tokens of their sequences; in about a quarter of
    the cases it is the last token."""
    begin, end = inputs["kv_indptr"][:-1], inputs["kv_indptr"][1:]
    alive = np.flatnonzero(begin < end)
    for keys in salient:
        for kv_head in range(KV_HEADS):
            tokens = rng.integers(begin[alive], end[alive])
            tokens = np.where(rng.random(alive.size) < 1 / 4, end[alive] - 1, tokens)
            inputs["k_cache"][inputs["kv_indices"][tokens], 0, kv_head] = keys[alive, kv_head]


class GqaPagedDecode(NumpyTask):
    """Grouped-query paged decode; naive calls take 0.7 to 2 ms on a current x86-64 core."""

    name = "gqa_paged_decode"
    version = "1"
    title = "Grouped-query attention, paged decode, float32"
    prose = _PROSE
    signature = Signature(
        axes=(
            Axis("batch_size", "sequences"),
            Axis("len_indptr", "batch_size + 1"),
            Axis("num_pages", "pages of the cache, one token each"),
            Axis("num_kv_indices", "tokens of all sequences together"),
        ),
        inputs=(
            Tensor("q", "float32", ("batch_size", QUERY_HEADS, HEAD_DIM), "queries"),
            Tensor("k_cache", "float32", ("num_pages", 1, KV_HEADS, HEAD_DIM), "keys by page"),
            Tensor("v_cache", "float32", ("num_pages", 1, KV_HEADS, HEAD_DIM), "values by page"),
            Tensor("kv_indptr", "int32", ("len_indptr",), "first token per sequence", index=True),
            Tensor("kv_indices", "int32", ("num_kv_indices",), "page of each token", index=True),
        ),
        outputs=(
            Tensor("output", "float32", ("batch_size", QUERY_HEADS, HEAD_DIM), "attention output"),
            Tensor("lse", "float32", ("batch_size", QUERY_HEADS), "log2 of the sum of e^logit"),
        ),
    )
    search = _SEARCH
    final = (
        *_SEARCH,
        _workload(1, 3301, 3307),
        _workload(8, 2048, 2200),
        _workload(31, 3511, 3600),
        _workload(128, 2999, 3072),
    )
    held_out = (
        _workload(1, 1, 1),
        _workload(1, 127, 131),
        _workload(7, 3, 5),
        _workload(13, 1021, 1031),
        _workload(257, 509, 521),
        _workload(2, 4001, 4003),
    )
    tolerances = {
        "output": Tolerance(
            absolute=1e-4,
            relative=0.0,
            norm=2.2e-5,
            why="Six times the largest errors (1.7e-5; 3.7e-6; torch's flash attention alike) "
            "of the naive program and of honest designs against float64: 8 designs over 12 calls "
            "and 69 over 3 calls of every workload. Logits of 110 to 160 and single tokens that "
            "take nearly all weight make most of it. A cache rounded to float16 gives a norm of "
            "6.5e-4 or more, a dropped last token 1.5e-4 or more (8 calls per search workload).",
        ),
        "lse": Tolerance(
            absolute=3e-4,
            relative=3e-6,
            norm=1.2e-6,
            why="Seven and six times the largest errors (4.6e-5 beyond 1e-6 of the value; 1.9e-7) "
            "of the same programs. A cache rounded to float16 gives a norm of 3.6e-5 or more, a "
            "dropped last token 2e-6 or more, the natural logarithm 0.31.",
        ),
    }
    baselines = (Baseline("torch", "torch fused CPU attention per sequence, 1", _BASELINE),)
    design_space = GqaPagedDecodeSpace()
    starts = {"cpp": design_space.render(design_space.start())}

    def fill(self, workload: Workload, rng: np.random.Generator, inputs: Arrays) -> None:
        """Uniform keys and values around a mean per KV head and dimension, both drawn per call;
        each of the 8 query heads of a group is of another kind (`_queries`); random lengths, one
        empty sequence in every call of 3 or more; pages in random order, the first one shared by
        about an eighth of the sequences. Fresh per element are 16 random bits."""
        means = rng.uniform(-2, 2, size=(KV_HEADS, HEAD_DIM)).astype(np.float32)
        for name, mean in (("k_cache", means), ("v_cache", means[::-1] / 4)):
            fill_uniform(rng, inputs[name])
            inputs[name] += mean
        batch_size, tokens = workload.axes["batch_size"], workload.axes["num_kv_indices"]
        indptr = inputs["kv_indptr"]
        indptr[0], indptr[-1] = 0, tokens
        indptr[1:-1] = np.sort(rng.integers(tokens + 1, size=batch_size - 1))
        if batch_size > 2:
            empty = int(rng.integers(batch_size))
            indptr[max(empty, 1)] = indptr[empty + 1] if empty else 0
        indices = inputs["kv_indices"]
        indices[:] = rng.permutation(workload.axes["num_pages"])[:tokens]
        starts = indptr[:-1][np.diff(indptr) > 0]
        indices[starts[rng.random(starts.size) < 1 / 8]] = indices[0]
        queries, salient = _queries(rng, batch_size, means)
        inputs["q"][...] = queries.reshape(inputs["q"].shape)
        _place(rng, inputs, salient)

    def reference(self, workload: Workload, inputs: Arrays) -> Arrays:
        """output [batch_size, 16, 64] and lse [batch_size, 16] in float64."""
        batch_size = workload.axes["batch_size"]
        output = np.zeros((batch_size, QUERY_HEADS, HEAD_DIM))
        lse = np.full((batch_size, QUERY_HEADS), -np.inf)
        q = inputs["q"].astype(np.float64).reshape(batch_size, KV_HEADS, _GROUP, HEAD_DIM)
        for b in range(batch_size):
            begin, end = inputs["kv_indptr"][b : b + 2]
            if begin == end:
                continue
            pages = inputs["kv_indices"][begin:end]
            k = inputs["k_cache"][pages, 0].astype(np.float64)  # [tokens, KV_HEADS, HEAD_DIM]
            v = inputs["v_cache"][pages, 0].astype(np.float64)
            logits = q[b] @ k.transpose(1, 2, 0) / np.sqrt(HEAD_DIM)  # [KV_HEADS, _GROUP, tokens]
            maximum = logits.max(axis=-1, keepdims=True)
            weights = np.exp(logits - maximum)
            total = weights.sum(axis=-1, keepdims=True)
            output[b] = (weights / total @ v.transpose(1, 0, 2)).reshape(QUERY_HEADS, HEAD_DIM)
            lse[b] = ((maximum + np.log(total)) / np.log(2)).reshape(QUERY_HEADS)
        return {"output": output, "lse": lse}

    def work(self, workload: Workload, inputs: Arrays) -> Work:
        """Two products per token and query head; distinct used pages, queries, index metadata and
        results once."""
        batch_size, tokens = workload.axes["batch_size"], workload.axes["num_kv_indices"]
        used = np.unique(inputs["kv_indices"]).size
        flops = 4.0 * tokens * QUERY_HEADS * HEAD_DIM
        cache = 2.0 * used * KV_HEADS * HEAD_DIM
        rows = batch_size * QUERY_HEADS * (2 * HEAD_DIM + 1)
        return Work(flops=flops, bytes=4.0 * (cache + rows + batch_size + 1 + tokens))

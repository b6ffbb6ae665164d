"""flashinfer/gqa_paged_decode: one decoding step of grouped-query attention, page size 1, bfloat16.

Two tasks that differ in the number of KV heads: 4 (Qwen3-30B-A3B) and 8 (Llama-3.1-8B).

Covered: the prose, workloads, input contents, float64 reference, tolerances, compulsory work,
baselines and starts.
Not covered: page tables (page_tables.py, dataset.py); programs (attention_programs.py,
cuda_starts.py, decode_code.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.suite import Axis, Baseline, Signature, Tensor, Work
from harness.types import Workload
from suites.flashinfer import cuda_starts
from suites.flashinfer.attention import PagedAttention, calibrated, decode, distinct, last_pages
from suites.flashinfer.attention_programs import GQA_TORCH, gqa_flashinfer
from suites.flashinfer.decode_code import GQA_LOGITS, GQA_QUERY, Layout
from suites.flashinfer.decode_space import DecodeSpace
from suites.flashinfer.flashinfer_package import ordered
from suites.flashinfer.records import chosen, decode_workloads, our_decode

if TYPE_CHECKING:
    import torch

QUERY_HEADS = 32
HEAD_DIM = 128
# float32(1 / sqrt(128)), as the records have it, the last digit aside.
SM_SCALE = 0.0883883461356163
_ATTENDED = 0.5  # of its last token's key that one query head of each sequence has in it

_PROSE = """\
Compute one decoding step of grouped-query attention: for each sequence of a batch, one query \
token attends to all of that sequence's cached keys and values, which lie scattered over a paged \
cache.

There are 32 query heads, %(kv_heads)d KV heads and 128 dimensions per head; a page holds one \
token. All tensors are dense and row-major; q, k_cache, v_cache and output are bfloat16, lse is \
float32, indices are signed 32-bit integers.
- q [batch_size, 32, 128]: the queries.
- k_cache, v_cache [num_pages, 1, %(kv_heads)d, 128]: keys and values of every page and KV head.
- kv_indptr [batch_size + 1]: starts at 0, never decreases, ends at num_kv_indices. The tokens \
of sequence b are the entries kv_indptr[b] up to, but not including, kv_indptr[b + 1] of \
kv_indices.
- kv_indices [num_kv_indices]: the page of each token. Sequences may share pages, and some pages \
are used by none.
- output [batch_size, 32, 128] and lse [batch_size, 32]: the results; their memory holds garbage \
before the call.

Query head h uses KV head h / %(group)d (integer division). For sequence b and head h, the logit \
of token t is the dot product of q[b, h] and k_cache[page of t, 0, h / %(group)d], times sm_scale \
= 0.0883883461356163, that is 1 / sqrt(128) in float32, a constant. The weights are the softmax of \
the logits over the sequence's tokens; output[b, h] is the sum over tokens of weight times \
v_cache[page of t, 0, h / %(group)d]. lse[b, h] is the logarithm to base 2 of the sum over tokens \
of e^logit.

A sequence may have no tokens: its output is then 0 and its lse is minus infinity. Batches have 1 \
to 64 sequences and up to about 1,000 tokens for each on average; lengths within a batch differ \
widely. A sequence's pages often begin with some that all sequences share, go on with a contiguous \
run and end with pages that lie a batch apart, but nothing is promised.

The result is compared with a 64-bit computation. bfloat16 operands with float32 sums are well \
within the tolerance; lse must be computed from float32 logits. Inputs, page tables and lengths \
change with every call, so nothing can be kept from one call to the next. No library may be
called."""


class GqaPagedDecode(PagedAttention):
    """Common to both numbers of KV heads."""

    version = "1"
    kv_heads: int
    tolerances = calibrated(
        1e-2, calls=28, share=0.42, norm=2.5e-3, lse_percent=0.07, lse_norm=6.3e-8
    )
    solution_scalars = {"sm_scale": SM_SCALE}

    def fill(
        self, workload: Workload, generator: torch.Generator, inputs: Mapping[str, torch.Tensor]
    ) -> None:
        """Standard normal queries and caches. One query head of each sequence, at random, has half
        of its last token's key added, so that it attends to that token."""
        import torch

        for name in ("q", "k_cache", "v_cache"):
            inputs[name].normal_(generator=generator)
        self.fill_table(workload, generator, inputs)
        q, indptr = inputs["q"], inputs["kv_indptr"]
        sequence = torch.arange(q.shape[0], device=q.device)
        head = torch.randint(QUERY_HEADS, sequence.shape, generator=generator, device=q.device)
        kv_head = head // (QUERY_HEADS // self.kv_heads)
        key = inputs["k_cache"][last_pages(indptr, inputs["kv_indices"]), 0, kv_head]
        key = key * (indptr.diff() > 0)[:, None] * _ATTENDED
        q[sequence, head] = q[sequence, head] + key

    def reference(
        self, workload: Workload, inputs: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """output [batch_size, 32, 128] and lse [batch_size, 32] in float64."""
        q, indices = inputs["q"], inputs["kv_indices"]
        batch_size = q.shape[0]

        def gather(pages: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return inputs["k_cache"][pages, 0].double(), inputs["v_cache"][pages, 0].double()

        grouped = q.view(batch_size, self.kv_heads, QUERY_HEADS // self.kv_heads, HEAD_DIM)
        output, lse = decode(grouped, gather, inputs["kv_indptr"], indices, SM_SCALE)
        return {"output": output.view(q.shape), "lse": lse.view(batch_size, QUERY_HEADS)}

    def work(self, workload: Workload, inputs: Mapping[str, torch.Tensor]) -> Work:
        """Two products per token and query head; distinct used pages, queries, index metadata and
        results once."""
        batch_size, tokens = workload.axes["batch_size"], workload.axes["num_kv_indices"]
        used = distinct(inputs["kv_indices"])
        rows = batch_size * QUERY_HEADS
        return Work(
            flops=4.0 * tokens * QUERY_HEADS * HEAD_DIM,
            bytes=4.0 * used * self.kv_heads * HEAD_DIM
            + rows * (4.0 * HEAD_DIM + 4.0)
            + 4.0 * (batch_size + 1 + tokens),
        )


def _signature(kv_heads: int) -> Signature:
    cache = ("num_pages", 1, kv_heads, HEAD_DIM)
    rows = ("batch_size", QUERY_HEADS)
    return Signature(
        axes=(
            Axis("batch_size", "sequences"),
            Axis("num_pages", "pages of the cache, one token each"),
            Axis("len_indptr", "batch_size + 1"),
            Axis("num_kv_indices", "tokens of all sequences together"),
        ),
        inputs=(
            Tensor("q", "bfloat16", (*rows, HEAD_DIM), "queries"),
            Tensor("k_cache", "bfloat16", cache, "keys by page"),
            Tensor("v_cache", "bfloat16", cache, "values by page"),
            Tensor("kv_indptr", "int32", ("len_indptr",), "first token per sequence", index=True),
            Tensor("kv_indices", "int32", ("num_kv_indices",), "page of each token", index=True),
        ),
        outputs=(
            Tensor("output", "bfloat16", (*rows, HEAD_DIM), "attention output"),
            Tensor("lse", "float32", rows, "log2 of the sum of e^logit"),
        ),
    )


def _baselines(kv_heads: int) -> tuple[Baseline, ...]:
    own = {
        "FlashInfer": gqa_flashinfer(kv_heads, tensor_cores=False),
        "FlashInfer, tensor cores": gqa_flashinfer(kv_heads, tensor_cores=True),
    }
    source = GQA_TORCH.replace("$kv_heads", str(kv_heads))
    return ordered(own, Baseline("torch", "gathered pages, bfloat16, 1", source))


def _space(kv_heads: int) -> DecodeSpace:
    layout = Layout(
        QUERY_HEADS, kv_heads, HEAD_DIM, SM_SCALE, "q, k_cache, v_cache", GQA_QUERY, GQA_LOGITS
    )
    return DecodeSpace(f"flashinfer/gqa_decode_kv{kv_heads}", layout)


_KV4 = "gqa_paged_decode_h32_kv4_d128_ps1"
_KV8 = "gqa_paged_decode_h32_kv8_d128_ps1"

# Ours: what no record has.
_HELD_OUT = (
    our_decode("empty", 7, 2048, 2200),
    our_decode("empty", 1, 1, 3),
    our_decode("single", 13, 13, 40),
    our_decode("shared", 5, 3001, 3100),
    our_decode("odd", 3, 127, 131),
    our_decode("odd", 67, 20011, 20021),
    our_decode("permuted", 33, 9001, 12007),
)


class GqaPagedDecodeKv4(GqaPagedDecode):
    """4 KV heads, groups of 8."""

    name = _KV4
    title = "Grouped-query paged decode, 32 query heads, 4 KV heads"
    kv_heads = 4
    prose = _PROSE % {"kv_heads": 4, "group": 8}
    signature = _signature(4)
    final = decode_workloads(_KV4)
    search = chosen(final, "9c21179a 85c1e8ef 84405835 f46ddc2e 06b8480d")  # the paper's
    held_out = _HELD_OUT
    baselines = _baselines(4)
    design_space = _space(4)
    starts = {
        "triton": design_space.render(design_space.start()),
        "cuda": cuda_starts.gqa(4, SM_SCALE),
    }


class GqaPagedDecodeKv8(GqaPagedDecode):
    """8 KV heads, groups of 4."""

    name = _KV8
    title = "Grouped-query paged decode, 32 query heads, 8 KV heads"
    kv_heads = 8
    prose = _PROSE % {"kv_heads": 8, "group": 4}
    signature = _signature(8)
    final = decode_workloads(_KV8)
    # The paper has none for it: as for 4 KV heads, one short, two medium, two large.
    search = chosen(final, "233743f3 ccdc67b6 434980b4 5444fc56 91552da7")
    held_out = _HELD_OUT
    baselines = _baselines(8)
    design_space = _space(8)
    starts = {
        "triton": design_space.render(design_space.start()),
        "cuda": cuda_starts.gqa(8, SM_SCALE),
    }

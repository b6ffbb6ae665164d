"""flashinfer/mla_paged_decode: one decoding step of DeepSeek's latent attention, page size 1.

16 heads are DeepSeek-V3's 128 at a tensor parallelism of 8.

Covered: the prose, workloads, float64 reference, tolerances, compulsory work, baselines and starts.
Not covered: page tables (page_tables.py, dataset.py); programs (attention_programs.py,
cuda_starts.py, decode_code.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.suite import Axis, Baseline, Signature, Work
from harness.types import Workload
from suites.flashinfer import cuda_starts, mla
from suites.flashinfer.attention import calibrated, decode, last_pages
from suites.flashinfer.attention_programs import MLA_DECODE_FLASHINFER, MLA_DECODE_TORCH
from suites.flashinfer.decode_code import MLA_LOGITS, MLA_QUERY, Layout
from suites.flashinfer.decode_space import DecodeSpace
from suites.flashinfer.flashinfer_package import ordered
from suites.flashinfer.records import chosen, decode_workloads, our_decode

if TYPE_CHECKING:
    import torch

_NAME = "mla_paged_decode_h16_ckv512_kpe64_ps1"

_PROSE = (
    """\
Compute one decoding step of multi-head latent attention: for each sequence of a batch, one query \
token attends to all of that sequence's cached tokens, which lie scattered over a paged cache.

"""
    + mla.PROSE
    % {
        "rows": "batch_size",
        "qo_indptr": "",
        "mask": "Query b is that of sequence b, and sees all of its tokens.",
    }
    + """

A sequence may have no tokens: its output is then 0 and its lse is minus infinity. Batches have 1 \
to 64 sequences and up to about 1,200 tokens for each on average; lengths within a batch differ \
widely."""
    + mla.TAIL
)

_SPACE = DecodeSpace(
    "flashinfer/mla_decode",
    Layout(
        mla.HEADS,
        1,
        mla.LATENT,
        mla.SM_SCALE,
        "q_nope, q_pe, ckv_cache, kpe_cache",
        MLA_QUERY,
        MLA_LOGITS,
    ),
)


class MlaPagedDecode(mla.LatentAttention):
    """A batch of sequences with one query each."""

    name = _NAME
    version = "1"
    title = "Latent attention (MLA), paged decode, 16 heads"
    prose = _PROSE
    signature = Signature(
        axes=(
            Axis("batch_size", "sequences"),
            Axis("num_pages", "pages of the cache, one token each"),
            Axis("len_indptr", "batch_size + 1"),
            Axis("num_kv_indices", "tokens of all sequences together"),
        ),
        inputs=(*mla.queries("batch_size"), *mla.CACHES, *mla.TABLE),
        outputs=mla.outputs("batch_size"),
    )
    final = decode_workloads(_NAME)
    search = chosen(final, "bd2dae14 84221f45 d0da33e2 e417264f 939f995a")  # the paper's
    held_out = (
        our_decode("empty", 7, 2048, 4096),
        our_decode("single", 13, 13, 40),
        our_decode("shared", 5, 3001, 4099),
        our_decode("odd", 3, 127, 131),
        our_decode("odd", 67, 60011, mla.NUM_PAGES),
        our_decode("permuted", 33, 30011, mla.NUM_PAGES),
    )
    tolerances = calibrated(
        2e-2, calls=5, share=0.32, norm=2.3e-3, lse_percent=0.13, lse_norm=5.5e-8
    )
    baselines = ordered(
        {"FlashInfer": MLA_DECODE_FLASHINFER},
        Baseline("torch", "gathered pages, bfloat16, 1", MLA_DECODE_TORCH),
    )
    design_space = _SPACE
    starts = {
        "triton": _SPACE.render(_SPACE.start()),
        "cuda": cuda_starts.mla_decode(mla.SM_SCALE),
    }

    def last_seen(self, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        indptr = inputs["kv_indptr"]
        return last_pages(indptr, inputs["kv_indices"]), indptr.diff() > 0

    def reference(
        self, workload: Workload, inputs: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """output [batch_size, 16, 512] and lse [batch_size, 16] in float64."""

        def gather(pages: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            keys, values = mla.gathered(inputs, pages)
            return keys[:, None], values[:, None]

        indptr, indices = inputs["kv_indptr"], inputs["kv_indices"]
        q = mla.joined(inputs)[:, None]
        output, lse = decode(q, gather, indptr, indices, mla.SM_SCALE)
        return {"output": output[:, 0], "lse": lse[:, 0]}

    def work(self, workload: Workload, inputs: Mapping[str, torch.Tensor]) -> Work:
        """Two products per token and head; distinct used pages, queries, index metadata and results
        once."""
        batch_size, tokens = workload.axes["batch_size"], workload.axes["num_kv_indices"]
        return Work(
            flops=2.0 * tokens * mla.HEADS * (2 * mla.LATENT + mla.TURNED),
            bytes=mla.page_bytes(inputs["kv_indices"])
            + mla.row_bytes(batch_size)
            + 4.0 * (batch_size + 1),
        )

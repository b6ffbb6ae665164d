"""flashinfer/mla_paged_prefill_causal: many queries per sequence of DeepSeek's latent attention.

Covered: the prose, workloads, float64 reference, tolerances, compulsory work, baselines and starts.
Not covered: page tables (page_tables.py, dataset.py); programs (attention_programs.py,
cuda_starts.py); a design space (the simulated model has none for this task).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.suite import Axis, Baseline, Signature, Tensor, Work
from harness.types import Workload
from suites.flashinfer import cuda_starts, mla, page_tables
from suites.flashinfer.attention import calibrated, prefill, visible_pairs
from suites.flashinfer.attention_programs import MLA_PREFILL_FLASHINFER, MLA_PREFILL_TORCH
from suites.flashinfer.flashinfer_package import ordered
from suites.flashinfer.prefill_code import START
from suites.flashinfer.records import chosen, kind_of, our_prefill, prefill_workloads

if TYPE_CHECKING:
    import torch

_NAME = "mla_paged_prefill_causal_h16_ckv512_kpe64_ps1"

_PROSE = (
    """\
Compute causal multi-head latent attention for a batch of sequences that have several queries \
each: \
every query attends to its own and all earlier tokens of its sequence, which lie scattered over a \
paged cache.

"""
    + mla.PROSE
    % {
        "rows": "total_q",
        "qo_indptr": "\n- qo_indptr [len_indptr]: starts at 0, never decreases, ends at total_q. "
        "The queries of sequence b are the rows qo_indptr[b] up to, but not including, "
        "qo_indptr[b + 1].",
        "mask": "A sequence has at least as many tokens as queries, and its queries are its last "
        "tokens: with q_len queries and kv_len tokens, query i of the sequence (from 0) sees "
        "tokens 0 to kv_len - q_len + i of it, and no later ones.",
    }
    + """

A sequence may have no queries and no tokens. There are 1 to 56 sequences with 1 to 16,384 queries \
together; most have few tokens more than queries, some have many."""
    + mla.TAIL
)


class MlaPagedPrefill(mla.LatentAttention):
    """Sequences with many queries, causal."""

    name = _NAME
    version = "1"
    work_varies = True  # lengths are drawn, and pairs go with their squares
    title = "Latent attention (MLA), paged causal prefill, 16 heads"
    prose = _PROSE
    indptrs = {"qo_indptr": "total_q", "kv_indptr": "num_kv_indices"}
    decoded = False
    signature = Signature(
        axes=(
            Axis("total_q", "queries of all sequences together"),
            Axis("num_pages", "pages of the cache, one token each"),
            Axis("len_indptr", "sequences + 1"),
            Axis("num_kv_indices", "tokens of all sequences together"),
        ),
        inputs=(
            *mla.queries("total_q"),
            *mla.CACHES,
            Tensor("qo_indptr", "int32", ("len_indptr",), "first query per sequence", index=True),
            *mla.TABLE,
        ),
        outputs=mla.outputs("total_q"),
    )
    final = prefill_workloads(_NAME)
    search = chosen(  # the paper's
        final, "55b51e96 d30e4c23 7572654f 473e30ea bda0e743 7e602557 5ca61491 77737de2"
    )
    held_out = (
        our_prefill("empty", 7, 300, 400, 4099),
        our_prefill("single", 13, 13, 13, 40),
        our_prefill("shared", 5, 129, 1501, 4099),
        our_prefill("odd", 3, 127, 131, 257),
        our_prefill("odd", 29, 4001, 9001, mla.NUM_PAGES),
        our_prefill("permuted", 3, 2001, 2111, mla.NUM_PAGES),
    )
    tolerances = calibrated(2e-2, calls=5, share=0.42, norm=2.3e-3, lse_percent=0.16, lse_norm=9e-8)
    baselines = ordered(
        {"FlashInfer": MLA_PREFILL_FLASHINFER},
        Baseline("torch", "gathered pages by sequence, bfloat16, 1", MLA_PREFILL_TORCH),
    )
    starts = {"triton": START, "cuda": cuda_starts.mla_prefill(mla.SM_SCALE)}

    def draw_lengths(
        self, workload: Workload, generator: torch.Generator, inputs: Mapping[str, torch.Tensor]
    ) -> None:
        """Queries by random cuts, a query or more for each sequence; tokens before them half of the
        mean and random cuts. A third of the sequences of kind "empty" has neither."""
        import torch

        axes, device = workload.axes, inputs["kv_indptr"].device
        count = axes["len_indptr"] - 1
        alive = count - count // 3 if kind_of(workload) == "empty" else count
        before = axes["num_kv_indices"] - axes["total_q"]
        queries = torch.zeros(count, dtype=torch.int64, device=device)
        earlier = torch.zeros_like(queries)
        places = torch.rand(count, generator=generator, device=device).argsort()[:alive]
        queries[places] = page_tables.draw_lengths(alive, axes["total_q"], 1, generator)
        least = before // (2 * alive)
        earlier[places] = page_tables.draw_lengths(alive, before, least, generator)
        page_tables.write_indptr(queries, inputs["qo_indptr"])
        page_tables.write_indptr(queries + earlier, inputs["kv_indptr"])

    def last_seen(self, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        q_bounds, kv_bounds = inputs["qo_indptr"].long(), inputs["kv_indptr"].long()
        row = torch.arange(inputs["q_nope"].shape[0], device=q_bounds.device)
        sequence = torch.searchsorted(q_bounds, row, right=True) - 1
        token = kv_bounds[sequence + 1] - (q_bounds[sequence + 1] - row)
        seen = token >= kv_bounds[sequence]
        return inputs["kv_indices"][token.clamp(min=0)].long(), seen

    def reference(
        self, workload: Workload, inputs: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """output [total_q, 16, 512] and lse [total_q, 16] in float64."""
        output, lse = prefill(
            mla.joined(inputs),
            lambda pages: mla.gathered(inputs, pages),
            inputs["qo_indptr"],
            inputs["kv_indptr"],
            inputs["kv_indices"],
            mla.SM_SCALE,
        )
        return {"output": output, "lse": lse}

    def work(self, workload: Workload, inputs: Mapping[str, torch.Tensor]) -> Work:
        """Two products per head and pair of a query and a token that it sees; distinct used pages,
        queries, index metadata and results once."""
        pairs = visible_pairs(inputs["qo_indptr"], inputs["kv_indptr"])
        return Work(
            flops=2.0 * pairs * mla.HEADS * (2 * mla.LATENT + mla.TURNED),
            bytes=mla.page_bytes(inputs["kv_indices"])
            + mla.row_bytes(workload.axes["total_q"])
            + 8.0 * workload.axes["len_indptr"],
        )

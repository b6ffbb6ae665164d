"""What the two MLA tasks share: DeepSeek's latent attention in absorbed form over a paged cache.

Covered: sizes, the scale, the axes and tensors, contents of queries and caches, gathering.
Not covered: what differs for decode (mla_decode.py) and prefill (mla_prefill.py).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.suite import Tensor
from harness.types import Workload
from suites.flashinfer.attention import PagedAttention, distinct

if TYPE_CHECKING:
    import torch

HEADS = 16
LATENT = 512  # dimensions of a compressed key, which is the value too
TURNED = 64  # dimensions with a rotary embedding
# 192 ** -0.5 * (0.1 * ln 40 + 1) ** 2: the YaRN factor of DeepSeek-V3, as all records have it.
SM_SCALE = 0.1352337747812271
NUM_PAGES = 989_669  # of every record
_ATTENDED = 0.1  # of a token's key that one head of the query before it has in it

CACHES = (
    Tensor("ckv_cache", "bfloat16", ("num_pages", 1, LATENT), "compressed keys by page"),
    Tensor("kpe_cache", "bfloat16", ("num_pages", 1, TURNED), "rotary parts of keys by page"),
)
TABLE = (
    Tensor("kv_indptr", "int32", ("len_indptr",), "first token per sequence", index=True),
    Tensor("kv_indices", "int32", ("num_kv_indices",), "page of each token", index=True),
)


def queries(rows: str) -> tuple[Tensor, Tensor]:
    """q_nope and q_pe. rows: the axis of the queries."""
    return (
        Tensor("q_nope", "bfloat16", (rows, HEADS, LATENT), "queries on compressed keys"),
        Tensor("q_pe", "bfloat16", (rows, HEADS, TURNED), "rotary parts of queries"),
    )


def outputs(rows: str) -> tuple[Tensor, Tensor]:
    """output and lse. rows: the axis of the queries."""
    return (
        Tensor("output", "bfloat16", (rows, HEADS, LATENT), "attention output"),
        Tensor("lse", "float32", (rows, HEADS), "log2 of the sum of e^logit"),
    )


class LatentAttention(PagedAttention):
    """An MLA task."""

    solution_scalars = {"sm_scale": SM_SCALE}

    def fill(
        self,
        workload: Workload,
        generator: torch.Generator,
        inputs: Mapping[str, torch.Tensor],
    ) -> None:
        """Standard normal queries and caches. One head of each query, at random, has a tenth of the
        key of the last token that it sees added, so that it attends to that token."""
        import torch

        for name in ("q_nope", "q_pe", "ckv_cache", "kpe_cache"):
            inputs[name].normal_(generator=generator)
        self.fill_table(workload, generator, inputs)
        pages, seen = self.last_seen(inputs)
        row = torch.arange(pages.numel(), device=pages.device)
        head = torch.randint(HEADS, row.shape, generator=generator, device=pages.device)
        for query, cache in (("q_nope", "ckv_cache"), ("q_pe", "kpe_cache")):
            key = inputs[cache][pages, 0] * seen[:, None] * _ATTENDED
            inputs[query][row, head] = inputs[query][row, head] + key

    @abstractmethod
    def last_seen(self, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """For each query the page of the last token that it sees, and whether it sees any."""


def gathered(
    inputs: Mapping[str, torch.Tensor], pages: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys [n, 576] and values [n, 512] of pages [n], in float64."""
    import torch

    latent = inputs["ckv_cache"][pages, 0].double()
    return torch.cat((latent, inputs["kpe_cache"][pages, 0].double()), 1), latent


def joined(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Queries [rows, 16, 576]."""
    import torch

    return torch.cat((inputs["q_nope"], inputs["q_pe"]), 2)


def row_bytes(rows: int) -> float:
    """Queries and results."""
    return rows * HEADS * (2.0 * (LATENT + TURNED) + 2.0 * LATENT + 4.0)


def page_bytes(indices: torch.Tensor) -> float:
    """Distinct pages once, and their numbers."""
    return 2.0 * (LATENT + TURNED) * distinct(indices) + 4.0 * indices.numel()


PROSE = """\
There are 16 query heads that share one compressed key per token, which is the value too (absorbed \
form): 512 latent dimensions and 64 with a rotary embedding already applied. A page holds one \
token. All tensors are dense and row-major; queries, caches and output are bfloat16, lse is \
float32, indices are signed 32-bit integers.
- q_nope [%(rows)s, 16, 512], q_pe [%(rows)s, 16, 64]: the queries' two parts.
- ckv_cache [num_pages, 1, 512], kpe_cache [num_pages, 1, 64]: the two parts of the keys by page; \
ckv_cache holds the values too.%(qo_indptr)s
- kv_indptr [len_indptr]: starts at 0, never decreases, ends at num_kv_indices. The tokens of \
sequence b are the entries kv_indptr[b] up to, but not including, kv_indptr[b + 1] of kv_indices.
- kv_indices [num_kv_indices]: the page of each token. Sequences may share pages, and most pages \
are used by none.
- output [%(rows)s, 16, 512] and lse [%(rows)s, 16]: the results; their memory holds garbage \
before the call.

For a query and head h, the logit of token t is (the dot product of q_nope[query, h] and \
ckv_cache[page of t, 0], plus that of q_pe[query, h] and kpe_cache[page of t, 0]) times sm_scale = \
0.1352337747812271, a constant. %(mask)s The weights are the softmax of the logits over the tokens \
that the query sees; output[query, h] is the sum over them of weight times ckv_cache[page of t, \
0]. lse[query, h] is the logarithm to base 2 of the sum of e^logit."""

TAIL = """\


The result is compared with a 64-bit computation. bfloat16 operands with float32 sums are well \
within the tolerance; lse must be computed from float32 logits. num_pages is 989,669 in most \
workloads, of which a call uses few. Inputs, page tables and lengths change with every call, so \
nothing can be kept from one call to the next. No library may be called."""

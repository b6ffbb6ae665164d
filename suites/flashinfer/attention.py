"""What the four attention tasks share: page tables of a call, float64 attention, tolerances' rules.

Covered: `PagedAttention`, the base of the tasks (names, versions, notes, tables from the dataset or
drawn), and attention over gathered pages in float64 for decode and for causal prefill, in bounded
memory and without a loop over tokens.
Not covered: what differs by task (its own module); programs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from harness.suite import Tolerance, TorchTask
from harness.types import Workload
from suites.flashinfer import page_tables
from suites.flashinfer.dataset import SYNTHESISED, StoredTable, find_dataset, read_table
from suites.flashinfer.flashinfer_package import baseline_note
from suites.flashinfer.records import FLASHINFER_BENCH, record_of

if TYPE_CHECKING:
    import torch

    Gather = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

_AT_ONCE = 1 << 26  # float64 elements of gathered keys and values, or of logits: 512 MiB


class PagedAttention(TorchTask):
    """A task over a paged cache; `name` is the definition's. indptrs: the axis that each row
    pointer ends at."""

    indptrs: Mapping[str, str] = {"kv_indptr": "num_kv_indices"}
    published_gate = FLASHINFER_BENCH
    decoded = True  # the last tokens of a sequence were written one by one

    def __init__(self) -> None:
        self._dataset = find_dataset(self.name)
        self._tables: dict[tuple[str, str], StoredTable] = {}
        if self._dataset is not None:
            self.version = f"{self.version} with dataset {self._dataset.digest}"

    @property
    def notes(self) -> Mapping[str, str]:  # type: ignore[override]
        """Which page tables are used, and which baseline there would be."""
        inputs = SYNTHESISED
        if self._dataset is not None:
            inputs = self._dataset.note()
            records = [w for w in self.final if record_of(w)]
            odd = [w.name for w in records if not self._stored(w, "cpu").pages_fit]
            if odd:
                inputs += f"; pages outside the cache, drawn instead: {', '.join(odd)}"
        return {"inputs": inputs} | baseline_note()

    def _stored(self, workload: Workload, device: str) -> StoredTable:
        """A record's table on a device, read once. Only with a dataset, for a record's workload."""
        prefix = record_of(workload)
        assert prefix is not None
        assert self._dataset is not None
        key = (prefix, device)
        if key not in self._tables:
            table = read_table(self._dataset, prefix, workload.axes, self.indptrs)
            there = {name: tensor.to(device) for name, tensor in table.indptrs.items()}
            self._tables[key] = StoredTable(there, table.indices.to(device), table.pages_fit)
        return self._tables[key]

    def fill_table(
        self, workload: Workload, generator: torch.Generator, inputs: Mapping[str, torch.Tensor]
    ) -> None:
        """Row pointers and pages of a call: the dataset's, its pages moved by a fresh offset where
        they fit, or drawn ones."""
        import torch

        indices = inputs["kv_indices"]
        stored = None
        if self._dataset is not None and record_of(workload):
            stored = self._stored(workload, str(indices.device))
            for name, pointers in stored.indptrs.items():
                inputs[name].copy_(pointers)
        else:
            self.draw_lengths(workload, generator, inputs)
        if stored is None or not stored.pages_fit:
            indptr = inputs["kv_indptr"]
            page_tables.write_pages(workload, generator, indptr, indices, decoded=self.decoded)
            return
        low, high = stored.indices.min(), stored.indices.max()
        room = workload.axes["num_pages"] - (high - low)
        share = torch.rand(1, generator=generator, device=indices.device, dtype=torch.float64)
        indices.copy_(stored.indices - low + (share * room).long())

    def draw_lengths(
        self, workload: Workload, generator: torch.Generator, inputs: Mapping[str, torch.Tensor]
    ) -> None:
        """Row pointers of a call where the dataset has none."""
        indptr = inputs["kv_indptr"]
        lengths = page_tables.draw_sequences(workload, indptr.numel() - 1, generator)
        page_tables.write_indptr(lengths, indptr)


def calibrated(
    absolute: float,
    *,
    calls: int,
    share: float,
    norm: float,
    lse_percent: float,
    lse_norm: float,
) -> dict[str, Tolerance]:
    """Of output and lse. absolute: of an element of output. The others are what torch's program
    reached in so many calls of small workloads on a CPU: its largest share of the element rule and
    its largest norm, of output and of lse."""
    return {
        "output": Tolerance(
            absolute=absolute,
            relative=1e-2,
            norm=6e-3,
            why="On a CPU, against the float64 reference, torch's program with bfloat16 operands "
            f"and weights reaches at most {share} of the element rule and a norm of {norm} "
            f"({calls} calls of small workloads). A dropped last token, a wrong page for it and a "
            "left-out sm_scale are outside (a test measures them again).",
        ),
        "lse": Tolerance(
            absolute=3e-3,
            relative=0.0,
            norm=1e-3,
            why="The same program, whose logits are float32, is off by at most "
            f"{lse_percent} % of the rule and a norm of {lse_norm}. One that sums its weights "
            "rounded to bfloat16, as it multiplies them, by at most log2(1 / (1 - 2^-9)) = 2.8e-3 "
            "and a norm of 5e-4 at 2 tokens. The natural logarithm is 0.31 off; what one of many "
            "tokens weighs shows in the output.",
        ),
    }


def last_pages(indptr: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """The page of each sequence's last token [sequences]; an arbitrary one where it has none."""
    last = (indptr[1:].long() - 1).clamp(min=0)
    return indices[last].long()


def decode(
    q: torch.Tensor, gather: Gather, indptr: torch.Tensor, indices: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [sequences, kv heads, group, value] and base-2 lse [sequences, kv heads, group] in
    float64 of q [sequences, kv heads, group, key].

    gather: of pages [n] the keys [n, kv heads, key] and values [n, kv heads, value] in float64.
    Sequences of similar length are attended together, padded to the longest of them.
    """
    import torch

    sequences, heads, _, width = q.shape
    keys, values = gather(indices[:1].long())
    depth = heads * (width + values.shape[-1])
    output = torch.zeros(*q.shape[:3], values.shape[-1], dtype=torch.float64, device=q.device)
    lse = torch.full(q.shape[:3], -math.inf, dtype=torch.float64, device=q.device)
    bounds = indptr.long()
    lengths = bounds.diff()
    order = lengths.argsort(descending=True, stable=True)
    sizes = lengths[order].tolist()
    start = 0
    while start < sequences and sizes[start] > 0:
        longest = sizes[start]
        end = min(sequences, start + max(1, _AT_ONCE // (longest * depth)))
        mine = order[start:end]
        place = torch.arange(longest, device=q.device)
        valid = place < lengths[mine, None]
        token = torch.where(valid, bounds[mine, None] + place, 0)
        keys, values = gather(indices[token.view(-1)].long())
        keys = keys.view(*valid.shape, heads, width).permute(0, 2, 3, 1)
        values = values.view(*valid.shape, heads, -1).transpose(1, 2)
        logits = (q[mine].double() @ keys).mul_(scale)
        logits.masked_fill_(valid.logical_not()[:, None, None], -math.inf)
        natural = logits.logsumexp(-1)
        weights = logits.sub_(natural.masked_fill(natural == -math.inf, 0)[..., None]).exp_()
        output[mine] = weights @ values
        lse[mine] = natural / math.log(2)
        start = end
    return output, lse


def prefill(
    q: torch.Tensor,
    gather: Gather,
    qo_indptr: torch.Tensor,
    kv_indptr: torch.Tensor,
    indices: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [queries, heads, value] and base-2 lse [queries, heads] in float64 of q [queries,
    heads, key], with one KV head and the causal mask aligned to each sequence's end.

    gather: of pages [n] the keys [n, key] and values [n, value] in float64. Sequences are taken one
    by one, their queries in blocks that share the keys they see.
    """
    import torch

    _, values = gather(indices[:1].long())
    heads, width = q.shape[1:]
    output = torch.zeros(*q.shape[:2], values.shape[-1], dtype=torch.float64, device=q.device)
    lse = torch.full(q.shape[:2], -math.inf, dtype=torch.float64, device=q.device)
    q_bounds, kv_bounds = qo_indptr.tolist(), kv_indptr.tolist()
    for b in range(len(q_bounds) - 1):
        q_start, q_end = q_bounds[b], q_bounds[b + 1]
        count, length = q_end - q_start, kv_bounds[b + 1] - kv_bounds[b]
        if not count or not length:
            continue
        keys, values = gather(indices[kv_bounds[b] : kv_bounds[b + 1]].long())
        rows = max(1, _AT_ONCE // (heads * length))
        for start in range(0, count, rows):
            end = min(count, start + rows)
            seen = length - count + end  # keys that the block's last query sees
            if seen <= 0:
                continue
            block = q[q_start + start : q_start + end].double()
            logits = (block.view(-1, width) @ keys[:seen].T).mul_(scale).view(-1, heads, seen)
            position = torch.arange(length - count + start, seen, device=q.device)
            hidden = torch.arange(seen, device=q.device) > position[:, None]
            logits.masked_fill_(hidden[:, None], -math.inf)
            natural = logits.logsumexp(-1)
            finite = natural.masked_fill(natural == -math.inf, 0)
            weights = logits.sub_(finite[..., None]).exp_()
            target = slice(q_start + start, q_start + end)
            output[target] = (weights.view(-1, seen) @ values[:seen]).view(end - start, heads, -1)
            lse[target] = natural / math.log(2)
    return output, lse


def visible_pairs(qo_indptr: torch.Tensor, kv_indptr: torch.Tensor) -> float:
    """Pairs of a query and a key that the causal mask leaves, over all sequences."""
    queries, keys = qo_indptr.diff().double(), kv_indptr.diff().double()
    hidden = queries * (queries - 1) / 2
    return float((queries * keys - hidden).sum())


def distinct(pages: torch.Tensor) -> int:
    """How many pages there are, each counted once."""
    return int(pages.long().bincount().count_nonzero())

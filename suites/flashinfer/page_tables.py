"""Page tables of one call: lengths that add up to the record's tokens, and a page for each token.

Where the dataset's own tables are not at hand, they are drawn to look like them. Of each sequence's
length half of the mean is certain, and the other half of the tokens falls between random cuts: of
the tables that are known, one of 64 sequences with a mean of 795 tokens runs from 383 to 3,046. As
SGLang's allocator leaves it, a sequence begins with pages that all share, goes on with a run of its
own (the prompt), and ends with pages a batch apart (one for each step of decoding). All of it is
turned around the cache by an offset that is fresh in each call.

kind, the first word of a workload's name ("record" for a record's): what is drawn otherwise.

    record, odd    as above; the first page is shared
    shared         half of the shortest sequence is shared by all
    empty          a third of the sequences has no tokens, nothing is shared
    single         one token for each sequence, the same page
    permuted       every token's page at random, none twice

Covered: decode and prefill; nothing here waits for the device.
Not covered: the dataset's tables (dataset.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.types import Workload
from suites.flashinfer.records import kind_of

if TYPE_CHECKING:
    import torch

KINDS = ("record", "odd", "shared", "empty", "single", "permuted")


def draw_lengths(count: int, total: int, least: int, generator: torch.Generator) -> torch.Tensor:
    """`count` lengths of at least `least` that add up to `total` [count] int64."""
    import torch

    device = generator.device
    free = total - least * count
    ends = torch.zeros(count + 1, dtype=torch.int64, device=device)
    cuts = torch.randint(0, free + 1, (count - 1,), generator=generator, device=device)
    ends[1:-1] = cuts.sort().values
    ends[-1:].fill_(free)
    return ends.diff() + least


def draw_sequences(workload: Workload, count: int, generator: torch.Generator) -> torch.Tensor:
    """The number of tokens of each sequence of a decode workload [count] int64."""
    import torch

    kind, total = _kind(workload), workload.axes["num_kv_indices"]
    if kind != "empty":
        return draw_lengths(count, total, max(1, total // (2 * count)), generator)
    alive = count - count // 3
    lengths = torch.zeros(count, dtype=torch.int64, device=generator.device)
    places = torch.rand(count, generator=generator, device=generator.device).argsort()
    lengths[places[:alive]] = draw_lengths(alive, total, min(1, total // alive), generator)
    return lengths


def write_indptr(lengths: torch.Tensor, indptr: torch.Tensor) -> None:
    """Row pointers [count + 1] of lengths [count]."""
    indptr[:1].zero_()
    indptr[1:].copy_(lengths.cumsum(0))


def write_pages(
    workload: Workload,
    generator: torch.Generator,
    indptr: torch.Tensor,
    indices: torch.Tensor,
    *,
    decoded: bool,
) -> None:
    """A page for each token, into `indices`. decoded: some of a sequence's last tokens were
    written one by one; half of those that it does not share."""
    import torch

    kind, pages = _kind(workload), workload.axes["num_pages"]
    device, tokens = indices.device, indices.numel()
    if kind == "permuted":
        order = torch.rand(pages, generator=generator, device=device).argsort()
        indices.copy_(order[:tokens])
        return
    bounds = indptr.long()
    lengths = bounds.diff()
    count, shortest = lengths.numel(), lengths.min()
    shared = shortest.clamp(max=1)
    if kind == "shared":
        shared = (shortest + 1) // 2
    steps = (shortest - shared) // 2 if decoded else torch.zeros_like(shortest)
    prompts = lengths - shared - steps  # pages of each sequence's own run
    begins = shared + prompts.cumsum(0) - prompts
    token = torch.arange(tokens, device=device)
    sequence = torch.searchsorted(bounds, token, right=True) - 1
    place = token - bounds[sequence]
    run = begins[sequence] + place - shared
    step = place - shared - prompts[sequence]
    last = shared + prompts.sum() + step * count + sequence
    page = torch.where(place < shared, place, torch.where(step < 0, run, last))
    offset = torch.randint(0, pages, (1,), generator=generator, device=device)
    indices.copy_((page + offset) % pages)


def _kind(workload: Workload) -> str:
    """Raises UsageError for a name that says nothing of its page table."""
    kind = kind_of(workload)
    if kind not in KINDS:
        raise UsageError(
            f"Workload {workload.name!r} says nothing of its page table, expected a name that "
            f"begins with a record's uuid or one of {', '.join(KINDS[1:])}."
        )
    return kind

"""The workload records of flashinfer-trace as workloads: their axes, by the records' own order.

A record's workload is named by the first 8 hex digits of its uuid and its sizes, for example
`06b8480d_b64_kv28815`; our held-out workloads begin with the kind of their page tables instead.

Covered: the records shipped in data/ (see data/README.md for their source and licence).
Not covered: the records' tensors (dataset.py reads them from a copy of the dataset).
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.suite import PublishedGate
from harness.types import Workload

# FlashInfer-Bench's default evaluator (its eval_config.yaml, version 0.1.2).
FLASHINFER_BENCH = PublishedGate(
    1e-2, 1e-2, 1.0, "flashinfer-bench 0.1.2: 1e-2 absolute or relative, every element, all finite"
)
DATA = Path(__file__).parent / "data"
UUID_DIGITS = 8
_RECORD = re.compile(rf"^([0-9a-f]{{{UUID_DIGITS}}})_")


@dataclass(frozen=True)
class Record:
    """One workload record: its uuid and its axes, with the scalars that differ by record."""

    uuid: str
    axes: Mapping[str, int]

    @property
    def prefix(self) -> str:
        return self.uuid[:UUID_DIGITS]


@dataclass(frozen=True)
class Records:
    """All records of a definition. scalars: the values that occur of each scalar that the suite
    takes as a constant."""

    definition: str
    rows: tuple[Record, ...]
    scalars: Mapping[str, tuple[float, ...]]


@functools.cache
def read_records(definition: str) -> Records:
    """The records of a definition, in the dataset's order."""
    data = json.loads((DATA / f"{definition}.json").read_text(encoding="utf-8"))
    _, *axes = data["columns"]
    rows = tuple(Record(row[0], dict(zip(axes, row[1:], strict=True))) for row in data["records"])
    scalars = {name: tuple(values) for name, values in data["scalars"].items()}
    return Records(data["definition"], rows, scalars)


def record_of(workload: Workload) -> str | None:
    """The first digits of the uuid of a workload's record; None for one of ours."""
    match = _RECORD.match(workload.name)
    return match.group(1) if match else None


def kind_of(workload: Workload) -> str:
    """ "record", or the first word of the name of one of ours."""
    return "record" if record_of(workload) else workload.name.partition("_")[0]


def chosen(workloads: Iterable[Workload], prefixes: str) -> tuple[Workload, ...]:
    """The workloads of these records (uuid prefixes between blanks), in this order. Raises
    UsageError for one that is not there."""
    by_prefix = {record_of(workload): workload for workload in workloads}
    missing = [prefix for prefix in prefixes.split() if prefix not in by_prefix]
    if missing:
        raise UsageError(f"No record begins with {missing[0]!r}; expected one of the task's own.")
    return tuple(by_prefix[prefix] for prefix in prefixes.split())


def decode_workload(name: str, axes: Mapping[str, int]) -> Workload:
    """name: the record's prefix, or a kind of page table."""
    sizes = f"b{axes['batch_size']}_kv{axes['num_kv_indices']}"
    return Workload(f"{name}_{sizes}", dict(axes))


def prefill_workload(name: str, axes: Mapping[str, int]) -> Workload:
    """As `decode_workload`, for sequences with several queries."""
    sequences = axes["len_indptr"] - 1
    sizes = f"b{sequences}_q{axes['total_q']}_kv{axes['num_kv_indices']}"
    return Workload(f"{name}_{sizes}", dict(axes))


def decode_workloads(definition: str) -> tuple[Workload, ...]:
    """A workload for each record of a decode definition."""
    return tuple(decode_workload(r.prefix, r.axes) for r in read_records(definition).rows)


def prefill_workloads(definition: str) -> tuple[Workload, ...]:
    """A workload for each record of a prefill definition."""
    return tuple(prefill_workload(r.prefix, r.axes) for r in read_records(definition).rows)


def our_decode(kind: str, batch_size: int, tokens: int, num_pages: int) -> Workload:
    """A held-out decode workload of ours. kind: see page_tables.py."""
    axes = {
        "batch_size": batch_size, "num_pages": num_pages, "len_indptr": batch_size + 1,
        "num_kv_indices": tokens,
    }  # fmt: skip
    return decode_workload(kind, axes)


def our_prefill(kind: str, sequences: int, total_q: int, tokens: int, num_pages: int) -> Workload:
    """A held-out prefill workload of ours. kind: see page_tables.py."""
    axes = {
        "total_q": total_q, "num_pages": num_pages, "len_indptr": sequences + 1,
        "num_kv_indices": tokens,
    }  # fmt: skip
    return prefill_workload(kind, axes)

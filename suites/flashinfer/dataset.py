"""The tensors of flashinfer-trace's records, where the user has a copy of the dataset.

FIB_DATASET_PATH names its folder, laid out as the dataset is: workloads/**/<definition>.jsonl,
whose records name safetensors files relative to the folder. Without the variable nothing is read,
and the suite draws its index and routing tensors.

Covered: the stored tensors of a record, checked for names, shapes, dtypes and ranges; an identity
of what was read for task versions and manifests; plain words for files that are missing or are Git
LFS pointers.
Not covered: getting the dataset; tensors that the records call random; definitions, whose
signatures the suite states itself.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import EnvironmentMissing
from harness.types import content_hash
from suites.flashinfer.records import UUID_DIGITS

if TYPE_CHECKING:
    import torch

VARIABLE = "FIB_DATASET_PATH"
SYNTHESISED = "synthesised from the records' axes and a seed; no tensor of the dataset was read"
_LFS = b"version https://git-lfs"


@dataclass(frozen=True)
class StoredTensor:
    """Where a record's tensor lies: a safetensors file and its key."""

    path: Path
    key: str


@dataclass(frozen=True)
class Dataset:
    """The stored tensors of one definition: by record prefix, then by the tensor's name."""

    definition: str
    root: Path
    records: Mapping[str, Mapping[str, StoredTensor]]

    @functools.cached_property
    def digest(self) -> str:
        """16 hex digits over the names and sizes of the files that the records name (the dataset
        names each by its content). A file that is missing counts as such."""
        paths = sorted({t.path for tensors in self.records.values() for t in tensors.values()})
        lines = [f"{path.name} {path.stat().st_size if path.exists() else -1}" for path in paths]
        return content_hash("\n".join([self.definition, *lines]))

    def note(self) -> str:
        """Which inputs are used, in words; no path of this machine. Raises EnvironmentMissing if a
        record's file cannot be read."""
        for tensors in self.records.values():
            for stored in tensors.values():
                _check_file(stored.path)
        count = len(self.records)
        return f"index and routing tensors of the dataset's {count} records, {self.digest}"

    def tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        """A record's stored tensors, on the CPU. Raises EnvironmentMissing."""
        return {name: _read(stored) for name, stored in self.records[prefix].items()}


def find_dataset(definition: str) -> Dataset | None:
    """The dataset that FIB_DATASET_PATH names; None where it names none. Raises EnvironmentMissing
    if there is no such folder, or no records of this definition in it."""
    folder = os.environ.get(VARIABLE)
    return _open(definition, folder) if folder else None


@functools.cache
def _open(definition: str, folder: str) -> Dataset:
    root = Path(folder)
    found = sorted(root.glob(f"workloads/**/{definition}.jsonl"))
    if not found:
        raise EnvironmentMissing(
            f"{VARIABLE} is {folder!r}, where workloads/ holds no {definition}.jsonl. Point it at "
            "a copy of flashinfer-ai/flashinfer-trace, or unset it to use synthesised inputs."
        )
    records: dict[str, dict[str, StoredTensor]] = {}
    for line in found[0].read_text(encoding="utf-8").splitlines():
        workload = json.loads(line)["workload"] if line.strip() else None
        if workload is None:
            continue
        records[workload["uuid"][:UUID_DIGITS]] = {
            name: StoredTensor(root / entry["path"], entry["tensor_key"])
            for name, entry in workload["inputs"].items()
            if entry["type"] == "safetensors"
        }
    return Dataset(definition, root, records)


def _check_file(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS))
    except OSError as error:
        raise EnvironmentMissing(
            f"{path} cannot be read ({error.strerror}). Download the dataset's blob/ folder, or "
            f"unset {VARIABLE} to use synthesised inputs."
        ) from error
    if start == _LFS:
        raise EnvironmentMissing(
            f"{path} is a Git LFS pointer, not the tensors. Run `git lfs pull` in the dataset, or "
            f"unset {VARIABLE} to use synthesised inputs."
        )


def _read(stored: StoredTensor) -> torch.Tensor:
    _check_file(stored.path)
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise EnvironmentMissing(
            f"Reading the dataset that {VARIABLE} names needs the package safetensors. Install the "
            "extra: pip install 'kernel-search-harness[flashinfer]'."
        ) from error
    try:
        with safe_open(str(stored.path), framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(stored.key)
    except SafetensorError as error:
        raise EnvironmentMissing(
            f"{stored.path} holds no tensor {stored.key!r} ({error}). Get the dataset again."
        ) from error
    return tensor


def require(condition: bool, definition: str, prefix: str, what: str) -> None:
    """Raises EnvironmentMissing that a record's tensors are not `what`."""
    if not condition:
        raise EnvironmentMissing(
            f"The dataset's tensors of record {prefix} of {definition} are not as its axes say: "
            f"expected {what}. Get the dataset again, or unset {VARIABLE}."
        )


@dataclass(frozen=True)
class StoredTable:
    """A record's page table. pages_fit: its page numbers lie in the cache; where they do not,
    which two of the known records are said to have, only its lengths are used."""

    indptrs: Mapping[str, torch.Tensor]
    indices: torch.Tensor
    pages_fit: bool


def read_table(
    dataset: Dataset, prefix: str, axes: Mapping[str, int], indptrs: Mapping[str, str]
) -> StoredTable:
    """A record's checked page table. indptrs: the axis that each row pointer ends at. Raises
    EnvironmentMissing."""
    import torch

    def demand(condition: bool, what: str) -> None:
        require(condition, dataset.definition, prefix, what)

    stored = dataset.tensors(prefix)
    for name in (*indptrs, "kv_indices"):
        demand(name in stored and stored[name].dtype == torch.int32, f"{name} in int32")
    for name, axis in indptrs.items():
        pointers = stored[name]
        demand(tuple(pointers.shape) == (axes["len_indptr"],), f"{name} [{axes['len_indptr']}]")
        steps = pointers.diff()
        good = (
            int(pointers[0]) == 0 and int(pointers[-1]) == axes[axis] and bool((steps >= 0).all())
        )
        demand(good, f"{name} to go up from 0 to {axes[axis]}")
    indices = stored["kv_indices"]
    demand(tuple(indices.shape) == (axes["num_kv_indices"],), f"{axes['num_kv_indices']} pages")
    fit = bool(((indices >= 0) & (indices < axes["num_pages"])).all())
    return StoredTable({name: stored[name] for name in indptrs}, indices, fit)

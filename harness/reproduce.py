"""`harness reproduce`: the paper's page from the figures that are shipped, with ours beside them.

Covered: what was asked for, the record of measured kernels that a folder holds, what is printed.
Not covered: the page (reports/reproduce.py, found by name); measuring a folder of kernels: until
`kernels` holds a record (remeasured.json), it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, cast

from harness.errors import UsageError
from harness.loading import load
from harness.remeasured import RECORD, Remeasured, read_remeasured

_BUILDERS = {"paper": "reports.reproduce:build_paper_page"}


class _Page(Protocol):
    @property
    def page(self) -> Path: ...
    @property
    def sentences(self) -> Sequence[str]: ...
    @property
    def provenance(self) -> Sequence[tuple[str, str]]: ...


def reproduce(
    out: Path, runs: Path | None, kernels: Path | None, say: Callable[[str], None]
) -> Path:
    """Write the page into `out`; its path. runs: a comparison's folder. kernels: a folder with the
    record of measured kernels. Raises UsageError, LogError, EnvironmentMissing."""
    if runs is not None and not runs.is_dir():
        raise UsageError(
            f"There is no folder {runs}. --runs (RUNS=) takes the folder of a comparison."
        )
    record = measured_kernels(kernels) if kernels is not None else None
    build = cast(
        Callable[[Path, Path | None, Remeasured | None], _Page], load("report", "paper", _BUILDERS)
    )
    page = build(out, runs, record)
    for sentence in page.sentences:
        say(sentence)
    say("\nPublished kernels:")
    for what, where in page.provenance:
        say(f"  {what}: {where}")
    return page.page


def measured_kernels(folder: Path) -> Remeasured:
    """The record of the kernels in a folder. Raises UsageError where it has none, LogError where it
    is not whole."""
    if not folder.is_dir():
        raise UsageError(
            f"There is no folder {folder}. --kernels (KERNELS=) takes a folder of kernels."
        )
    if not (folder / RECORD).is_file():
        raise UsageError(
            f"{folder} has no {RECORD}, the record of measured kernels (docs/reproduce.md has its "
            "form). This version shows such records and cannot make one: that needs an importer of "
            "published kernels and the suite `flashinfer`, which are not part of it. Leave "
            "--kernels (KERNELS=) out, or give a folder that holds a record."
        )
    return read_remeasured(folder)

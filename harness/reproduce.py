"""`harness reproduce`: the paper's page from the figures that are shipped, with ours beside them.

Covered: what was asked for, the record of measured kernels that a folder holds or that is made of
its kernels, what is printed. Not covered: the page (reports/reproduce.py, found by name); measuring
(remeasure.py).
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
    """Write the page into `out`; its path. runs: a comparison's folder. kernels: a folder of
    published kernels, or with the record of measured ones. Raises UsageError, LogError,
    EnvironmentMissing."""
    if runs is not None and not runs.is_dir():
        raise UsageError(
            f"There is no folder {runs}. --runs (RUNS=) takes the folder of a comparison."
        )
    record = measured_kernels(kernels, out, say) if kernels is not None else None
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


def measured_kernels(folder: Path, out: Path, say: Callable[[str], None]) -> Remeasured:
    """The record of the kernels in a folder: the one that it holds, else a new one, made on this
    machine and kept in `out`. Raises UsageError, EnvironmentMissing, and LogError where a record is
    not whole."""
    from harness.remeasure import remeasure

    if not folder.is_dir():
        raise UsageError(
            f"There is no folder {folder}. --kernels (KERNELS=) takes a folder of kernels."
        )
    if (folder / RECORD).is_file():
        return read_remeasured(folder)
    return remeasure(folder, out, say)

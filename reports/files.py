"""A page on disk, with its tables and figures beside it.

Covered: the order, and which files were written. Not covered: what is in them; clearing a folder
first; what an OSError means to a user (each page's own builder says).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reports.figure import Figure
from reports.table import Table, write


@dataclass(frozen=True)
class Written:
    """What lies on disk now."""

    page: Path
    tables: tuple[Path, ...]
    figures: tuple[Path, ...]


def write_page(
    folder: Path, text: str, tables: Sequence[Table], figures: Sequence[Figure] = ()
) -> Written:
    """Write all of it into a folder that is there. Raises OSError."""
    table_paths = tuple(path for table in tables for path in write(table, folder))
    figure_paths = tuple(folder / f"{figure.name}.svg" for figure in figures)
    for figure, path in zip(figures, figure_paths, strict=True):
        path.write_text(figure.svg, encoding="utf-8", newline="\n")
    # Last, so that a page never stands beside the files of another one.
    page = folder / "index.html"
    page.write_text(text, encoding="utf-8", newline="\n")
    return Written(page, table_paths, figure_paths)

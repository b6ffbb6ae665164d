"""A table once, written as CSV, Markdown, LaTeX and HTML cells. Deterministic to the byte.

Covered: text, integers, numbers with 6 significant digits in CSV (3 to read), estimates with their
95 % interval (three CSV columns: value, low, high). Every CSV row ends with the column `levels`;
every caption carries the same pair. Not covered: what a table says (tables.py).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reports.statistics import Estimate

Kind = Literal["text", "integer", "number", "ratio", "percent", "estimate", "p"]
Cell = str | int | float | Estimate | None
NONE = "–"

_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "×": r"$\times$", "–": "--", "−": r"$-$", "≥": r"$\geq$", "≤": r"$\leq$",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """key: CSV header. title: header for readers. kind: how cells are written.

    "ratio" is a speedup or a ratio, shown as 1.23×; "estimate" is a ratio with its interval.
    """

    key: str
    title: str
    kind: Kind = "text"


@dataclass(frozen=True)
class Table:
    """Rows of cells, one per column; None where there is nothing to say."""

    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    levels: str

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.name}: {len(row)} cells, {len(self.columns)} columns"
                )

    def shown(self) -> list[list[str]]:
        """The cells as readers see them."""
        return [
            [show(cell, column.kind) for cell, column in zip(row, self.columns, strict=True)]
            for row in self.rows
        ]


def show(cell: Cell, kind: Kind) -> str:
    """One cell for readers: 3 significant digits, a dash where there is nothing."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return NONE
    if isinstance(cell, Estimate):
        interval = f" [{significant(cell.low)}, {significant(cell.high)}]"
        return significant(cell.value) + ("" if math.isnan(cell.low) else interval)
    if isinstance(cell, str):
        return cell
    if kind == "integer":
        return f"{int(cell):,}"
    if kind == "ratio":
        return f"{significant(cell)}×"
    if kind == "percent":
        return f"{cell:+.1f} %".replace("-", "−")
    if kind == "p":
        return "< 0.0001" if cell < 0.0001 else f"{cell:.2g}"
    return significant(cell)


def significant(value: float, digits: int = 3) -> str:
    """`value` with so many significant digits and no exponent, thousands separated."""
    if math.isnan(value):
        return NONE
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(decimals, 6)}f}".replace("-", "−")


def write(table: Table, folder: Path) -> list[Path]:
    """Write `table` as .csv, .md and .tex into `folder`; the paths."""
    texts = {"csv": _csv(table), "md": _markdown(table), "tex": _latex(table)}
    paths = []
    for suffix, text in texts.items():
        path = folder / f"{table.name}.{suffix}"
        path.write_text(text, encoding="utf-8", newline="\n")
        paths.append(path)
    return paths


def _csv(table: Table) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    header: list[str] = []
    for column in table.columns:
        header.append(column.key)
        if column.kind == "estimate":
            header += [f"{column.key}_low", f"{column.key}_high"]
    writer.writerow([*header, "levels"])
    for row in table.rows:
        cells: list[str] = []
        for cell, column in zip(row, table.columns, strict=True):
            cells += _raw(cell, column.kind)
        writer.writerow([*cells, table.levels])
    return stream.getvalue()


def _raw(cell: Cell, kind: Kind) -> Sequence[str]:
    if kind == "estimate":
        values = (cell.value, cell.low, cell.high) if isinstance(cell, Estimate) else (None,) * 3
        return [_six(value) for value in values]
    if isinstance(cell, Estimate):
        raise TypeError(f"an estimate in a column of kind {kind}")
    if isinstance(cell, str):
        return [cell]
    return [str(cell) if isinstance(cell, int) else _six(cell)]


def _six(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.6g}"


def _markdown(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(c.replace("|", r"\|") for c in cells) + " |\n"

    text = f"**{table.title}** ({table.levels}). {table.caption}\n\n"
    text += line([c.title for c in table.columns])
    text += line(["---" if c.kind == "text" else "---:" for c in table.columns])
    return text + "".join(line(row) for row in table.shown())


def _latex(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "    " + " & ".join(tex(c) for c in cells) + r" \\" + "\n"

    form = "".join("l" if c.kind == "text" else "r" for c in table.columns)
    return (
        "% needs \\usepackage{booktabs}\n"
        "\\begin{table}\n  \\centering\n"
        f"  \\caption{{{tex(table.title)} ({tex(table.levels)}). {tex(table.caption)}}}\n"
        f"  \\label{{tab:{table.name}}}\n"
        f"  \\begin{{tabular}}{{{form}}}\n    \\toprule\n"
        + line([c.title for c in table.columns])
        + "    \\midrule\n"
        + "".join(line(row) for row in table.shown())
        + "    \\bottomrule\n  \\end{tabular}\n\\end{table}\n"
    )


def tex(text: str) -> str:
    """`text` with LaTeX's special characters escaped."""
    return "".join(_TEX.get(character, character) for character in text)

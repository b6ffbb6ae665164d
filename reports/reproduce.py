"""`build_paper_page`: the published figures in, the paper's page out, with runs and kernels beside.

The folder holds index.html (one file, no network, no script), every table as .csv, .md and .tex and
every figure as .svg. Tables of runs or kernels that an earlier page in the folder had, and this one
has not, are removed. The same input gives the same bytes.

Covered: what is on the page, in which order. Not covered: measuring kernels
(harness/remeasured.py holds their record); words (paper_words.py, paper_claims.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from harness.errors import EnvironmentMissing
from harness.remeasured import Remeasured
from reports import page, paper_tables, paper_words
from reports.figure import Figure, for_page
from reports.files import Written, write_page
from reports.html import page_environment
from reports.leaderboard import Published, read_published
from reports.manifest import facts
from reports.paper import Paper, read_paper
from reports.paper_claims import claims, claims_of_scores
from reports.paper_curves import read_curves
from reports.paper_figure import draw_paper_curves
from reports.paper_kernels import kernel_claims, kernels_levels, kernels_tables
from reports.paper_runs import (
    TRIMUL_SUITES,
    OurRuns,
    read_runs,
    run_curves,
    run_scores,
    runs_table,
    trimul_runs_table,
)
from reports.table import Table

_BESIDE = (
    "runs_beside_paper", "runs_claims", "runs_trimul", "kernels_beside_paper", "kernels_claims",
    "kernels", "kernels_fast_p", "kernels_workloads",
)  # fmt: skip


@dataclass(frozen=True)
class PaperPage:
    """Where the page is. tables, figures: the files beside it. sentences: its answer. provenance:
    (what, where) of published kernels."""

    page: Path
    tables: tuple[Path, ...]
    figures: tuple[Path, ...]
    sentences: tuple[str, ...]
    provenance: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Content:
    paper: Paper
    runs: OurRuns | None
    record: Remeasured | None
    tables: Sequence[Table]
    trimul: Sequence[Published]
    figures: Sequence[Figure]
    curves_mark: str


def build_paper_page(out: Path, runs: Path | None, record: Remeasured | None) -> PaperPage:
    """Write the page into `out`. runs: the folder of a comparison. Raises LogError where that is
    none, EnvironmentMissing where `out` cannot be written."""
    paper = read_paper()
    curves = read_curves(paper)
    ours = read_runs(runs) if runs is not None else None
    trimul = read_published(TRIMUL_SUITES[1])
    tables = [
        paper_tables.paper_table(paper),
        paper_tables.scores_table(paper, curves),
        paper_tables.means_table(paper),
        paper_tables.claims_table("paper_claims", claims(paper), _claims_levels(paper)),
        paper_tables.curves_table(curves),
        paper_tables.remeasured_table(paper),
        *(shown.table for shown in trimul),
    ]
    tables += _runs_tables(paper, ours) if ours is not None else []
    tables += _kernel_tables(paper, record) if record is not None else []
    figures = draw_paper_curves(
        paper, curves, run_curves(paper, ours) if ours else [], ours.levels if ours else ""
    )
    text = _render(_Content(paper, ours, record, tables, trimul, figures, curves.mark))
    written = _write(out, text, tables, figures)
    return PaperPage(
        written.page,
        written.tables,
        written.figures,
        tuple(paper_words.answers(paper, ours, record)),
        tuple(paper_words.provenance(paper)),
    )


def _claims_levels(paper: Paper) -> str:
    levels = paper_tables.published_levels(paper)
    return f"{levels}; re-measured once on an {paper.remeasured.hardware} where it says so"


def _runs_tables(paper: Paper, runs: OurRuns) -> list[Table]:
    figures = f"runs here, {runs.hardware}, {len(runs.comparison.seeds)} seeds"
    found = claims_of_scores(paper, run_scores(paper, runs), figures, {})
    trimul = trimul_runs_table(runs)
    tables = [runs_table(paper, runs)]
    tables += [paper_tables.claims_table("runs_claims", found, runs.levels)] if found else []
    return tables + ([trimul] if trimul is not None else [])


def _kernel_tables(paper: Paper, record: Remeasured) -> list[Table]:
    found, levels = kernel_claims(paper, record), kernels_levels(record)
    return [
        *kernels_tables(paper, record),
        paper_tables.claims_table("kernels_claims", found, levels),
    ]


def _render(content: _Content) -> str:
    resources = files("reports")
    environment = page_environment()
    environment.filters["inline"] = lambda svg: Markup(for_page(svg))
    template = environment.from_string(
        resources.joinpath("paper.html.j2").read_text(encoding="utf-8")
    )
    paper, runs, record = content.paper, content.runs, content.record
    settings = []
    if runs is not None:
        settings.append(("Machine of the runs", runs.comparison.machine))
        settings += [(f"Model {name}", rows) for name, rows in runs.comparison.models]
    if record is not None:
        settings += [
            ("Gates of the kernels", facts(record.gates)),
            ("Machine of the kernels", facts(record.machine)),
            ("Packages of the kernels", facts(record.packages)),
        ]
    return template.render(
        css=Markup(resources.joinpath("report.css").read_text(encoding="utf-8")),
        paper=paper,
        self_test=page.SELF_TEST if runs is not None and runs.comparison.simulated else "",
        question=paper_words.QUESTION,
        answers=paper_words.answers(paper, runs, record),
        cards=paper_words.cards(paper, runs, record),
        levels=paper_tables.published_levels(paper),
        runs=runs,
        record=record,
        tables={table.name: table for table in content.tables},
        trimul=[shown.table for shown in content.trimul],
        figures=content.figures,
        mark=content.curves_mark,
        provenance=paper_words.provenance(paper),
        settings=settings,
    )


def _write(out: Path, text: str, tables: Sequence[Table], figures: Sequence[Figure]) -> Written:
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in set(_BESIDE) - {table.name for table in tables}:
            for suffix in (".csv", ".md", ".tex"):
                (out / f"{name}{suffix}").unlink(missing_ok=True)
        return write_page(out, text, tables, figures)
    except OSError as error:
        raise EnvironmentMissing(
            f"Cannot write the page into {out}: {error.strerror}. Choose another folder with --out."
        ) from error

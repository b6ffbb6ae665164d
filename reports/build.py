"""`build_report`: a comparison folder in, its report folder out.

The report folder holds index.html (self-contained), and for every table .csv, .md and .tex and for
every figure .svg. The same input gives the same bytes, whatever the folder's path, the time and
the hash seed; files of an earlier report in the same folder are removed first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.errors import EnvironmentMissing
from harness.folder import read_unstarted
from reports import (
    charts,
    curves,
    html,
    lineage_figure,
    tables,
    tables_device,
    tables_search,
    trace,
)
from reports.analysis import compare_pairs, summarise
from reports.figure import Figure
from reports.files import write_page
from reports.frames import read_frames
from reports.manifest import read_comparison
from reports.results import read_results, workload_rows
from reports.table import Table

_SUFFIXES = (".html", ".csv", ".md", ".tex", ".svg")


@dataclass(frozen=True)
class ReportPaths:
    """Where the report is. page: index.html; tables and figures: the files beside it."""

    folder: Path
    page: Path
    tables: tuple[Path, ...]
    figures: tuple[Path, ...]


def build_report(folder: Path) -> ReportPaths:
    """Write `folder`/report from the comparison in `folder`.

    Raises LogError for a folder that is no comparison or whose logs are of a wrong format (which
    file, which line, what to do), EnvironmentMissing when the report cannot be written.
    """
    comparison = read_comparison(folder)
    frames = read_frames(folder, comparison.tasks, comparison.arm_names)
    results = read_results(folder, frames, comparison.tasks)
    workloads = workload_rows(results)
    summaries = summarise(comparison, results)
    pairs = compare_pairs(comparison, results)
    all_tables = [
        tables.arms_table(comparison, summaries),
        tables_search.statistics_table(comparison, pairs),
        tables.tasks_table(comparison, results),
        tables.workloads_table(comparison, workloads),
        tables.fast_p_table(comparison, results, workloads),
        tables_search.ratios_table(comparison, results),
        tables.search_table(comparison, results),
        tables_search.failures_table(comparison, frames, results),
        tables_search.cost_table(comparison, frames.runs),
        tables_device.baselines_table(comparison, results, folder),
        tables_device.device_table(comparison, results),
        tables_search.flags_table(comparison, workloads),
        tables.runs_table(comparison, results, frames.runs),
    ]
    figures = [
        charts.draw_scores(comparison, results),
        charts.draw_profile(comparison, results),
        charts.draw_search(comparison, results),
        charts.draw_heat_map(comparison, workloads),
    ]
    panels = curves.draw_curves(comparison, frames)
    traces = trace.draw_traces(comparison, folder, frames.runs)
    lineages = lineage_figure.draw_lineages(comparison, folder, frames.runs)
    text = html.render(
        html.Content(
            comparison,
            results,
            frames.runs,
            workloads,
            summaries,
            pairs,
            {table.name: table for table in all_tables},
            {figure.name: figure for figure in figures},
            panels,
            traces,
            lineages,
            read_unstarted(folder),
        )
    )
    every_figure = [*figures, *(f for found in panels.values() for f in found), *traces, *lineages]
    return _write(folder / "report", text, all_tables, every_figure)


def _write(report: Path, text: str, all_tables: list[Table], figures: list[Figure]) -> ReportPaths:
    try:
        report.mkdir(exist_ok=True)
        for old in sorted(report.iterdir()):
            if old.is_file() and old.suffix in _SUFFIXES:
                old.unlink()
        written = write_page(report, text, all_tables, figures)
    except OSError as error:
        raise EnvironmentMissing(
            f"Cannot write the report into {report}: {error.strerror}. Free some space or make "
            "the folder writable, then run `harness report` again."
        ) from error
    return ReportPaths(report, written.page, written.tables, written.figures)

"""The page: the template filled in, with style and figures inside it, so that one file is enough.

Covered: index.html, which works from file:// without a network or a script. Not covered: its words
(page.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import jinja2
import pandas as pd
from markupsafe import Markup

from reports import charts, curves, page
from reports.analysis import ArmSummary, Pair, seed_notes
from reports.figure import PALETTE, Figure, arm_styles, for_page
from reports.manifest import Comparison
from reports.records import FIGURES
from reports.results import Results
from reports.table import Table


@dataclass(frozen=True)
class HeatRow:
    """One workload of the heat map; cells are (text, colour) or None, one per arm."""

    task: str
    first_of_task: int  # rows that the task's cell spans, 0 below the first
    workload: str
    cells: tuple[tuple[str, str] | None, ...]


@dataclass(frozen=True)
class Content:
    """Everything that the page shows."""

    comparison: Comparison
    results: Results
    runs: pd.DataFrame
    workloads: pd.DataFrame
    summaries: Sequence[ArmSummary]
    pairs: Sequence[Pair]
    tables: Mapping[str, Table]
    figures: Mapping[str, Figure]
    curves: Mapping[str, Sequence[Figure]]
    traces: Sequence[Figure]
    lineages: Sequence[Figure]
    unstarted: Mapping[tuple[str, str, int], str]


def page_environment() -> jinja2.Environment:
    """How every page's template is read: text is escaped, an unknown name is an error."""
    return jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(content: Content) -> str:
    """The text of index.html."""
    environment = page_environment()
    comparison = content.comparison
    environment.filters["inline"] = lambda svg: Markup(for_page(svg))
    template = environment.from_string(_resource("report.html.j2"))
    axis_labels = {axis.name: axis.label for axis in curves.AXES}
    return template.render(
        css=Markup(_resource("report.css")),
        comparison=comparison,
        self_test=page.SELF_TEST,
        meaning=page.meaning(comparison),
        question=page.question(comparison),
        answers=page.answers(comparison, content.summaries, content.pairs),
        cards=page.cards(comparison, content.results, content.runs),
        problems=page.problems(comparison, content.results, content.runs, content.unstarted),
        notes=seed_notes(content.results, comparison),
        tables=content.tables,
        figures=content.figures,
        curves={axis_labels[name]: list(panels) for name, panels in content.curves.items()},
        curve_caption=curves.caption(comparison),
        replicates=[(arm.name, arm.replicates) for arm in comparison.replicated],
        resumed=int((content.runs["attempts"] > 1).sum()),
        traces=content.traces,
        traced_runs=int((content.runs["world_models"] > 0).sum()),
        lineages=content.lineages,
        most_traces=FIGURES,
        lineage_runs=int((content.runs["lineages"] > 0).sum()),
        heat=_heat_rows(comparison, content.workloads),
        heat_key=[(f"{v:g}×", charts.heat_colour(v)) for v in (0.125, 0.25, 0.5, 1, 2, 4, 8)],
        arm_index={arm: style.index for arm, style in arm_styles(comparison.arm_names).items()},
        palette_size=len(PALETTE),
    )


def _resource(name: str) -> str:
    return files("reports").joinpath(name).read_text(encoding="utf-8")


def _heat_rows(comparison: Comparison, workloads: pd.DataFrame) -> list[HeatRow]:
    means = charts.heat_values(workloads)
    by_task: dict[str, list[str]] = {}
    for task, workload, _ in means:
        names = by_task.setdefault(task, [])
        if workload not in names:
            names.append(workload)
    rows = []
    for task, names in by_task.items():
        for place, workload in enumerate(names):
            values = [means.get((task, workload, arm)) for arm in comparison.arm_names]
            cells = tuple(
                None if v is None else (f"{v:.2f}×", charts.heat_colour(v)) for v in values
            )
            rows.append(HeatRow(task, len(names) if place == 0 else 0, workload, cells))
    return rows

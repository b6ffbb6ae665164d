"""The published best-so-far curves, drawn again from what was read off the figure.

One panel per task. Dashed lines are runs of this harness on the same task in the same unit, where
there are any.

Covered: drawing, and the mark that the published lines are digitised, in every panel. Not covered:
reading them (paper_curves.py); runs (paper_runs.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.lines import Line2D

from reports.figure import MUTED, Figure, arm_styles, drawing, figure_name, frame, legend, to_svg
from reports.paper import Paper
from reports.paper_curves import Panel, PaperCurves
from reports.paper_runs import OurCurve

_WIDTH, _HEIGHT = 4.7, 3.3


def draw_paper_curves(
    paper: Paper, curves: PaperCurves, ours: Sequence[OurCurve], levels: str
) -> list[Figure]:
    """A figure per task. levels: of the runs, "" where there are none."""
    return [
        _panel(paper, curves, panel, [c for c in ours if c.task == panel.task], levels)
        for panel in curves.panels
    ]


def _panel(
    paper: Paper, curves: PaperCurves, panel: Panel, ours: Sequence[OurCurve], levels: str
) -> Figure:
    name = figure_name("paper_curves", panel.task.replace(" ", "_"))
    title = f"{panel.task}: best so far, as published"
    marks = f"{curves.mark}; {levels}" if ours else curves.mark
    styles = arm_styles(paper.names)
    lines = [
        Line2D([], [], color=style.colour, linewidth=2.0, label=method)
        for method, style in styles.items()
    ] + [
        Line2D([], [], color=styles[c.method].colour, linewidth=1.6, linestyle="--", label=c.label)
        for c in ours
    ]
    with drawing(name, _WIDTH, _HEIGHT) as canvas:
        axes = frame(canvas, legend(canvas, lines, _WIDTH) + 0.24)
        for curve in panel.curves:
            percent = np.array([np.nan if p is None else p for p in curve.percent])
            evaluations = np.arange(1, percent.size + 1)
            known = np.isfinite(percent)
            axes.step(
                evaluations[known], percent[known], where="post", linewidth=1.8,
                color=styles[curve.method].colour, zorder=3,
            )  # fmt: skip
        for own in ours:
            axes.step(
                np.arange(own.percent.size), own.percent, where="post", linewidth=1.6,
                linestyle="--", color=styles[own.method].colour, zorder=2.5,
            )  # fmt: skip
        top = max(100.0, axes.get_ylim()[1])
        axes.axhline(100.0, color=MUTED, linewidth=0.8)
        axes.set_ylim(0, top * 1.04)
        axes.set_xlim(0, max([paper.charges, *(own.percent.size - 1 for own in ours)]) * 1.01)
        axes.set_xlabel("evaluations")
        axes.set_ylabel("% of the baseline, arithmetic mean")
        axes.set_title(f"{panel.task} ({paper.task(panel.task).hardware})")
        text = to_svg(canvas, name, title, marks)
    return Figure(name, title, marks, text)

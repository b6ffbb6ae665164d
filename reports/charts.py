"""Figures of the confirmed results: scores, profile, search against confirmed, heat map.

Covered: drawing and what each caption must say. Not covered: curves of the search (curves.py) and
K-Search's trace (trace.py).
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.ticker import PercentFormatter

from reports.figure import (
    INK,
    MUTED,
    Figure,
    arm_styles,
    drawing,
    frame,
    legend_above,
    ratio_axis,
    to_svg,
)
from reports.manifest import Comparison
from reports.results import Results
from reports.statistics import performance_profile, t_interval

# Brown below 1×, white at 1×, blue-green above: the ends of ColorBrewer's BrBG, safe for
# colour-blind readers; light enough that dark text stays legible on every cell.
_HEAT = LinearSegmentedColormap.from_list("speedup", ["#d8a657", "#f7f7f5", "#5ab4ac"])
HEAT_LIMIT = 3.0  # log2: colours saturate at 1/8 and 8 times the baseline


def heat_colour(speedup: float) -> str:
    """The colour of a heat map cell, as #rrggbb."""
    place = max(-1.0, min(1.0, math.log2(speedup) / HEAT_LIMIT))
    return to_hex(_HEAT((place + 1) / 2))


def draw_scores(comparison: Comparison, results: Results) -> Figure:
    """Every run's confirmed score as a point, with the mean and interval over seeds."""
    name, title = "confirmed_scores", "Confirmed score of every run"
    styles = arm_styles(comparison.arm_names)
    arms, tasks = list(styles), comparison.tasks
    lines = len(arms) * len(tasks)
    height = 1.1 + 0.24 * lines + 0.14 * len(tasks)
    with drawing(name, 7.2, height) as canvas:
        top = legend_above(canvas, styles, 7.2, line=False)
        left = 0.35 + 0.072 * max((len(t) for t in tasks), default=4)
        axes = frame(canvas, top + 0.06, left=left)
        every: list[float] = []
        y, ticks = 0.0, []
        for task in tasks:
            ticks.append(y + (len(arms) - 1) / 2)
            for arm in arms:
                colour = styles[arm].colour
                for r in results.of(arm, task):
                    confirmed = r.kind == "confirmed"
                    axes.plot(
                        [r.score], [y], "o" if confirmed else "D", color=colour, markersize=4.6,
                        markerfacecolor=colour if confirmed else "none", alpha=0.75,
                    )  # fmt: skip
                scores = np.array([r.score for r in results.of(arm, task)])
                if scores.size:
                    every += scores.tolist()
                    estimate = t_interval(np.log(scores)).exp()
                    axes.plot([estimate.value] * 2, [y - 0.34, y + 0.34], color=INK, linewidth=1.6)
                    if scores.size > 2:
                        axes.plot(
                            [estimate.low, estimate.high], [y, y], color=colour, linewidth=1.2,
                            alpha=0.6, zorder=1.8,
                        )  # fmt: skip
                        every += [max(estimate.low, scores.min() / 4)]
                        every += [min(estimate.high, scores.max() * 4)]
                else:
                    axes.annotate(
                        "no result", (0.01, y), xycoords=("axes fraction", "data"), va="center",
                        fontsize=7.5, color=colour,
                    )  # fmt: skip
                y += 1
            y += 0.6
        axes.set_ylim(y - 1 + 0.2, -0.8)
        axes.set_yticks(ticks, list(tasks))
        axes.grid(visible=False, axis="y")
        if every:
            ratio_axis(axes, min(every), max(every), vertical=False)
        axes.set_xlabel("confirmed speedup over the baseline (log scale)")
        svg = to_svg(canvas, name, title, comparison.levels)
    return Figure(
        name,
        title,
        "Points: runs (open diamonds: the starting program's score). Upright mark: geometric mean "
        "over seeds; line: Student's 95 % interval over seeds on the logs (from 3 seeds on, cut at "
        "4 times beyond the points).",
        svg,
        480,
    )


def draw_profile(comparison: Comparison, results: Results) -> Figure:
    """The fraction of runs at or above each confirmed score."""
    name, title = "performance_profile", "Performance profile"
    styles = arm_styles(comparison.arm_names)
    scores = {arm: np.array([r.score for r in results.of(arm)]) for arm in styles}
    every = np.concatenate([s for s in scores.values() if s.size] or [np.ones(1)])
    low, high = float(every.min()) / 1.1, float(every.max()) * 1.1
    thresholds = np.exp(np.linspace(math.log(low), math.log(high), 400))
    with drawing(name, 4.7, 3.3) as canvas:
        axes = frame(canvas, legend_above(canvas, styles, 4.7) + 0.08, left=0.62)
        for arm, style in styles.items():
            if scores[arm].size:
                profile = performance_profile(scores[arm], thresholds)
                axes.plot(
                    thresholds, profile, color=style.colour, linestyle=style.dash, linewidth=1.8
                )
        ratio_axis(axes, low, high, vertical=False)
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("speedup threshold τ (log scale)")
        axes.set_ylabel("runs with confirmed score ≥ τ")
        svg = to_svg(canvas, name, title, comparison.levels)
    counts = ", ".join(f"{arm} {scores[arm].size}" for arm in styles)
    return Figure(
        name,
        title,
        f"Fraction of (task, seed) results at or above each speedup; n: {counts}.",
        svg,
    )


def draw_search(comparison: Comparison, results: Results) -> Figure:
    """Search score against confirmed score of the same programs."""
    name, title = "search_versus_confirmed", "Search score against confirmed score"
    styles = arm_styles(comparison.arm_names)
    with drawing(name, 4.7, 3.3) as canvas:
        axes = frame(canvas, legend_above(canvas, styles, 4.7, line=False) + 0.08, left=0.62)
        values: list[float] = []
        for arm, style in styles.items():
            found = [r for r in results.of(arm) if r.kind == "confirmed"]
            x, y = [r.search_score for r in found], [r.score for r in found]
            axes.plot(x, y, "o", color=style.colour, markersize=4.2, alpha=0.75)
            values += x + y
        low, high = min(values, default=0.5), max(values, default=2.0)
        ratio_axis(axes, low, high)
        ratio_axis(axes, low, high, vertical=False)
        ends = axes.get_xlim()
        axes.plot(ends, ends, color=MUTED, linewidth=0.8, zorder=1.5)
        axes.set_xlabel("search score (log scale)")
        axes.set_ylabel("confirmed score")
        svg = to_svg(canvas, name, title, comparison.levels)
    return Figure(
        name,
        title,
        "One point per confirmed run; on the line both agree, below it the search believed too "
        "much.",
        svg,
    )


def draw_heat_map(comparison: Comparison, workloads: pd.DataFrame) -> Figure:
    """Geometric-mean confirmed speedup per workload and arm."""
    name, title = "speedup_heat_map", "Speedup by workload"
    means = heat_values(workloads)
    rows = list(dict.fromkeys((t, w) for t, w, _ in means))
    arms = comparison.arm_names
    left = 0.3 + 0.068 * max((len(f"{t} / {w}") for t, w in rows), default=10)
    width = left + 0.2 + max(1.0, 0.09 * max(map(len, arms))) * len(arms)
    with drawing(name, width, 1.0 + 0.26 * max(1, len(rows))) as canvas:
        axes = frame(canvas, 0.36, left=left, bottom=0.3)
        for row, (task, workload) in enumerate(rows):
            for column, arm in enumerate(arms):
                value = means.get((task, workload, arm))
                if value is None:
                    continue
                axes.fill(
                    [column, column + 1, column + 1, column], [row, row, row + 1, row + 1],
                    color=heat_colour(value),
                )  # fmt: skip
                axes.text(
                    column + 0.5, row + 0.52, f"{value:.2f}×", ha="center", va="center",
                    color="#111213", fontsize=8,
                )  # fmt: skip
        axes.set_xlim(0, len(arms))
        axes.set_ylim(max(1, len(rows)), 0)
        axes.grid(visible=False)
        axes.xaxis.tick_top()
        axes.set_xticks([i + 0.5 for i in range(len(arms))], list(arms))
        axes.set_yticks([i + 0.5 for i in range(len(rows))], [f"{t} / {w}" for t, w in rows])
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        svg = to_svg(canvas, name, title, comparison.levels)
    return Figure(name, title, "", svg)


def heat_values(workloads: pd.DataFrame) -> dict[tuple[str, str, str], float]:
    """(task, workload, arm) -> geometric mean over seeds of the confirmed speedup."""
    logs: dict[tuple[str, str, str], list[float]] = {}
    columns = [workloads[name].tolist() for name in ("task", "workload", "arm", "speedup")]
    for task, workload, arm, speedup in zip(*columns, strict=True):
        logs.setdefault((task, workload, arm), []).append(math.log(speedup))
    return {key: math.exp(math.fsum(found) / len(found)) for key, found in logs.items()}

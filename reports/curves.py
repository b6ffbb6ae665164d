"""Best-so-far curves of the search score, against every axis of cost.

Per task one panel, and one over all tasks: every seed thin, the mean over seeds thick, the range
from the lowest to the highest seed as a band. Means are means of log scores, so geometric means.

Every run has the same budget of charges, and methods spend different numbers of calls and tokens
on a charge. So each arm ends elsewhere on those axes, and is drawn to its own end only: a line that
went on would look like a search that found nothing more, where there was none.

Covered: evaluations, LLM calls, tokens, dollars (where every price is known) and seconds (LLM plus
evaluation). Not covered: confirmed scores (a search score is no result); wall time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator

from reports.figure import (
    ArmStyle,
    Figure,
    arm_styles,
    drawing,
    frame,
    legend_above,
    ratio_axis,
    to_svg,
)
from reports.frames import Frames
from reports.manifest import Comparison
from reports.statistics import Floats, min_max_coverage

GRID_POINTS = 241
ALL_TASKS = "all tasks"


@dataclass(frozen=True)
class CostAxis:
    """What a curve is drawn against."""

    name: str
    label: str


AXES = (
    CostAxis("evaluations", "evaluations (charges)"),
    CostAxis("llm_calls", "LLM calls"),
    CostAxis("tokens", "tokens (prompt + completion)"),
    CostAxis("dollars", "dollars"),
    CostAxis("seconds", "seconds (LLM + evaluation)"),
)


@dataclass(frozen=True)
class Trajectory:
    """The log of the best score so far of one run, at its evaluations, and what had been spent.

    spent: per axis name, non-decreasing, as long as log_best. Starts at the first passing
    evaluation, usually the starting program.
    """

    task: str
    arm: str
    seed: int
    spent: dict[str, Floats]
    log_best: Floats

    def at(self, axis: str, grid: Floats) -> Floats:
        """log_best where `grid` has been spent; NaN before the first pass; held after the end."""
        index = np.searchsorted(self.spent[axis], grid, side="right") - 1
        return np.where(index >= 0, self.log_best[np.maximum(index, 0)], np.nan)


def trajectories(frames: Frames) -> list[Trajectory]:
    """One per run that has a passing evaluation."""
    table = frames.evaluations
    run = table["run"].to_numpy()
    score = table["score"].to_numpy(dtype=np.float64)
    tokens = table["prompt_tokens"] + table["completion_tokens"]
    seconds = table["llm_seconds"] + table["evaluation_seconds"]
    columns = {
        "evaluations": table["charge"], "llm_calls": table["llm_calls"], "tokens": tokens,
        "dollars": table["dollars"], "seconds": seconds,
    }  # fmt: skip
    spent = {name: column.to_numpy(dtype=np.float64) for name, column in columns.items()}
    found = []
    rows = zip(frames.runs["task"], frames.runs["arm"], frames.runs["seed"], strict=True)
    for number, (task, arm, seed) in enumerate(rows):
        start, end = np.searchsorted(run, [number, number + 1])
        best = np.fmax.accumulate(score[start:end]) if end > start else np.empty(0)
        passed = np.flatnonzero(np.isfinite(best))
        if not passed.size:
            continue
        first = start + passed[0]
        found.append(
            Trajectory(
                str(task),
                str(arm),
                int(seed),
                {k: np.maximum.accumulate(v[first:end]) for k, v in spent.items()},
                np.log(best[passed[0] :]),
            )
        )
    return found


def draw_curves(comparison: Comparison, frames: Frames) -> dict[str, list[Figure]]:
    """Per axis name: the panel over all tasks (if there are several), then one per task."""
    runs = trajectories(frames)
    panels: dict[str, list[Figure]] = {}
    for axis in AXES:
        usable = [t for t in runs if np.isfinite(t.spent[axis.name]).all()]
        if axis.name == "dollars" and (
            len(usable) < len(runs) or not any(t.spent["dollars"][-1] > 0 for t in runs)
        ):
            continue  # an unknown or absent price would make the curves incomparable
        figures = []
        if len(comparison.tasks) > 1:
            figures.append(_panel(comparison, axis, ALL_TASKS, usable))
        figures += [_panel(comparison, axis, task, usable) for task in comparison.tasks]
        panels[axis.name] = figures
    return panels


def _panel(comparison: Comparison, axis: CostAxis, task: str, runs: Sequence[Trajectory]) -> Figure:
    name = f"best_so_far_{axis.name}_{task.replace(' ', '_')}"
    title = f"{task}: best so far against {axis.label}"
    styles = arm_styles(comparison.arm_names)
    end = max((float(t.spent[axis.name][-1]) for t in runs), default=1.0) or 1.0
    if axis.name == "evaluations":
        grid = np.arange(0.0, end + 1)
    else:
        grid = np.linspace(0.0, end, GRID_POINTS)
    with drawing(name, 4.7, 3.3) as canvas:
        top = legend_above(canvas, styles, 4.7)
        axes = frame(canvas, top + 0.24)
        seen: list[Floats] = []
        for arm, style in styles.items():
            found = _seeds(comparison, task, [t for t in runs if t.arm == arm])
            if not found:
                continue
            ends = [max(float(t.spent[axis.name][-1]) for t in seed) for seed in found]
            spent = np.unique([*grid[grid < max(ends)], *ends])
            logs = np.array([np.mean([t.at(axis.name, spent) for t in s], axis=0) for s in found])
            seen.append(logs)
            _thin(axes, spent, np.exp(logs), ends, style.colour)
            _mean_and_band(axes, spent, np.exp(logs), np.exp(logs.mean(axis=0)), style)
        axes.set_xlim(0, end * 1.01)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=end > 6))
        if axis.name == "tokens":
            axes.xaxis.set_major_formatter(EngFormatter())  # 200 k: six digits run into each other
        axes.set_xlabel(axis.label)
        axes.set_ylabel("search speedup (log scale)")
        axes.set_title(task)
        if seen:
            every = np.exp(np.concatenate([s.ravel() for s in seen]))
            ratio_axis(axes, float(np.nanmin(every)), float(np.nanmax(every)))
        else:
            axes.text(0.5, 0.5, "no passing evaluation", ha="center", transform=axes.transAxes)
        text = to_svg(canvas, name, title, comparison.levels)
    return Figure(name, title, "", text)


def _thin(axes: Axes, grid: Floats, scores: Floats, ends: Sequence[float], colour: str) -> None:
    """Every seed up to its end, in one artist with gaps: much faster than one artist each."""
    gap = np.array([np.nan])
    x, y = [], []
    for curve, end in zip(scores, ends, strict=True):
        inside = grid <= end
        corners, (values,) = _corners(grid[inside], curve[inside])
        x += [corners, gap]
        y += [values, gap]
    axes.step(
        np.concatenate(x), np.concatenate(y), where="post", color=colour, linewidth=0.6, alpha=0.55
    )


def _mean_and_band(axes: Axes, grid: Floats, scores: Floats, mean: Floats, style: ArmStyle) -> None:
    x, (low, high) = _corners(grid, scores.min(axis=0), scores.max(axis=0))
    axes.fill_between(x, low, high, step="post", color=style.colour, alpha=0.12, linewidth=0)
    x, (y,) = _corners(grid, mean)
    axes.step(x, y, where="post", color=style.colour, linewidth=2.0, linestyle=style.dash, zorder=3)
    axes.plot(x[-1:], y[-1:], "o", color=style.colour, markersize=4.2, clip_on=False, zorder=3)


def _corners(grid: Floats, *curves: Floats) -> tuple[Floats, list[Floats]]:
    """The points where step curves change, and the end: the same line from far fewer points."""
    steps = np.any([np.diff(c, prepend=np.nan) != 0 for c in curves], axis=0)
    kept = steps & np.all([np.isfinite(c) for c in curves], axis=0)
    kept[-1] = True
    return grid[kept], [c[kept] for c in curves]


def _seeds(comparison: Comparison, task: str, runs: Sequence[Trajectory]) -> list[list[Trajectory]]:
    """The runs of each seed on the task; over all tasks, of the seeds that ran every task."""
    by_seed: dict[int, list[Trajectory]] = {}
    for t in runs:
        if task in (ALL_TASKS, t.task):
            by_seed.setdefault(t.seed, []).append(t)
    wanted = len(comparison.tasks) if task == ALL_TASKS else 1
    return [found for found in by_seed.values() if len(found) == wanted]


def caption(comparison: Comparison) -> str:
    """How the curves were made, with the band named."""
    n = len(comparison.seeds)
    band = (
        f"band: lowest to highest of {n} seeds (covers the median with probability "
        f"{min_max_coverage(n):.2f})"
        if n > 1
        else "one seed, so no band"
    )
    return (
        "Best search score so far, from the starting program on. Thin: each seed; thick: mean of "
        f"the log scores over seeds, a geometric mean; {band}. “{ALL_TASKS}”: mean over tasks of "
        "the log scores, for the seeds that ran every task. The budget counts charges, so against "
        "calls, tokens, dollars and seconds each arm ends elsewhere. Its curve stops at the dot, "
        "where its last run ended: it spent no more, and beyond the dot it cannot be compared with "
        "arms that went on. A run that ended before the dot counts with its last score until "
        "there. Search scores are not results."
    )

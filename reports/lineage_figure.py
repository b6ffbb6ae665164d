"""The figure of a population's lineage, one per run.

Every candidate that passed is a point at its charge and search score, in the colour of the island
that it was proposed on. Thin lines lead from parent to child, a strong one along the ancestors of
the best. Failures stand on a strip below, where a program that failed may be a parent too.
Triangles are migrations, in the receiving island's colour; rings mark the archive as last
recorded; ticks on the upper edge are summaries.

Covered: choosing the runs, drawing, the caption. Not covered: reading the log (lineage.py).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from harness.types import Status
from reports.figure import (
    INK,
    MUTED,
    PALETTE,
    RULE,
    Figure,
    drawing,
    figure_name,
    frame,
    legend,
    ratio_axis,
    to_svg,
)
from reports.lineage import Lineage, Migration, Node, read_lineage
from reports.manifest import Comparison
from reports.marks import Marks, Shape, handle
from reports.records import chosen_runs, run_label

LEFT, BOTTOM = 1.0, 0.56  # inches, as all of these
WIDTH, WIDTH_MOST, WIDTH_PER_CHARGE = 9.6, 12.8, 0.043
SCORES_HEIGHT, HEAD_HEIGHT, LANE_HEIGHT = 3.3, 0.24, 0.2
BESIDE = 0.07  # between marks of one place
COLOURS = PALETTE[:7]  # the eighth is a grey, as is what belongs to no island
SHAPES: tuple[Shape, ...] = ("o", "s", "D", "P")  # the next one every seven islands
FAILED, NO_PROGRAM = "failed", "no program"  # the lanes of the strip


def draw_lineages(comparison: Comparison, folder: Path, runs: pd.DataFrame) -> list[Figure]:
    """One figure per chosen run, in the order of the runs."""
    figures = []
    for row in chosen_runs(runs, "lineages"):
        lineage = read_lineage(folder / str(runs["folder"].iloc[row]))
        if lineage.nodes:
            figures.append(_draw(comparison, lineage, run_label(runs, row)))
    return figures


@dataclass(frozen=True)
class _Scale:
    """Places on the axes. lanes: the height of each lane of the strip; top: of the upper edge;
    inch: how many charges an inch holds."""

    lanes: dict[str, float]
    top: float
    inch: float

    def place(self, node: Node) -> tuple[float, float]:
        return node.charge, self.lanes[_lane(node)] if node.score is None else node.score


def _draw(comparison: Comparison, lineage: Lineage, label: str) -> Figure:
    name, title = figure_name("lineage", label), f"Lineage: {label}"
    lanes = [lane for lane in (FAILED, NO_PROGRAM) if lane in map(_lane, lineage.nodes)]
    strip = LANE_HEIGHT * (len(lanes) + 0.4) if lanes else 0.0
    height = HEAD_HEIGHT + SCORES_HEIGHT + strip
    width = min(WIDTH_MOST, max(WIDTH, WIDTH_PER_CHARGE * len(lineage.nodes)))
    with drawing(name, width, height) as canvas:
        marks = Marks()
        top = legend(canvas, _handles(lineage), width) + 0.04
        canvas.set_size_inches(width, top + height + BOTTOM)
        axes = frame(canvas, top, left=LEFT, bottom=BOTTOM)
        scale = _scale(axes, lineage, lanes, strip, width - LEFT)
        _mark_nodes(marks, lineage, scale)
        _mark_events(marks, lineage, scale)
        marks.draw(axes)
        _name_best(axes, lineage)
        svg = to_svg(canvas, name, title, comparison.levels)
    return Figure(name, title, _caption(lineage), svg, round(85 * width))


def _lane(node: Node) -> str:
    """Which lane of the strip a charge belongs to; empty if it passed."""
    if node.score is not None:
        return ""
    return NO_PROGRAM if node.status == Status.NO_CODE.value else FAILED


def _look(island: int | None) -> tuple[str, Shape]:
    """Colour and shape of an island's points."""
    if island is None:
        return MUTED, "o"
    return COLOURS[island % len(COLOURS)], SHAPES[island // len(COLOURS) % len(SHAPES)]


def _scale(axes: Axes, lineage: Lineage, lanes: list[str], strip: float, across: float) -> _Scale:
    """Set up both axes: scores on a log scale above, the strip of `strip` inches below them.
    across: the width in inches."""
    scores = [node.score for node in lineage.nodes if node.score is not None]
    ratio_axis(axes, min(scores, default=1.0), max(scores, default=1.0))
    low, high = axes.get_ylim()
    inch = (high / low) ** (1 / SCORES_HEIGHT)
    places = {lane: low / inch ** (LANE_HEIGHT * (i + 0.7)) for i, lane in enumerate(lanes)}
    bottom, top = low / inch**strip, high * inch**HEAD_HEIGHT
    ticks = [float(tick) for tick in axes.get_yticks()]
    axes.set_yticks([*ticks, *places.values()], [*(f"{tick:g}×" for tick in ticks), *lanes])
    axes.set_ylim(bottom, top)
    axes.axhspan(bottom, low, color=RULE, alpha=0.4, linewidth=0)
    last = lineage.nodes[-1].charge
    margin = max(0.3, 0.012 * last)
    axes.set_xlim(-margin, last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True, steps=[1, 2, 5, 10]))
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("charge (0: the starting program)")
    axes.set_ylabel("search speedup (log scale)")
    return _Scale(places, top, (last + 2 * margin) / across)


def _mark_nodes(marks: Marks, lineage: Lineage, scale: _Scale) -> None:
    start, *proposed = lineage.nodes
    for node in proposed:
        colour, shape = _look(node.island)
        lane = _lane(node)
        failure: Shape = "_" if lane == NO_PROGRAM else "x"
        marks.point(failure if lane else shape, colour, *scale.place(node))
        if not lane and node.parent is not None:
            ends = [scale.place(lineage.nodes[node.parent]), scale.place(node)]
            marks.line(ends, colour, 0.8, 0.45)
    marks.point("D", INK, *scale.place(start))
    for child, parent in pairwise(lineage.descent):
        marks.line([scale.place(parent), scale.place(child)], INK, 1.7)


def _mark_events(marks: Marks, lineage: Lineage, scale: _Scale) -> None:
    for charge in lineage.archive:
        if lineage.nodes[charge].score is not None:
            marks.point("ring", INK, *scale.place(lineage.nodes[charge]))
    beside: Counter[tuple[int, int]] = Counter()
    for migration, source in _drawn(lineage):
        place = migration.charge, source.charge
        x = migration.charge + beside[place] * BESIDE * scale.inch
        marks.point("v", _look(migration.island)[0], x, scale.place(source)[1])
        beside[place] += 1
    for charge in lineage.summaries:
        marks.point("|", INK, charge, scale.top)


def _drawn(lineage: Lineage) -> list[tuple[Migration, Node]]:
    """The migrations of programs with a score, with the charge that made the program."""
    nodes = [None if m.source is None else lineage.nodes[m.source] for m in lineage.migrations]
    found = zip(lineage.migrations, nodes, strict=True)
    return [(m, node) for m, node in found if node is not None and node.score is not None]


def _name_best(axes: Axes, lineage: Lineage) -> None:
    """The highest score beside its point, or that there is none."""
    if not lineage.descent:
        axes.text(0.5, 0.6, "no program passed", ha="center", transform=axes.transAxes)
        return
    best, last = lineage.descent[0], lineage.nodes[-1].charge
    places = ((0.05, "left"), (0.95, "center"), (1.0, "right"))
    side = next(side for end, side in places if best.charge <= end * last)
    axes.annotate(
        f"best {best.score:.2f}×", (best.charge, best.score), xytext=(0, 7),
        textcoords="offset points", ha=side, fontsize=7.5, fontweight="bold", color=INK, zorder=5,
    )  # fmt: skip


def _handles(lineage: Lineage) -> list[Line2D]:
    """The legend: only what is drawn."""
    proposed, moved = lineage.nodes[1:], _drawn(lineage)
    lanes = {_lane(node) for node in proposed}
    islands = {node.island for node in proposed} | {migration.island for migration, _ in moved}
    handles = []
    if islands != {None}:
        for island in sorted(islands, key=lambda number: (number is None, number)):
            colour, shape = _look(island)
            name = "no island" if island is None else f"island {island}"
            handles.append(handle(shape, colour, name))
    elif "" in lanes:
        handles.append(handle("o", MUTED, "passed"))
    handles.append(handle("D", INK, "starting program"))
    if any(node.score is not None and node.parent is not None for node in proposed):
        handles.append(Line2D([], [], color=MUTED, linewidth=0.8, label="parent to child"))
    if len(lineage.descent) > 1:
        handles.append(Line2D([], [], color=INK, linewidth=1.7, label="ancestors of the best"))
    kept = any(lineage.nodes[charge].score is not None for charge in lineage.archive)
    others: tuple[tuple[object, Shape, str, str], ...] = (
        (FAILED in lanes, "x", MUTED, FAILED),
        (NO_PROGRAM in lanes, "_", MUTED, NO_PROGRAM),
        (moved, "v", MUTED, "migration"),
        (kept, "ring", INK, "archive at the end"),
        (lineage.summaries, "|", INK, "summary"),
    )
    return handles + [handle(shape, c, text) for occurs, shape, c, text in others if occurs]


def _caption(lineage: Lineage) -> str:
    proposed = lineage.nodes[1:]
    passed = sum(node.score is not None for node in proposed)
    parts = [
        f"{_count(len(proposed), 'charge')}, {passed or 'none'} passed; "
        f"{_count(lineage.islands, 'island')}, {_count(len(lineage.migrations), 'migration')}, "
        f"{_count(len(lineage.summaries), 'summary', 'summaries')}."
    ]
    if lineage.archived_at is None:
        parts.append("No population was recorded.")
    else:
        members = _count(lineage.archived, "program")
        if lineage.different < lineage.archived:
            members += f", {lineage.different} different"
        parts.append(f"Archive at the end (after charge {lineage.archived_at}): {members}.")
    parts += _descent_words(lineage)
    hidden = len(lineage.migrations) - len(_drawn(lineage))
    if hidden:
        parts.append(f"{_count(hidden, 'migration')} of programs without a score not drawn.")
    if any(node.island is not None for node in proposed):
        parts.append(
            "Colour: the island that a program was proposed on; of a migration, the target."
        )
    parts.append("Scores are search scores.")
    return " ".join(parts)


def _descent_words(lineage: Lineage) -> list[str]:
    """Where the best comes from, in at most one sentence."""
    if not lineage.descent:
        return []
    best, oldest = lineage.descent[0], lineage.descent[-1]
    if best.charge == 0:
        return ["In the search no program scored above the start."]
    steps = _count(len(lineage.descent) - 1, "step")
    if oldest.charge == 0:
        return [f"The best, charge {best.charge}, is {steps} from the start."]
    if oldest is best:
        return [f"The parent of the best, charge {best.charge}, is not in the log."]
    return [
        f"The ancestors of the best, charge {best.charge}, are known back to charge "
        f"{oldest.charge}."
    ]


def _count(number: int, one: str, several: str = "") -> str:
    """no charges, 1 charge, 2 charges."""
    return f"{number or 'no'} {one if number == 1 else several or one + 's'}"

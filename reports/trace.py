"""K-Search's search trace: the nodes of the world model over its rounds, one figure per run.

Each node has a lane, children below their parent. It starts where it was inserted, is orange while
Open (with its priority V), blue once Closed (with its score), and ends in a cross where it was
pruned; triangles mark updates, rings mark selections, a tick on the upper edge a failed update.

Covered: `world_model` and `selection` records of any method that writes them in this form, inline
or in a blob. Not covered: the LLM's rationale (in the blobs of its replies).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure as Drawing

from harness.types import JsonObject
from reports.figure import (
    CLOSED,
    INK,
    MUTED,
    OPEN,
    PRUNED,
    RULE,
    Figure,
    drawing,
    figure_name,
    frame,
    to_svg,
)
from reports.frames import events
from reports.manifest import Comparison
from reports.marks import Marks, Shape, handle
from reports.records import chosen_runs, explained, record_data, run_label

LANES = 60  # nodes drawn at most; the never selected Open and pruned ones go first


@dataclass(frozen=True)
class NodeState:
    """One node in one version of the world model."""

    id: str
    parent: str | None
    state: str
    title: str
    priority: float | None
    score: float | None


@dataclass(frozen=True)
class Version:
    """The world model after one round. edits: (op, node id)."""

    round: int
    reason: str
    nodes: tuple[NodeState, ...]
    edits: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Trace:
    """Every version of one run's world model, and its selections as (round, node id)."""

    versions: tuple[Version, ...]
    selections: tuple[tuple[int, str], ...]


def read_trace(folder: Path) -> Trace:
    """The trace of the run in `folder`. Raises LogError for a record of another form."""
    versions, selections = [], []
    for line, event in events(folder / "events.jsonl"):
        if event is None or event["kind"] != "record":
            continue
        with explained(folder, line, event):
            if event["record"] == "world_model":
                versions.append(_version(record_data(folder, event)))
            elif event["record"] == "selection":
                data = record_data(folder, event)
                selections.append((int(data["round"]), str(data["node"])))
    return Trace(tuple(versions), tuple(selections))


def _version(data: JsonObject) -> Version:
    nodes = tuple(
        NodeState(n["id"], n["parent"], n["state"], n["title"], n["priority"], n["score"])
        for n in data["nodes"]
    )
    edits = tuple((e["op"], e["node"]) for e in data["edits"])
    return Version(int(data["round"]), data["reason"], nodes, edits)


def draw_traces(comparison: Comparison, folder: Path, runs: pd.DataFrame) -> list[Figure]:
    """One figure per chosen run, in the order of the runs."""
    figures = []
    for row in chosen_runs(runs, "world_models"):
        trace = read_trace(folder / str(runs["folder"].iloc[row]))
        if trace.versions:
            figures.append(_draw(comparison, trace, run_label(runs, row)))
    return figures


def _draw(comparison: Comparison, trace: Trace, label: str) -> Figure:
    name = figure_name("trace", label)
    title = f"Search trace: {label}"
    shown, left_out = _lanes(trace)
    lanes = {node: lane for lane, node in enumerate(shown)}
    last = max(v.round for v in trace.versions)
    titles = {n.id: n.title for v in trace.versions for n in v.nodes}
    height = 1.25 + 0.25 * len(lanes)
    width = min(16.0, max(9.6, 4.4 + 0.44 * last))  # room for one note per round
    with drawing(name, width, height) as canvas:
        _legend(canvas)
        axes = frame(canvas, 0.5, left=3.0)
        marks = Marks()
        born: dict[str, int] = {}
        for version in trace.versions:
            for state in version.nodes:
                if state.id not in born and state.parent in lanes and state.id in lanes:
                    x, (top, end) = version.round, (lanes[state.parent], lanes[state.id])
                    marks.line([(x, top), (x, end)], RULE, 1.0)
                born.setdefault(state.id, version.round)
            if version.reason.startswith("failed"):
                marks.point("|", INK, version.round, -0.9)
        for node, lane in lanes.items():
            _lane(marks, trace, node, lane, last)
        for turn, node in trace.selections:
            if node in lanes:
                marks.point("ring", INK, turn, lanes[node])
        marks.draw(axes)
        axes.set_ylim(len(lanes) - 0.3, -0.9)
        axes.set_xlim(-0.25, last + 0.9)
        axes.set_yticks(
            range(len(lanes)), [f"{_short(titles[node])}  {node}" for node in shown], fontsize=7.5
        )
        axes.set_xticks(range(0, last + 1, max(1, -(-last // 20))))
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("round (one world-model update each)")
        svg = to_svg(canvas, name, title, comparison.levels)
    rest = f" {left_out} never selected nodes are not drawn." if left_out else ""
    return Figure(
        name,
        title,
        f"{len(titles)} nodes over {last} rounds.{rest} V: priority given by the model; scores are "
        "search scores.",
        svg,
        round(85 * width),
    )


def _lanes(trace: Trace) -> tuple[list[str], int]:
    """Node ids in tree order (children below their parent), and how many were left out."""
    parents: dict[str, str | None] = {}
    for version in trace.versions:
        for state in version.nodes:
            parents.setdefault(state.id, state.parent)
    keep = set(parents)
    if len(parents) > LANES:
        closed = {n.id for v in trace.versions for n in v.nodes if n.state == "closed"}
        needed = list(dict.fromkeys([*closed, *(node for _, node in trace.selections)]))
        keep = set(sorted(needed, key=list(parents).index)[:LANES])
        keep |= set([node for node in parents if node not in keep][: LANES - len(keep)])
    children: dict[str | None, list[str]] = {}
    for node, parent in parents.items():
        children.setdefault(parent if parent in parents else None, []).append(node)
    order, stack = [], list(reversed(children.get(None, [])))
    while stack:
        node = stack.pop()
        if node in keep:
            order.append(node)
        stack.extend(reversed(children.get(node, [])))
    return order, len(parents) - len(order)


def _lane(marks: Marks, trace: Trace, node: str, lane: int, last: int) -> None:
    """One node's life: a bar per stretch of rounds in one state, with what happened on it."""
    colours = {"open": OPEN, "closed": CLOSED}
    history = [(v.round, n) for v in trace.versions for n in v.nodes if n.id == node]
    ends = [*(turn for turn, _ in history[1:]), last + 0.4]
    priority: float | None = None
    before = ""
    beside = 0.02 * max(1, last) ** 0.5 + 0.03, 0.22  # a note's place by its mark, in data units
    for (x, state), end in zip(history, ends, strict=True):
        place = x + beside[0], lane - beside[1]
        if state.state == "pruned":
            if before != "pruned":
                marks.point("x", PRUNED, x, lane)
        else:
            width = 3.4 if state.state == "closed" else 2.2
            marks.line([(x, lane), (end, lane)], colours.get(state.state, MUTED), width)
        if state.state == "closed" and before != "closed":
            marks.point("o", CLOSED, x, lane)
            if state.score is not None:
                marks.note(*place, f"{state.score:.2f}×", CLOSED)
        elif state.state == "open" and (state.priority != priority or not before):
            marks.point("^" if before == "open" else "s", OPEN, x, lane)
            if state.priority is not None:
                marks.note(*place, f"V {state.priority:.2f}", OPEN)
        priority, before = state.priority, state.state


def _legend(canvas: Drawing) -> None:
    entries: Sequence[tuple[Shape, str, str]] = (
        ("o", CLOSED, "closed (score)"),
        ("s", OPEN, "inserted, open (V)"),
        ("^", OPEN, "updated"),
        ("x", PRUNED, "pruned"),
        ("|", INK, "failed update"),
        ("ring", INK, "selected"),
    )
    canvas.legend(
        handles=[handle(*entry) for entry in entries], loc="upper left", bbox_to_anchor=(0, 1),
        ncols=6, columnspacing=1.2, handletextpad=0.2,
    )  # fmt: skip


def _short(title: str) -> str:
    return title if len(title) <= 36 else title[:35] + "…"

"""K-Search's search trace: the nodes of the world model over its rounds, one figure per run.

Each node has a lane, children below their parent. It starts where it was inserted, is orange while
Open (with its priority V), blue once Closed (with its score), and ends in a cross where it was
pruned; triangles mark updates, rings mark selections, a tick on the upper edge a failed update.

Covered: `world_model` and `selection` records of any method that writes them in this form, inline
or in a blob. Not covered: the LLM's rationale (in the blobs of its replies).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

from harness.errors import LogError
from harness.types import JsonObject
from reports.figure import CLOSED, INK, MUTED, OPEN, PRUNED, RULE, Figure, drawing, frame, to_svg
from reports.frames import events
from reports.manifest import Comparison

TRACES = 12  # figures at most; with more runs: the first seed of each task and arm, in order
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


def chosen_runs(runs: pd.DataFrame) -> list[int]:
    """Rows of the run frame whose trace is drawn."""
    rows = [i for i, count in enumerate(runs["world_models"].tolist()) if count]
    if len(rows) <= TRACES:
        return rows
    first: dict[tuple[str, str], int] = {}
    tasks, arms = runs["task"].tolist(), runs["arm"].tolist()
    for row in rows:
        first.setdefault((tasks[row], arms[row]), row)
    return list(first.values())[:TRACES]


def read_trace(folder: Path) -> Trace:
    """The trace of the run in `folder`. Raises LogError for a record of another form."""
    versions, selections = [], []
    for line, event in events(folder / "events.jsonl"):
        if event is None or event["kind"] != "record":
            continue
        try:
            if event["record"] == "world_model":
                versions.append(_version(_data(folder, event)))
            elif event["record"] == "selection":
                data = _data(folder, event)
                selections.append((int(data["round"]), str(data["node"])))
        except (KeyError, TypeError, ValueError, OSError, EOFError) as error:
            raise LogError(
                f"{folder / 'events.jsonl'}, line {line + 1}: the {event.get('record')} record "
                f"cannot be read ({error!r}). Expected the form in docs/architecture.md, with its "
                "blob beside the log."
            ) from error
    return Trace(tuple(versions), tuple(selections))


def _data(folder: Path, event: JsonObject) -> JsonObject:
    if event["data"] is not None:
        return dict(event["data"])
    name = event["blob"]
    packed = (folder / "blobs" / name[:2] / f"{name}.gz").read_bytes()
    return dict(json.loads(gzip.decompress(packed)))


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
    for row in chosen_runs(runs):
        run = runs.iloc[row]
        trace = read_trace(folder / str(run["folder"]))
        if trace.versions:
            label = f"{run['task']}, {run['arm']}, seed {run['seed']}"
            figures.append(_draw(comparison, trace, label))
    return figures


def _draw(comparison: Comparison, trace: Trace, label: str) -> Figure:
    name = "trace_" + "".join(c if c.isalnum() or c in "._+@=-" else "_" for c in label)
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
        marks = _Marks()
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


class _Marks:
    """Everything on the lanes, gathered by look: one artist per look draws ten times faster."""

    _SIZES: ClassVar = {"o": 5.5, "s": 4.5, "^": 4.5, "x": 6.0, "|": 7.0, "ring": 9.0}

    def __init__(self) -> None:
        self._lines: dict[tuple[str, float], list[list[tuple[float, float]]]] = {}
        self._points: dict[tuple[str, str], list[tuple[float, float]]] = {}
        self._notes: list[tuple[float, float, str, str]] = []

    def line(self, ends: list[tuple[float, float]], colour: str, width: float) -> None:
        self._lines.setdefault((colour, width), []).append(ends)

    def point(self, marker: str, colour: str, x: float, y: float) -> None:
        self._points.setdefault((marker, colour), []).append((x, y))

    def note(self, x: float, y: float, text: str, colour: str) -> None:
        self._notes.append((x, y, text, colour))

    def draw(self, axes: Axes) -> None:
        for (colour, width), ends in self._lines.items():
            order = 1.0 if colour == RULE else 2.0
            axes.add_collection(LineCollection(ends, colors=colour, linewidths=width, zorder=order))
        for (marker, colour), places in self._points.items():
            ring = marker == "ring"
            axes.plot(
                [x for x, _ in places],
                [y for _, y in places],
                "o" if ring else marker,
                color=colour,
                markersize=self._SIZES[marker],
                markerfacecolor="none" if ring else colour,
                markeredgewidth=0.9 if ring else 1.4 if marker in "x|" else 0,
                clip_on=False,
                zorder=4 if ring else 3,
            )
        for x, y, text, colour in self._notes:
            axes.text(x, y, text, fontsize=6.8, color=colour)


def _lane(marks: _Marks, trace: Trace, node: str, lane: int, last: int) -> None:
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
    entries: Sequence[tuple[str, str, str]] = (
        ("o", CLOSED, "closed (score)"),
        ("s", OPEN, "inserted, open (V)"),
        ("^", OPEN, "updated"),
        ("x", PRUNED, "pruned"),
        ("|", INK, "failed update"),
    )
    handles = [
        Line2D([], [], color=c, marker=m, linestyle="none", markersize=6, label=text)
        for m, c, text in entries
    ]
    ring = Line2D(
        [], [], color=INK, marker="o", markerfacecolor="none", linestyle="none", markersize=8,
        label="selected",
    )  # fmt: skip
    canvas.legend(
        handles=[*handles, ring], loc="upper left", bbox_to_anchor=(0, 1), ncols=6,
        columnspacing=1.2, handletextpad=0.2,
    )  # fmt: skip


def _short(title: str) -> str:
    return title if len(title) <= 36 else title[:35] + "…"

"""A population's lineage, from a run's log: which program came from which, charge by charge.

Covered: `lineage`, `population`, `migration` and `summary` records of any method that writes them,
inline or in a blob; of the populations the last one alone is opened. A parent that was proposed
several times is meant as last proposed before its child. Not covered: inspirations and operators,
the text of a summary, how a population changed; drawing (lineage_figure.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from harness.types import JsonObject
from reports.frames import events
from reports.records import explained, record_data

T = TypeVar("T")


@dataclass(frozen=True)
class Node:
    """One charge; charge 0 is the starting program. score: None unless it passed. parent: the
    charge of the parent, None where it has none or the log does not know it."""

    charge: int
    status: str
    score: float | None
    island: int | None
    parent: int | None


@dataclass(frozen=True)
class Migration:
    """A program's copy into another island. source: the charge at which it was last proposed until
    then, None where the log does not know it."""

    charge: int
    source: int | None
    island: int


@dataclass(frozen=True)
class Lineage:
    """What one run's log says of its population.

    nodes: by charge. summaries: their charges. islands: how many there are. archive: charges of the
    last recorded members, as far as the log knows them; archived: how many there were,
    `different` without copies, after charge archived_at (None: no population was recorded).
    """

    nodes: tuple[Node, ...]
    migrations: tuple[Migration, ...]
    summaries: tuple[int, ...]
    islands: int
    archive: tuple[int, ...] = ()
    archived: int = 0
    different: int = 0
    archived_at: int | None = None

    def score(self, charge: int | None) -> float | None:
        return None if charge is None else self.nodes[charge].score

    @property
    def descent(self) -> tuple[Node, ...]:
        """The first of the highest search score, its parent, that one's parent and so on, as far
        as the log knows them; empty if nothing passed."""
        passed = [node for node in self.nodes if node.score is not None]
        if not passed:
            return ()
        line = [max(passed, key=lambda node: (node.score or 0.0, -node.charge))]
        while line[-1].parent is not None:
            line.append(self.nodes[line[-1].parent])
        return tuple(line)


def read_lineage(folder: Path) -> Lineage:
    """The lineage of the run in `folder`. Raises LogError for a record of another form."""
    nodes: list[Node] = []
    latest: dict[str | None, int] = {}  # the last charge of each candidate so far
    told: dict[int, tuple[int | None, int | None]] = {}  # island and parent by charge
    migrations, summaries = [], []
    population: tuple[int, JsonObject] | None = None
    for line, event in events(folder / "events.jsonl"):
        if event is None:
            continue
        with explained(folder, line, event):
            kind = event["record"] if event["kind"] == "record" else event["kind"]
            if kind == "evaluation":
                charge, candidate = int(event["charge"]), event["candidate"]
                if charge != len(nodes):
                    raise ValueError(f"charge {charge}, expected {len(nodes)}")
                island, parent = told.get(charge, (None, latest.get(event["parent"])))
                nodes.append(Node(charge, event["status"], event["score"], island, parent))
                if candidate is not None:
                    latest[candidate] = charge
            elif kind == "lineage":
                data = record_data(folder, event)
                parent = latest.get(_optional(data, "parent", str))
                told[int(data["charge"])] = _optional(data, "island", int), parent
            elif kind == "migration":
                data = record_data(folder, event)
                source = latest.get(data["candidate"])
                migrations.append(Migration(int(event["charge"]), source, int(data["to"])))
            elif kind == "summary":
                summaries.append(int(event["charge"]))
            elif kind == "population":
                population = line, event
    islands = len({node.island for node in nodes} - {None})
    found = Lineage(tuple(nodes), tuple(migrations), tuple(summaries), islands)
    if population is None:
        return found
    line, event = population
    with explained(folder, line, event):
        data = record_data(folder, event)
        return replace(
            found,
            islands=max(islands, len(data["islands"])),
            archive=tuple(latest[member] for member in data["archive"] if member in latest),
            archived=len(data["archive"]),
            different=len(set(data["archive"])),
            archived_at=int(event["charge"]),
        )


def _optional(data: JsonObject, name: str, kind: type[T]) -> T | None:
    """A field that may be null. Raises KeyError or TypeError."""
    value: T | None = data[name]
    if value is not None and type(value) is not kind:
        raise TypeError(f"{name} is {value!r}, expected {kind.__name__} or null")
    return value

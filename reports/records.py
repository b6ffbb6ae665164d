"""What methods wrote into their run logs for a figure: which runs are drawn, and reading records.

Covered: the choice of runs, a record's data inline or in its blob, and damage as a LogError with
file and line. Not covered: what a record means (trace.py, lineage.py).
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from harness.errors import LogError
from harness.types import JsonObject

FIGURES = 12  # of one kind at most; with more runs: the first seed of each task and arm, in order


def chosen_runs(runs: pd.DataFrame, column: str) -> list[int]:
    """Rows of the run frame that are drawn. column: how many records of the kind each run has."""
    rows = [i for i, count in enumerate(runs[column].tolist()) if count]
    if len(rows) <= FIGURES:
        return rows
    first: dict[tuple[str, str], int] = {}
    tasks, arms = runs["task"].tolist(), runs["arm"].tolist()
    for row in rows:
        first.setdefault((tasks[row], arms[row]), row)
    return list(first.values())[:FIGURES]


def run_label(runs: pd.DataFrame, row: int) -> str:
    """What the figure of a run is called."""
    run = runs.iloc[row]
    return f"{run['task']}, {run['arm']}, seed {run['seed']}"


@contextmanager
def explained(folder: Path, line: int, event: JsonObject) -> Iterator[None]:
    """Whatever is wrong with the event on this line (from 0) of the run's log is a LogError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, OSError, EOFError, zlib.error) as error:
        kind = event["kind"]
        what = f"{event.get('record')} {kind}" if kind == "record" else f"{kind} event"
        raise LogError(
            f"{folder / 'events.jsonl'}, line {line + 1}: the {what} cannot be read ({error!r}). "
            "Expected the form in docs/architecture.md, with its blob beside the log."
        ) from error


def record_data(folder: Path, event: JsonObject) -> JsonObject:
    """What the method recorded. Raises what `explained` explains."""
    if event["data"] is not None:
        return dict(event["data"])
    name = event["blob"]
    packed = (folder / "blobs" / name[:2] / f"{name}.gz").read_bytes()
    return dict(json.loads(gzip.decompress(packed)))

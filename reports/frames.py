"""Every run's events as two compact frames: one row per run, one row per evaluation.

Files are streamed line by line, one run at a time, into typed columns, so that memory grows with
the number of evaluations (about 150 bytes each), not with the size of the logs.

Covered: manifests and events of format 1; gaps in `i`, unreadable lines and missing fields are
LogErrors; a torn last line is dropped and noted. Not covered: blobs and samples (never opened
here); `t` (in no table); the per-workload times of the search (results come from confirmations).
"""

from __future__ import annotations

import contextlib
import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from harness.attempt import METHOD_RAISED
from harness.errors import LogError
from harness.types import JsonObject, Status
from reports.manifest import read_manifest

STATUSES: tuple[str, ...] = tuple(s.value for s in Status if s is not Status.INFRA_ERROR)

_FLOATS = (
    "score", "score_low", "score_high", "arithmetic_mean",
    "dollars", "llm_seconds", "evaluation_seconds",
)  # fmt: skip
_INTEGERS = ("charge", "llm_calls", "prompt_tokens", "completion_tokens")
_NAN = float("nan")


@dataclass(frozen=True)
class Frames:
    """runs: one row per run, ordered by (task, arm, seed) as the comparison lists them.

    Columns of runs: task, arm, seed (labels); folder (relative, POSIX); state ("finished" |
    "paused" | "failed" | "interrupted"), reason; charges, llm_calls, prompt_tokens,
    completion_tokens, reasoning_tokens (int64); dollars (NaN: unknown), llm_seconds,
    build_seconds, device_seconds, evaluation_seconds (float64); cached (evaluations answered by
    the cache), attempts (int64); world_models, lineages: records of these kinds (int64); estimated,
    torn (bool); abandoned, abandoned_llm_calls, abandoned_dollars: attempts that were put aside
    when the run started over, and what they had cost (in none of the other columns).

    Columns of evaluations: run (row of runs), charge (0 = the starting program), candidate,
    status, the score and its interval, arithmetic_mean (NaN unless passed), and the totals so far:
    llm_calls, prompt_tokens, completion_tokens, dollars, llm_seconds, evaluation_seconds.
    """

    runs: pd.DataFrame
    evaluations: pd.DataFrame


@dataclass
class _Evaluations:
    """The growing columns of the evaluation frame."""

    run: array[int] = field(default_factory=lambda: array("i"))
    candidate: list[str] = field(default_factory=list)
    status: list[str] = field(default_factory=list)
    integers: dict[str, array[int]] = field(
        default_factory=lambda: {name: array("q") for name in _INTEGERS}
    )
    floats: dict[str, array[float]] = field(
        default_factory=lambda: {name: array("d") for name in _FLOATS}
    )

    def add(self, run: int, event: JsonObject) -> None:
        status = event["status"]
        if status not in STATUSES:
            raise ValueError(f"unknown status {status!r}")
        self.run.append(run)
        self.candidate.append(event["candidate"] or "")
        self.status.append(status)
        for name, integers in self.integers.items():
            integers.append(event[name])
        for name, floats in self.floats.items():
            value = event[name]
            floats.append(_NAN if value is None else value)

    def frame(self) -> pd.DataFrame:
        columns: dict[str, object] = {
            "run": pd.array(self.run, dtype="int32"),
            "candidate": self.candidate,
            "status": pd.Categorical(self.status, categories=list(STATUSES)),
        }
        columns |= {name: pd.array(v, dtype="int64") for name, v in self.integers.items()}
        columns |= {name: pd.array(v, dtype="float64") for name, v in self.floats.items()}
        return pd.DataFrame(columns)


@dataclass
class _Run:
    """One row of the run frame, filled while its events are read."""

    task: str
    arm: str
    seed: int
    folder: str
    state: str = "interrupted"
    reason: str = "no end in the log: the process ended early; `harness resume` continues it"
    charges: int = 0
    llm_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    dollars: float = 0.0
    llm_seconds: float = 0.0
    build_seconds: float = 0.0
    device_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    cached: int = 0
    attempts: int = 0
    world_models: int = 0
    lineages: int = 0
    estimated: bool = False
    torn: bool = False
    abandoned: int = 0
    abandoned_llm_calls: int = 0
    abandoned_dollars: float = 0.0

    def llm(self, event: JsonObject) -> None:
        self.llm_calls += 1
        self.prompt_tokens += event["prompt_tokens"]
        self.completion_tokens += event["completion_tokens"]
        self.reasoning_tokens += event["reasoning_tokens"]
        # An unknown price makes the sum unknown: NaN stays NaN.
        self.dollars += _NAN if event["dollars"] is None else event["dollars"]
        self.llm_seconds += event["seconds"]
        self.estimated |= bool(event["estimated"])

    def evaluation(self, event: JsonObject) -> None:
        if event["charge"] > 0:
            self.charges += 1
            self.build_seconds += event["build_seconds"]
            self.device_seconds += event["device_seconds"]
            self.cached += bool(event["cached"])
        self.evaluation_seconds = event["evaluation_seconds"]

    def end(self, kind: str, reason: str) -> None:
        # The log calls it a pause, since the run may go on once the method's code is mended.
        failed = reason.startswith((METHOD_RAISED, "failed", "stalled"))
        self.state = "failed" if failed else kind
        self.reason = reason


def events(path: Path) -> Iterator[tuple[int, JsonObject | None]]:
    """The events of one file with their line numbers (from 0); None for a torn last line.

    Raises LogError for an unreadable file, a line that is no event, and a gap in `i`.
    """
    try:
        with path.open("rb") as stream:
            torn = False
            for number, line in enumerate(stream):
                if torn:
                    raise LogError(
                        f"{path}, line {number} is not a JSON event. Only the last line of a log "
                        "may be torn; restore the file from a copy, or run again with --restart."
                    )
                event = _event(line)
                if event is None:
                    torn = True
                elif event.get("i") != number:
                    raise LogError(
                        f"{path}, line {number + 1}: event {event.get('i')!r}, expected {number}. "
                        "Events are numbered without gaps; the file was edited or lines were lost."
                    )
                else:
                    yield number, event
            if torn:
                yield number, None
    except OSError as error:
        raise LogError(f"Cannot read {path}: {error.strerror}.") from error


def _event(line: bytes) -> JsonObject | None:
    if not line.endswith(b"\n"):
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def read_frames(folder: Path, tasks: tuple[str, ...], arms: tuple[str, ...]) -> Frames:
    """Every run below `folder`/runs. Raises LogError for a wrong format, by file and line."""
    found = []
    for path in sorted(folder.glob("runs/*/*/seed-*/manifest.json")):
        manifest = read_manifest(path, "run")
        try:
            task, arm, seed = manifest["task"], manifest["arm"], manifest["seed"]
            order = (tasks.index(task), arms.index(arm), int(seed))
        except KeyError as error:
            raise LogError(f"{path} lacks the field {error}.") from error
        except ValueError as error:
            raise LogError(
                f"{path} belongs to task {task!r}, arm {arm!r}, which comparison.json does not "
                "list. Each comparison has a folder of its own; move the run out of this one."
            ) from error
        found.append((order, path.parent, task, arm))
    evaluations = _Evaluations()
    rows: list[_Run] = []
    for (_, _, seed), run_folder, task, arm in sorted(found, key=lambda item: item[0]):
        run = _Run(task, arm, seed, run_folder.relative_to(folder).as_posix())
        _read_run(run_folder / "events.jsonl", run, len(rows), evaluations)
        _read_abandoned(run_folder, run)
        rows.append(run)
    names = list(_Run.__dataclass_fields__)
    columns = {name: [getattr(run, name) for run in rows] for name in names}
    return Frames(pd.DataFrame(columns, columns=names), evaluations.frame())


def _read_abandoned(folder: Path, run: _Run) -> None:
    """Add up the attempts that were put aside. Damage may be why: there, what comes before it
    counts."""
    for path in sorted(folder.glob("attempts/*/events.jsonl")):
        attempt = _Run(run.task, run.arm, run.seed, run.folder)
        with contextlib.suppress(LogError):
            _read_run(path, attempt, 0, _Evaluations())
        run.abandoned += 1
        run.abandoned_llm_calls += attempt.llm_calls
        run.abandoned_dollars += attempt.dollars


def _read_run(path: Path, run: _Run, number: int, evaluations: _Evaluations) -> None:
    if not path.exists():
        run.reason = "no events: the run was prepared and never started"
        return
    for line, event in events(path):
        if event is None:
            run.torn = True
            continue
        try:
            kind = event["kind"]
            if kind == "llm":
                run.llm(event)
            elif kind == "evaluation":
                evaluations.add(number, event)
                run.evaluation(event)
            elif kind == "record":
                run.world_models += event["record"] == "world_model"
                run.lineages += event["record"] == "lineage"
            elif kind == "attempt":
                run.attempts += 1
                run.state = _Run.state
                run.reason = _Run.reason
            elif kind in ("paused", "finished"):
                run.end(kind, event["reason"])
            elif kind != "llm_intent":
                raise ValueError(f"unknown kind of event {kind!r}")
        except (KeyError, TypeError, ValueError) as error:
            what = f"lacks the field {error}" if isinstance(error, KeyError) else str(error)
            raise LogError(
                f"{path}, line {line + 1}: the event {what}. Expected format 1 "
                "(docs/architecture.md); use the version of the harness that wrote the folder."
            ) from error

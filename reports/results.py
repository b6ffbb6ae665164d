"""From runs and confirmations to one result per (arm, task, seed): the unit of every statistic.

How a run's result is chosen: its passing candidates are walked by search score, best first (at
most CANDIDATES_PER_RUN of them, as harness/confirm.py tries); the first one that passed its
confirmation gives the result, its *confirmed* score. A run without such a candidate gets the
starting program's score and is marked. A run whose next candidate was never confirmed has no
result: search scores are not results.

Covered: results, their per-workload times and flags, paired block log speedups. Not covered:
aggregation (statistics.py, tables.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.confirm import CANDIDATES_PER_RUN
from harness.errors import LogError
from harness.types import Confirmation, Finalist, Passed, Status, confirmation_from_json
from reports.frames import Frames
from reports.manifest import read_json

Kind = Literal["confirmed", "start", "unconfirmed start", "missing"]

MARKS: dict[Kind, str] = {
    "confirmed": "",
    "start": "starting program (no candidate passed, in search or confirmation)",
    "unconfirmed start": "starting program, its search score (no candidate passed)",
    "missing": "no confirmation: no result",
}
_NAN = float("nan")


@dataclass(frozen=True)
class RunResult:
    """What one run is worth.

    kind: where `score` comes from (MARKS has the words). score: geometric-mean speedup over the
    baseline on the final workloads with its 95 % interval, NaN when missing; arithmetic_mean
    likewise. search_score: what the search believed of the same program. failed_finalists: better
    candidates by search score that failed their confirmation. blocks: log speedup per
    confirmation block (empty unless confirmed). first_pass: charge of the first passing candidate,
    or None.
    """

    task: str
    arm: str
    seed: int
    kind: Kind
    candidate: str
    score: float
    low: float
    high: float
    arithmetic_mean: float
    search_score: float
    charge: int
    first_pass: int | None
    failed_finalists: int
    held_out: str
    finalist: Finalist | None

    @property
    def known(self) -> bool:
        return self.kind != "missing"

    @property
    def blocks(self) -> npt.NDArray[np.float64]:
        found = self.finalist.block_log_speedups if self.finalist else ()
        return np.array(found, dtype=np.float64)


@dataclass(frozen=True)
class Results:
    """Every run's result, and the confirmation of each task that has one."""

    runs: tuple[RunResult, ...]
    confirmations: Mapping[str, Confirmation]

    def of(self, arm: str, task: str | None = None, *, known: bool = True) -> list[RunResult]:
        """The runs of an arm (and task), in order; those with a result unless known=False."""
        return [
            r
            for r in self.runs
            if r.arm == arm and (task is None or r.task == task) and (r.known or not known)
        ]

    def strata(self, arm: str, tasks: Sequence[str]) -> list[npt.NDArray[np.float64]]:
        """Per task the log scores of the arm's seeds: what statistics.py takes."""
        return [np.log(np.array([r.score for r in self.of(arm, task)])) for task in tasks]

    def common_tasks(self, tasks: Sequence[str], arms: Sequence[str]) -> list[str]:
        """The tasks on which every one of `arms` has a result."""
        return [task for task in tasks if all(self.of(arm, task) for arm in arms)]


def read_results(folder: Path, frames: Frames, tasks: Sequence[str]) -> Results:
    """Join the runs with `folder`/confirm. Raises LogError for a confirmation of a wrong form."""
    confirmations = {}
    for task in tasks:
        path = folder / "confirm" / f"{task}.json"
        if path.exists():
            confirmations[task] = _confirmation(path, task)
    passed = _passed(frames.evaluations, len(frames.runs))
    labels = zip(frames.runs["task"], frames.runs["arm"], frames.runs["seed"], strict=True)
    rows = [
        _result(str(task), str(arm), int(seed), passed[number], confirmations.get(str(task)))
        for number, (task, arm, seed) in enumerate(labels)
    ]
    return Results(tuple(rows), confirmations)


@dataclass(frozen=True)
class _Searched:
    """A passing evaluation of the search."""

    candidate: str
    charge: int
    score: float
    low: float
    high: float
    arithmetic_mean: float


_ABSENT = _Searched("", 0, _NAN, _NAN, _NAN, _NAN)


def _passed(evaluations: pd.DataFrame, runs: int) -> list[list[_Searched]]:
    """Per run its passing evaluations in order."""
    found = evaluations[evaluations["status"] == Status.PASSED.value]
    columns = ("candidate", "charge", "score", "score_low", "score_high", "arithmetic_mean")
    lists = [found[name].tolist() for name in columns]
    per_run: list[list[_Searched]] = [[] for _ in range(runs)]
    for run, *values in zip(found["run"].tolist(), *lists, strict=True):
        per_run[run].append(_Searched(*values))
    return per_run


def _confirmation(path: Path, task: str) -> Confirmation:
    data = read_json(path)
    try:
        confirmation = confirmation_from_json(data)
    except (KeyError, TypeError, ValueError) as error:
        raise LogError(
            f"{path} is no confirmation of this format ({error!r}). `harness resume` writes it "
            "again when it is deleted."
        ) from error
    if confirmation.task != task:
        raise LogError(f"{path} confirms task {confirmation.task!r}, expected {task!r}.")
    return confirmation


def _result(
    task: str,
    arm: str,
    seed: int,
    passed: Sequence[_Searched],
    confirmation: Confirmation | None,
) -> RunResult:
    finalists = {f.candidate_id: f for f in confirmation.finalists} if confirmation else {}
    own = sorted((p for p in passed if p.charge > 0), key=lambda p: (-p.score, p.charge))
    first_pass = min((p.charge for p in own), default=None)
    failed = 0

    def row(kind: Kind, searched: _Searched, finalist: Finalist | None = None) -> RunResult:
        final = finalist.final if finalist else None
        value = (_NAN,) * 4
        if isinstance(final, Passed):
            value = (final.score, final.score_low, final.score_high, final.arithmetic_mean)
        elif kind == "unconfirmed start":
            value = (searched.score, searched.low, searched.high, searched.arithmetic_mean)
        return RunResult(
            task=task,
            arm=arm,
            seed=seed,
            kind=kind,
            candidate=searched.candidate,
            score=value[0],
            low=value[1],
            high=value[2],
            arithmetic_mean=value[3],
            search_score=searched.score,
            charge=searched.charge,
            first_pass=first_pass,
            failed_finalists=failed,
            held_out=finalist.held_out.value if finalist and finalist.held_out else "not checked",
            finalist=finalist,
        )

    for searched in _first_of_each(own)[:CANDIDATES_PER_RUN]:
        finalist = finalists.get(searched.candidate)
        if finalist is None:
            return row("missing", searched)
        if isinstance(finalist.final, Passed):
            return row("confirmed", searched, finalist)
        failed += 1
    start = next((p for p in passed if p.charge == 0), None)
    if start is None:
        return row("missing", _ABSENT)
    finalist = finalists.get(start.candidate)
    if finalist is not None and isinstance(finalist.final, Passed):
        return row("start", start, finalist)
    return row("unconfirmed start", start)


def _first_of_each(ranked: Sequence[_Searched]) -> list[_Searched]:
    """Without the later evaluations of a candidate that is already in the list."""
    first: dict[str, _Searched] = {}
    for searched in ranked:
        first.setdefault(searched.candidate, searched)
    return list(first.values())


def workload_rows(results: Results) -> pd.DataFrame:
    """One row per (run, final workload) of every confirmed program.

    Columns: task, arm, seed, workload, speedup, low, high (95 %), latency_us, baseline_us,
    floor_us, samples, flags (one a line).
    """
    rows = []
    for r in results.runs:
        if r.finalist is None or not isinstance(r.finalist.final, Passed):
            continue
        for m in r.finalist.final.measurements:
            rows.append(
                (
                    r.task, r.arm, r.seed, m.workload, m.speedup, m.speedup_low, m.speedup_high,
                    m.latency_us, m.baseline_us, m.floor_us, m.samples, "\n".join(m.flags),
                )
            )  # fmt: skip
    names = (
        "task", "arm", "seed", "workload", "speedup", "low", "high",
        "latency_us", "baseline_us", "floor_us", "samples", "flags",
    )  # fmt: skip
    return pd.DataFrame(rows, columns=list(names))


def block_difference(
    first: Sequence[RunResult], second: Sequence[RunResult]
) -> npt.NDArray[np.float64]:
    """Per confirmation block: mean log speedup of `first`'s programs minus `second`'s.

    Blocks of one session are paired, so drift of the machine cancels. Empty when either side has
    no blocks; programs with another number of blocks than the first one's are left out.
    """
    sides = []
    for runs in (first, second):
        found = [r.blocks for r in runs if r.blocks.size]
        sides.append([b for b in found if b.size == found[0].size] if found else [])
    if not sides[0] or not sides[1] or sides[0][0].size != sides[1][0].size:
        return np.empty(0)
    return np.asarray(np.mean(sides[0], axis=0) - np.mean(sides[1], axis=0))

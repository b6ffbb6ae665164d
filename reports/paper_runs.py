"""Runs of this harness beside the paper: a comparison folder's confirmed scores, task by task.

A task is the paper's if the comparison's suite and the task's name are; an arm is one of the
paper's methods if its method is, whatever its variant and options (the notes say so).

Covered: confirmed scores by both means, search curves of the paper's tasks, times on TriMul; what
is not in the paper is listed as such, and a simulated model is named in every row. Not covered: how
results are chosen (results.py); the comparison's own report (build.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.remeasured import Means
from harness.types import Passed, geometric_mean
from reports.frames import Frames, read_frames
from reports.manifest import MISSING, Arm, Comparison, read_comparison
from reports.paper import Paper, PaperTask
from reports.results import Results, RunResult, read_results
from reports.statistics import Estimate, Floats, t_interval
from reports.table import Cell, Column, Table

TRIMUL_SUITES = ("gpumode", "trimul")  # the two names of one suite
SIMULATED = "simulated model: says nothing about LLMs"


@dataclass(frozen=True)
class OurRuns:
    """A comparison, as it is laid beside the paper."""

    comparison: Comparison
    frames: Frames
    results: Results

    @property
    def hardware(self) -> str:
        """The card, or the CPU by its name."""
        device = self.comparison.device
        cpu = dict(self.comparison.machine).get("cpu", "")
        return cpu if cpu and device.lower().startswith("cpu") else device

    @property
    def levels(self) -> str:
        return f"{self.comparison.levels}; {self.hardware}"

    def paper_task(self, paper: Paper, task: str) -> PaperTask | None:
        return paper.task_named(self.comparison.suite, task)


@dataclass(frozen=True)
class OurCurve:
    """Best arithmetic-mean search score so far, in per cent, mean over seeds, by charge from 0 on;
    NaN until every seed has a pass."""

    task: str
    method: str
    label: str
    percent: Floats


def read_runs(folder: Path) -> OurRuns:
    """The comparison in `folder`. Raises LogError."""
    comparison = read_comparison(folder)
    frames = read_frames(folder, comparison.tasks, comparison.arm_names)
    return OurRuns(comparison, frames, read_results(folder, frames, comparison.tasks))


def runs_table(paper: Paper, runs: OurRuns) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for task in runs.comparison.tasks:
        known = runs.paper_task(paper, task)
        confirmation = runs.results.confirmations.get(task)
        for arm in runs.comparison.arms:
            found = runs.results.of(arm.name, task)
            name = paper.method_named(arm.method)
            values = known.score(name).values if known is not None and name is not None else ()
            estimate = t_interval(np.log([100 * r.score for r in found])).exp() if found else None
            rows.append(
                (
                    known.label(task) if known is not None else task, arm.name,
                    _model(runs.comparison, arm), name,
                    " or ".join(str(v.percent) for v in values) or None,
                    known.hardware if known is not None else None,
                    100 * _arithmetic(found) if found else None,
                    estimate, len(found),
                    confirmation.baseline if confirmation is not None else MISSING,
                    _notes(runs.comparison, arm, known, name, found),
                    task,
                )
            )  # fmt: skip
    budget = ", ".join(f"{v} {k.replace('_', ' ')}" for k, v in runs.comparison.budget) or "none"
    return Table(
        "runs_beside_paper",
        "Runs beside the paper",
        "Per cent of the baseline's speed. Runs: confirmed scores on the final workloads; "
        "arithmetic: over workloads and seeds, as in the paper; geometric: over workloads and "
        "seeds, with Student's 95 % interval over seeds on the logs. Another card, another "
        "baseline, other workloads or another budget make another figure: the columns name them, "
        f"and nothing here is the paper's figure corrected. Budget of the runs: {budget}; of the "
        f"paper: {paper.charges} evaluations. The paper's model: {paper.model}.",
        (
            Column("task", "Task"),
            Column("arm", "Arm"),
            Column("model", "Runs' model"),
            Column("method", "Paper's method"),
            Column("paper_percent", "Paper, arithmetic, %", "number"),
            Column("paper_hardware", "on"),
            Column("arithmetic_percent", f"Runs, arithmetic, % ({runs.hardware})", "number"),
            Column("geometric_percent", f"Runs, geometric, % ({runs.hardware})", "estimate"),
            Column("n", "n seeds", "integer"),
            Column("baseline", "Runs' baseline"),
            Column("notes", "Notes"),
            Column("name", "Task's name here"),
        ),
        tuple(rows),
        runs.levels,
    )


def _arithmetic(found: list[RunResult]) -> float:
    return float(np.mean([r.arithmetic_mean for r in found]))


def _model(comparison: Comparison, arm: Arm) -> str:
    return f"SIMULATED: {arm.model}" if comparison.simulated else arm.model


def _notes(
    comparison: Comparison,
    arm: Arm,
    task: PaperTask | None,
    method: str | None,
    found: list[RunResult],
) -> str:
    notes = [SIMULATED] if comparison.simulated else []
    notes += ["the task is not in the paper"] if task is None else []
    notes += ["the method is not in the paper"] if method is None else []
    if method is not None and arm.name.partition("+")[0] != arm.method:
        notes.append("with a variant or options of its own")
    started = sum(r.kind != "confirmed" for r in found)
    notes += [f"{started} of {len(found)} are the starting program"] if started else []
    notes += [] if found else ["no confirmed result"]
    return "; ".join(notes)


def run_scores(paper: Paper, runs: OurRuns) -> dict[tuple[str, str], Means]:
    """By (paper's task, paper's method), for claims: of methods with one arm that is as it comes,
    on the variant of the task that is most alike. Empty for a simulated model, which ranks nothing.
    """
    if runs.comparison.simulated:
        return {}
    plain = [arm for arm in runs.comparison.arms if arm.name.partition("+")[0] == arm.method]
    scores: dict[tuple[str, str], Means] = {}
    for task in sorted(runs.comparison.tasks, key=paper.place):
        known = runs.paper_task(paper, task)
        for arm in plain:
            name = paper.method_named(arm.method)
            found = runs.results.of(arm.name, task)
            single = sum(other.method == arm.method for other in plain) == 1
            if known is not None and name is not None and found and single:
                geometric = geometric_mean([r.score for r in found])
                scores.setdefault((known.title, name), Means(_arithmetic(found), geometric))
    return scores


def run_curves(paper: Paper, runs: OurRuns) -> list[OurCurve]:
    """Of the paper's tasks and methods, in the paper's unit."""
    table = runs.frames.evaluations
    run = table["run"].to_numpy()
    charge = table["charge"].to_numpy()
    mean = table["arithmetic_mean"].to_numpy(dtype=np.float64)
    labels = list(zip(runs.frames.runs["task"], runs.frames.runs["arm"], strict=True))
    curves = []
    for task in runs.comparison.tasks:
        known = runs.paper_task(paper, task)
        for arm in runs.comparison.arms:
            name = paper.method_named(arm.method)
            numbers = [n for n, label in enumerate(labels) if label == (task, arm.name)]
            if known is None or name is None or not numbers:
                continue
            end = max((int(charge[run == n].max(initial=0)) for n in numbers), default=0)
            seeds = [_best(charge[run == n], mean[run == n], end) for n in numbers]
            label = f"{arm.name}, here" + known.label(task).removeprefix(known.title)
            label += " (simulated)" if runs.comparison.simulated else ""
            curves.append(OurCurve(known.title, name, label, 100 * np.mean(seeds, axis=0)))
    return curves


def _best(charge: Floats, mean: Floats, end: int) -> Floats:
    """Best so far at every charge from 0 to `end`, held after the run's own end."""
    best = np.full(end + 1, np.nan)
    for place, value in zip(charge.astype(int), mean, strict=True):
        best[place] = np.fmax(best[place], value)
    return np.asarray(np.fmax.accumulate(best), dtype=np.float64)


def trimul_runs_table(runs: OurRuns) -> Table | None:
    """Times of confirmed programs on TriMul; None for a comparison of another suite."""
    if runs.comparison.suite not in TRIMUL_SUITES:
        return None
    rows: list[tuple[Cell, ...]] = []
    for task in runs.comparison.tasks:
        for arm in runs.comparison.arms:
            times = [_milliseconds(r) for r in runs.results.of(arm.name, task)]
            known = [time for time in times if time is not None]
            estimate: Estimate | None = t_interval(np.log(known)).exp() if known else None
            notes = [SIMULATED] if runs.comparison.simulated else []
            notes += [] if known else ["no confirmed result"]
            rows.append(
                (task, arm.name, len(known), estimate, _model(runs.comparison, arm),
                 "; ".join(notes))
            )  # fmt: skip
    return Table(
        "runs_trimul",
        "TriMul, runs here",
        "Milliseconds: geometric mean over the final workloads and over seeds, with Student's 95 % "
        "interval over seeds on the logs. Timed with fresh inputs in every call; the board reuses "
        "its inputs, and its cases never have a mask.",
        (
            Column("task", "Task"),
            Column("arm", "Arm"),
            Column("n", "n seeds", "integer"),
            Column("milliseconds", f"ms ({runs.hardware})", "estimate"),
            Column("model", "Model"),
            Column("notes", "Notes"),
        ),
        tuple(rows),
        runs.levels,
    )


def _milliseconds(result: RunResult) -> float | None:
    final = result.finalist.final if result.finalist is not None else None
    if not isinstance(final, Passed):
        return None
    return geometric_mean([m.latency_us for m in final.measurements]) / 1000

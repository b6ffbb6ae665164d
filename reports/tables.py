"""The tables about scores: arms, runs, tasks, workloads, fast_p, search against confirmed.

Covered: what each table holds and how it was measured. Not covered: tables about the search itself
and about pairs (tables_search.py, tables_pairs.py), and how a table is written (table.py).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd

from reports import statistics
from reports.analysis import ArmSummary, generator
from reports.manifest import Comparison
from reports.results import MARKS, Results
from reports.statistics import Estimate, Floats
from reports.table import Cell, Column, Table

FAST_P = (0.5, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0)


def arms_table(comparison: Comparison, summaries: Sequence[ArmSummary]) -> Table:
    rows = []
    for s in summaries:
        kinds = [r.kind for r in s.results]
        started = sum(kind != "confirmed" for kind in kinds)
        row: tuple[Cell, ...] = (
            s.arm, s.tasks, s.runs, len(s.results), s.geometric, s.interquartile,
            s.arithmetic, s.search, started, s.runs - len(s.results),
        )  # fmt: skip
        rows.append(row)
    return Table(
        "arms",
        "Confirmed score by arm",
        "Speedup over the baseline. Geometric mean over tasks of the geometric mean over seeds, "
        "and interquartile mean over all (task, seed), each with its 95 % stratified bootstrap "
        "interval over seeds; the arithmetic mean stands beside them because published results "
        "used it. The search score of the same programs is shown for contrast and is no result."
        + "".join(
            f" Seeds of {arm.name} label replicates and do not reproduce them: {arm.replicates}."
            for arm in comparison.replicated
        ),
        (
            Column("arm", "Arm"),
            Column("tasks", "Tasks", "integer"),
            Column("runs", "Runs", "integer"),
            Column("n", "n", "integer"),
            Column("geometric_mean", "Geometric mean [95 %]", "estimate"),
            Column("interquartile_mean", "IQM [95 %]", "estimate"),
            Column("arithmetic_mean", "Arithmetic mean", "number"),
            Column("search_score", "Search score", "number"),
            Column("on_start", "On the start", "integer"),
            Column("missing", "Missing", "integer"),
        ),
        tuple(rows),
        comparison.levels,
    )


def runs_table(comparison: Comparison, results: Results, runs: pd.DataFrame) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for r, state, charges, torn in zip(
        results.runs, runs["state"], runs["charges"], runs["torn"], strict=True
    ):
        notes = [MARKS[r.kind]] if MARKS[r.kind] else []
        if r.failed_finalists:
            notes.append(f"{r.failed_finalists} better by search score failed confirmation")
        if torn:
            notes.append("torn last line dropped")
        rows.append(
            (
                r.task, r.arm, r.seed, str(state), int(charges), r.search_score,
                Estimate(r.score, r.low, r.high, 1) if r.known else None,
                r.arithmetic_mean, r.held_out, r.first_pass, r.charge, r.candidate,
                "; ".join(notes),
            )
        )  # fmt: skip
    return Table(
        "runs",
        "Every run",
        "Confirmed: geometric-mean speedup on the final workloads with the measurement's own 95 % "
        "interval. Held-out is a verdict on workloads that never select. First pass and best at: "
        "charges.",
        (
            Column("task", "Task"),
            Column("arm", "Arm"),
            Column("seed", "Seed", "integer"),
            Column("state", "State"),
            Column("charges", "Charges", "integer"),
            Column("search_score", "Search score", "number"),
            Column("confirmed", "Confirmed [95 %]", "estimate"),
            Column("arithmetic_mean", "Arithmetic mean", "number"),
            Column("held_out", "Held-out"),
            Column("first_pass", "First pass", "integer"),
            Column("best_at", "Best at", "integer"),
            Column("candidate", "Candidate"),
            Column("notes", "Notes"),
        ),
        tuple(rows),
        comparison.levels,
    )


def tasks_table(comparison: Comparison, results: Results) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for task in comparison.tasks:
        for arm in comparison.arm_names:
            found = results.of(arm, task)
            if not found:
                rows.append((task, arm, 0, None, None, None, None))
                continue
            scores = np.array([r.score for r in found])
            arithmetic = float(np.mean([r.arithmetic_mean for r in found]))
            estimate = statistics.t_interval(np.log(scores)).exp()
            low, high = float(scores.min()), float(scores.max())
            rows.append((task, arm, len(found), estimate, arithmetic, low, high))
    return Table(
        "tasks",
        "Confirmed score by task",
        "Geometric mean over seeds with Student's 95 % interval on the logs (n seeds); arithmetic "
        "mean over workloads and seeds beside it; lowest and highest seed.",
        (
            Column("task", "Task"),
            Column("arm", "Arm"),
            Column("n", "n", "integer"),
            Column("geometric_mean", "Geometric mean [95 %]", "estimate"),
            Column("arithmetic_mean", "Arithmetic mean", "number"),
            Column("lowest", "Lowest", "number"),
            Column("highest", "Highest", "number"),
        ),
        tuple(rows),
        comparison.levels,
    )


def workloads_table(comparison: Comparison, workloads: pd.DataFrame) -> Table:
    factors = comparison.canary_factors
    rows: list[tuple[Cell, ...]] = []
    for task in comparison.tasks:
        of_task = workloads[workloads["task"] == task]
        for workload in dict.fromkeys(of_task["workload"]):
            for arm in comparison.arm_names:
                found = of_task[(of_task["workload"] == workload) & (of_task["arm"] == arm)]
                if found.empty:
                    continue
                speedups = found["speedup"].to_numpy(dtype=np.float64)
                estimate = statistics.t_interval(np.log(speedups)).exp()
                latency = np.exp(np.log(found["latency_us"].to_numpy(dtype=np.float64)).mean())
                baseline = np.exp(np.log(found["baseline_us"].to_numpy(dtype=np.float64)).mean())
                flagged = int((found["flags"] != "").sum())
                row: tuple[Cell, ...] = (
                    task, str(workload), arm, len(found), estimate, float(speedups.mean()),
                    float(latency), float(baseline), flagged,
                )  # fmt: skip
                if factors:
                    row += (float(latency) * factors[task] if task in factors else None,)
                rows.append(row)
    columns: tuple[Column, ...] = (
        Column("task", "Task"),
        Column("workload", "Workload"),
        Column("arm", "Arm"),
        Column("n", "n", "integer"),
        Column("speedup", "Speedup [95 %]", "estimate"),
        Column("arithmetic_mean", "Arithmetic mean", "number"),
        Column("latency_us", "Latency, µs", "number"),
        Column("baseline_us", "Baseline, µs", "number"),
        Column("flagged", "Flagged", "integer"),
    )
    by_canary = ""
    if factors:
        columns += (Column("latency_by_canary_us", "Latency by canary, µs", "number"),)
        by_canary = (
            " Clocks cannot be locked in Modal's containers: the last column is the latency on a "
            "device whose canary takes as long as when the comparison began."
        )
    return Table(
        "workloads",
        "Speedup by workload",
        "Confirmed programs on the final workloads. Geometric mean over seeds with Student's 95 % "
        "interval on the logs; latencies are geometric means over seeds, in microseconds."
        + by_canary,
        columns,
        tuple(rows),
        comparison.levels,
    )


def fast_p_table(comparison: Comparison, results: Results, workloads: pd.DataFrame) -> Table:
    names = {task: list(dict.fromkeys(g["workload"])) for task, g in workloads.groupby("task")}
    speedups: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    keys = zip(workloads["task"], workloads["arm"], workloads["seed"], strict=True)
    for key, speedup in zip(keys, workloads["speedup"], strict=True):
        speedups[key].append(speedup)
    rows: list[tuple[Cell, ...]] = []
    for arm in comparison.arm_names:
        strata: list[list[Floats]] = []
        total = 0
        for task in comparison.tasks:
            found = results.of(arm, task) if task in names else []
            if found:
                values = [speedups.get((task, arm, r.seed), []) for r in found]
                strata.append([_padded(v, len(names[task])) for v in values])
                total += len(found) * len(names[task])
        cells: list[Cell] = [arm, sum(len(s) for s in strata), total]
        for p in FAST_P:
            fractions = [np.array([float((v >= p).mean()) for v in task]) for task in strata]
            stream = generator(f"fast_p {arm} {p}")
            cells.append(
                statistics.stratified_bootstrap(fractions, statistics.mean_of_task_means, stream)
                if fractions
                else None
            )
        rows.append(tuple(cells))
    return Table(
        "fast_p",
        "fast_p: the fraction of workloads at least p times as fast as the baseline",
        "Final workloads of confirmed programs; every task weighs the same; 95 % stratified "
        "bootstrap interval over seeds. A run whose program has no confirmed time counts as below "
        "every p; runs that wait for a confirmation are left out.",
        (
            Column("arm", "Arm"),
            Column("runs", "n runs", "integer"),
            Column("workloads", "n workloads", "integer"),
            *(Column(f"fast_{p:g}", f"p = {p:g}", "estimate") for p in FAST_P),
        ),
        tuple(rows),
        comparison.levels,
    )


def _padded(values: Sequence[float], size: int) -> Floats:
    return np.array([*values, *[0.0] * max(0, size - len(values))])


def search_table(comparison: Comparison, results: Results) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for task in comparison.tasks:
        for arm in comparison.arm_names:
            found = [r for r in results.of(arm, task) if r.kind == "confirmed"]
            if not found:
                continue
            logs = np.array([math.log(r.search_score / r.score) for r in found])
            search = math.exp(float(np.mean([math.log(r.search_score) for r in found])))
            confirmed = math.exp(float(np.mean([math.log(r.score) for r in found])))
            estimate = statistics.t_interval(logs).exp()
            percent = 100 * (estimate.value - 1)
            rows.append((task, arm, len(found), search, confirmed, percent, estimate))
    return Table(
        "search_versus_confirmed",
        "Search score against confirmed score",
        "Geometric means over seeds. The search keeps the highest of many noisy scores, which "
        "favours lucky ones (the winner's curse); the search and final workloads also differ. "
        "Ratio: search / confirmed with Student's 95 % interval on the logs.",
        (
            Column("task", "Task"),
            Column("arm", "Arm"),
            Column("n", "n", "integer"),
            Column("search_score", "Search", "number"),
            Column("confirmed_score", "Confirmed", "number"),
            Column("difference_percent", "Difference", "percent"),
            Column("ratio", "Ratio [95 %]", "estimate"),
        ),
        tuple(rows),
        comparison.levels,
    )

"""The tables of what is known beside the score: of programs on a GPU, and of other baselines.

Covered: plan and host time, the speedup with plan inside, the diagnostics of a confirmation's best
program; scores against the baselines that `harness baselines` timed. Not covered: scores
(tables.py).
"""

from __future__ import annotations

import math
from pathlib import Path

from harness.baselines import read_baselines
from harness.types import Measurement, Passed
from reports.manifest import Comparison
from reports.results import Results
from reports.table import Cell, Column, Table


def device_table(comparison: Comparison, results: Results) -> Table:
    """One row per confirmed run and workload of which there is something to say."""
    rows: list[tuple[Cell, ...]] = []
    for r in results.runs:
        if r.finalist is None or not isinstance(r.finalist.final, Passed):
            continue
        for m in r.finalist.final.measurements:
            told = m.diagnostics.get
            if m.plan_us is None and m.host_us is None and not m.diagnostics:
                continue
            share = told("library_share")
            rows.append(
                (
                    r.task, r.arm, r.seed, m.workload, m.latency_us, m.host_us, m.plan_us,
                    m.baseline_plan_us, _with_plan(m), told("hot_us"), told("graph_us"),
                    told("kernels_us"), told("kernels"),
                    None if share is None else 100 * share,
                )
            )  # fmt: skip
    return Table(
        "device",
        "Beside the score",
        "Medians in microseconds. Host: until the program's function had returned; not in the "
        "latency, because a call's launches are queued before its inputs exist. Plan: given index "
        "metadata alone, before the call, outside the score; with plan inside, the speedup is "
        "(baseline + its plan) / (latency + plan). The last five come from the program's own "
        "process, of a task's best program only, and are shown as its word: hot is back to back "
        "with a warm L2 cache, CUDA graph is the same from a captured graph (in both a device may "
        "reach its power limit, which lowers its clocks), kernels are by CUPTI; a kernel counts as "
        "a library's by its name (cuBLAS, cuDNN, CUTLASS, torch's own).",
        (
            Column("task", "Task"),
            Column("arm", "Arm"),
            Column("seed", "Seed", "integer"),
            Column("workload", "Workload"),
            Column("latency_us", "Latency, µs", "number"),
            Column("host_us", "Host, µs", "number"),
            Column("plan_us", "Plan, µs", "number"),
            Column("baseline_plan_us", "Baseline's plan, µs", "number"),
            Column("speedup_with_plan", "Speedup, plan inside", "ratio"),
            Column("hot_us", "Hot, µs", "number"),
            Column("graph_us", "CUDA graph, µs", "number"),
            Column("kernels_us", "Kernels, µs", "number"),
            Column("kernels", "Kernels", "integer"),
            Column("library_percent", "In libraries, %", "number"),
        ),
        tuple(rows),
        comparison.levels,
    )


def _with_plan(m: Measurement) -> float | None:
    """The speedup if both sides' plans counted; None where neither has one."""
    if m.plan_us is None and m.baseline_plan_us is None:
        return None
    return (m.baseline_us + (m.baseline_plan_us or 0)) / (m.latency_us + (m.plan_us or 0))


def baselines_table(comparison: Comparison, results: Results, folder: Path) -> Table:
    """Every arm's score against the other baselines; no rows where they were not timed."""
    where, others = read_baselines(folder)
    rows: list[tuple[Cell, ...]] = []
    for other in others:
        if other.task not in comparison.tasks:
            continue
        if other.score is None:
            rows.append((other.task, other.name, None, "", None, None, other.problem))
            continue
        for arm in comparison.arm_names:
            scores = [r.score for r in results.of(arm, other.task) if r.known]
            if scores:
                mean = math.exp(math.fsum(map(math.log, scores)) / len(scores))
                against = mean / other.score
                rows.append((other.task, other.name, other.score, arm, mean, against, ""))
    firsts = ", ".join(sorted({other.first for other in others}))
    return Table(
        "other_baselines",
        "Scores against other baselines",
        f"Each other baseline was timed beside {firsts or 'the first'}, which scores are relative "
        f"to, in a session of its own ({where or 'not timed'}), on the search workloads. Against "
        "it: the arm's geometric mean over seeds, divided by that baseline's speedup.",
        (
            Column("task", "Task"),
            Column("baseline", "Baseline"),
            Column("baseline_speedup", "Its speedup", "ratio"),
            Column("arm", "Arm"),
            Column("score", "Score", "ratio"),
            Column("against", "Against it", "ratio"),
            Column("notes", "Why it has none"),
        ),
        tuple(rows),
        comparison.levels,
    )

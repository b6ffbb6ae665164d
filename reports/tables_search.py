"""The tables about the searches and the pairs: failures, cost, flags, ratios, statistics.

Covered: what each table holds and how it was measured. Not covered: scores (tables.py), and how a
table is written (table.py).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations, zip_longest

import numpy as np
import pandas as pd

from reports import statistics
from reports.analysis import Pair
from reports.frames import STATUSES, Frames
from reports.manifest import Comparison
from reports.results import Results, block_difference
from reports.table import Cell, Column, Table

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_NAMED = 3  # workloads that a flag's row names one by one


def failures_table(comparison: Comparison, frames: Frames, results: Results) -> Table:
    charged = frames.evaluations[frames.evaluations["charge"] > 0]
    tasks = frames.runs["task"].to_numpy()[charged["run"].to_numpy()]
    arms = frames.runs["arm"].to_numpy()[charged["run"].to_numpy()]
    counts = Counter(zip(arms, tasks, charged["status"], strict=True))
    rows: list[tuple[Cell, ...]] = []
    for task in comparison.tasks:
        for arm in comparison.arm_names:
            by_status = [counts[(arm, task, status)] for status in STATUSES]
            total = sum(by_status)
            runs = results.of(arm, task, known=False)
            first = [r.first_pass for r in runs if r.first_pass is not None]
            share = 100 * by_status[0] / total if total else None
            median = float(np.median(first)) if first else None
            rows.append((task, arm, len(runs), total, share, len(first), median, *by_status))
    return Table(
        "failures",
        "Verdicts on the candidates of the search",
        "Charges by verdict; the starting program is not counted. Median charge of the first pass "
        "over the runs that had one.",
        (
            Column("task", "Task"),
            Column("arm", "Arm"),
            Column("runs", "Runs", "integer"),
            Column("charges", "Charges", "integer"),
            Column("passed_percent", "Passed, %", "number"),
            Column("runs_with_pass", "Runs with a pass", "integer"),
            Column("first_pass_median", "First pass", "number"),
            *(Column(s.lower(), s.replace("_", " ").capitalize(), "integer") for s in STATUSES),
        ),
        tuple(rows),
        comparison.levels,
    )


def cost_table(comparison: Comparison, runs: pd.DataFrame) -> Table:
    sums = (
        "charges", "llm_calls", "prompt_tokens", "completion_tokens", "reasoning_tokens",
    )  # fmt: skip
    seconds = ("llm_seconds", "build_seconds", "device_seconds", "evaluation_seconds")
    rows: list[tuple[Cell, ...]] = []
    for arm in comparison.arm_names:
        found = runs[runs["arm"] == arm]
        notes = []
        dollars = _total(found["dollars"])
        if found["estimated"].any():
            notes.append("some tokens counted from bytes")
        if math.isnan(dollars):
            notes.append("price unknown")
        if found["abandoned"].any():
            number = int(found["abandoned"].sum())
            lost = _total(found["abandoned_dollars"])
            price = "price unknown" if math.isnan(lost) else f"{lost:.6g} dollars"
            notes.append(
                f"{number} {'attempt' if number == 1 else 'attempts'} started over, not in the "
                f"sums: {int(found['abandoned_llm_calls'].sum())} LLM calls, {price}"
            )
        charges, *totals = (int(found[name].sum()) for name in sums)
        rows.append(
            (
                arm, len(found), charges,
                *(total / charges if charges else None for total in totals[:3]), *totals, dollars,
                *(_total(found[name]) for name in seconds), int(found["cached"].sum()),
                "; ".join(notes),
            )
        )  # fmt: skip
    return Table(
        "cost",
        "Cost",
        "Sums over all runs of an arm, from the run logs; confirmations are not counted. An "
        "evaluation answered by the cache is charged the seconds that it took when it was "
        "measured. Completion tokens include reasoning tokens. Per charge: methods differ in how "
        "much they ask the model for one evaluated proposal, so equal charges are not equal calls "
        "or tokens.",
        (
            Column("arm", "Arm"),
            Column("runs", "Runs", "integer"),
            Column("charges", "Charges", "integer"),
            Column("llm_calls_per_charge", "Calls per charge", "number"),
            Column("prompt_tokens_per_charge", "Prompt tokens per charge", "number"),
            Column("completion_tokens_per_charge", "Completion tokens per charge", "number"),
            Column("llm_calls", "LLM calls", "integer"),
            Column("prompt_tokens", "Prompt tokens", "integer"),
            Column("completion_tokens", "Completion tokens", "integer"),
            Column("reasoning_tokens", "Reasoning tokens", "integer"),
            Column("dollars", "Dollars", "number"),
            Column("llm_seconds", "LLM, s", "number"),
            Column("build_seconds", "Build, s", "number"),
            Column("device_seconds", "Device, s", "number"),
            Column("evaluation_seconds", "Evaluation, s", "number"),
            Column("cached", "From cache", "integer"),
            Column("notes", "Notes"),
        ),
        tuple(rows),
        comparison.levels,
    )


def _total(values: pd.Series[float]) -> float:
    """An exactly rounded sum; NaN where one value is unknown."""
    return math.fsum(values.tolist())


def flags_table(comparison: Comparison, workloads: pd.DataFrame) -> Table:
    """One row for flags of one arm and task that differ in numbers only."""
    found: dict[tuple[str, str, str], list[tuple[str, int, list[str]]]] = {}
    flagged = workloads[workloads["flags"] != ""]
    for task, workload, arm, seed, flags in zip(
        *(flagged[name] for name in ("task", "workload", "arm", "seed", "flags")), strict=True
    ):
        for flag in str(flags).splitlines():
            key = str(task), str(arm), _NUMBER.sub("\0", flag)
            found.setdefault(key, []).append((str(workload), int(seed), _NUMBER.findall(flag)))
    rows: list[tuple[Cell, ...]] = []
    for (task, arm, words), rest in found.items():
        ranges = [_range(numbers) for numbers in zip(*(n for _, _, n in rest), strict=True)]
        text = "".join(a + b for a, b in zip_longest(words.split("\0"), ranges, fillvalue=""))
        names = sorted({workload for workload, _, _ in rest})
        shown = ", ".join(names) if len(names) <= _NAMED else f"{len(names)} workloads"
        rows.append((task, arm, text, shown, len({seed for _, seed, _ in rest})))
    return Table(
        "flags",
        "Flags on confirmed measurements",
        "Things that the evaluator wants a reader to know, with the number of runs. Flags that "
        "differ in numbers only are one row, with the lowest and the highest.",
        (
            Column("task", "Task"),
            Column("arm", "Arm"),
            Column("flag", "Flag"),
            Column("workloads", "Workloads"),
            Column("runs", "Runs", "integer"),
        ),
        tuple(rows),
        comparison.levels,
    )


def _range(numbers: Sequence[str]) -> str:
    low, high = min(numbers, key=float), max(numbers, key=float)
    return low if low == high else f"{low} to {high}"


def ratios_table(comparison: Comparison, results: Results) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for task in comparison.tasks:
        for first, second in combinations(comparison.arm_names, 2):
            runs = results.of(first, task), results.of(second, task)
            difference = block_difference(*runs)
            if not difference.size:
                continue
            estimate = statistics.t_interval(difference).exp()
            sizes = [sum(1 for r in side if r.blocks.size) for side in runs]
            rows.append((task, first, second, *sizes, int(difference.size), estimate))
    return Table(
        "ratios",
        "Ratios of the confirmed programs, from paired blocks",
        "Per randomised confirmation block, the mean log speedup of the first arm's programs minus "
        "the second's; Student's 95 % interval over blocks. It holds the measurement's noise on "
        "these programs and not the spread between runs: it says nothing about new seeds.",
        (
            Column("task", "Task"),
            Column("first", "First arm"),
            Column("second", "Second arm"),
            Column("n_first", "n first", "integer"),
            Column("n_second", "n second", "integer"),
            Column("blocks", "Blocks", "integer"),
            Column("ratio", "First / second [95 %]", "estimate"),
        ),
        tuple(rows),
        comparison.levels,
    )


def statistics_table(comparison: Comparison, pairs: Sequence[Pair]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            p.first, p.second, p.ratio, p.p_holm, p.verdict, p.tasks, *p.seeds, p.improvement,
            p.test.p, p.test.minimum_p, "exact" if p.test.exact else "random",
            p.test.relabellings,
        )
        for p in pairs
    ]  # fmt: skip
    return Table(
        "statistics",
        "Pairs of arms over all tasks",
        "Unit of analysis: (arm, task, seed), log of the confirmed score. Ratio of geometric means "
        "and probability that a run of the first arm scores higher, with 95 % stratified bootstrap "
        "intervals over seeds (10,000 resamples); permutation test of the labels within each task, "
        "two-sided; Holm's correction over all pairs. n: fewest seeds on a task.",
        (
            Column("first", "First arm"),
            Column("second", "Second arm"),
            Column("ratio", "First / second [95 %]", "estimate"),
            Column("p_holm", "p, Holm", "p"),
            Column("verdict", "Verdict"),
            Column("tasks", "Tasks", "integer"),
            Column("n_first", "n first", "integer"),
            Column("n_second", "n second", "integer"),
            Column("probability", "P(first > second) [95 %]", "estimate"),
            Column("p", "p", "p"),
            Column("p_minimum", "Smallest p possible", "p"),
            Column("test", "Test"),
            Column("relabellings", "Relabellings", "integer"),
        ),
        tuple(rows),
        comparison.levels,
    )

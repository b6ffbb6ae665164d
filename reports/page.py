"""What the page says: the question, the answer or why there is none, and the facts of its first
screen.

Covered: the words, from the records of the other modules. Not covered: how they are laid out
(report.html.j2, report.css).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import pandas as pd

from reports.analysis import ArmSummary, Pair
from reports.manifest import Comparison
from reports.results import Results
from reports.statistics import Estimate
from reports.table import significant

SELF_TEST = "Self-test: simulated model. It cannot rank these methods for real LLMs"
_MACHINE_CARD = ("architecture", "cores", "memory_gib", "gpus", "compiler")  # all: Settings
_LEVELS = {
    ("live", "live"): "a claim about these methods with this model, budget and machine",
    ("replay", "live"): "recorded replies, measured again: an audit of the published runs",
    ("replay", "cache"): "recorded replies and measurements: it regenerates published tables",
    ("live", "cache"): "a live model on recorded measurements",
}


@dataclass(frozen=True)
class Card:
    """One fact of the first screen. rows: (name, value) details below it."""

    title: str
    value: str
    note: str = ""
    rows: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Problem:
    """Something that failed or is missing, and why."""

    what: str
    why: str


def question(comparison: Comparison) -> str:
    """The question that this comparison asks, in one sentence."""
    arms = joined([arm.name for arm in comparison.arms])
    budget = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in comparison.budget)
    tasks = joined(comparison.tasks)
    verb = "finds" if len(comparison.arms) == 1 else "find"
    return f"How fast are the kernels that {arms} {verb} for {tasks} within {budget} per run?"


def answers(
    comparison: Comparison, summaries: Sequence[ArmSummary], pairs: Sequence[Pair]
) -> list[str]:
    """The answer in sentences: one per pair (or arm), each with its interval and n."""
    if comparison.simulated:
        return [
            "No answer about methods: a simulated model wrote the candidates, so scores below "
            "describe its stated knobs. What this page shows is which parts of the chain ran and "
            "what they measured."
        ]
    if not any(s.results for s in summaries):
        return ["No answer yet: no run has a confirmed result. `harness resume` continues."]
    if not pairs:
        return [
            f"{s.arm}: geometric-mean speedup {_estimate(s.geometric)} over the baseline "
            f"({len(s.results)} runs on {s.tasks} tasks)."
            for s in summaries
            if s.geometric is not None
        ]
    return [_pair_sentence(pair) for pair in pairs]


def _pair_sentence(pair: Pair) -> str:
    n = f"{min(pair.seeds)} seeds × {pair.tasks} {'task' if pair.tasks == 1 else 'tasks'}"
    kind = "exact" if pair.test.exact else "random"
    tests = f"{n}; {kind} permutation p = {pair.test.p:.2g}, Holm-corrected {pair.p_holm:.2g}"
    if not pair.claimed:
        verdict = pair.verdict[0].upper() + pair.verdict[1:]
        ratio = f"{pair.first} / {pair.second} = {_estimate(pair.ratio)}"
        return f"{pair.first} against {pair.second}: {verdict}. {ratio}, {tests}."
    first, second, ratio_up = pair.first, pair.second, pair.ratio
    if ratio_up.value < 1:
        first, second, ratio_up = second, first, ratio_up.inverse()
    return (
        f"{first} finds faster kernels than {second}: {_estimate(ratio_up)} its confirmed "
        f"geometric-mean score, {tests}."
    )


def _estimate(estimate: Estimate | None) -> str:
    if estimate is None:
        return "unknown"
    if estimate.low != estimate.low:
        return f"{significant(estimate.value)}× (no interval: one seed)"
    low, high = significant(estimate.low), significant(estimate.high)
    return f"{significant(estimate.value)}× (95 % interval {low}–{high})"


def cards(comparison: Comparison, results: Results, runs: pd.DataFrame) -> list[Card]:
    """Seeds, budget, model, evaluator, machine, isolation and what became of the runs."""
    states = Counter(runs["state"].tolist())
    expected = len(comparison.tasks) * len(comparison.arms) * len(comparison.seeds)
    known = sum(r.known for r in results.runs)
    others = [f"{states[s]} {s}" for s in ("failed", "paused", "interrupted") if states[s]]
    if expected > len(runs):
        others.append(f"{expected - len(runs)} never started")
    charges, *limits = [f"{v} {k.replace('_', ' ')}" for k, v in comparison.budget] or ["none"]
    models = [arm.model for arm in comparison.arms]
    tasks = len(comparison.tasks)
    grid = f"{len(comparison.arms)} arms × {tasks} {'task' if tasks == 1 else 'tasks'}"
    machine = dict(comparison.machine)
    model = machine.get("cpu", "") if comparison.device == "cpu" else ""
    short = tuple((k, v) for k, v in comparison.machine if k in _MACHINE_CARD)
    seeds = len(comparison.seeds)
    labels = joined([arm.name for arm in comparison.replicated])
    replicates = f"; not reproducible by seed: {labels}" if labels else ""
    return [
        Card(
            "Seeds",
            f"{seeds} per arm and task",
            f"{grid} × {seeds} seeds = {expected} runs{replicates}",
        ),
        Card("Budget per run", charges, ", ".join(limits) or "no other limit"),
        Card("LLM", comparison.llm_level, ", ".join(dict.fromkeys(models))),
        Card("Evaluator", comparison.evaluator_level, f"{comparison.suite_title}"),
        Card("Machine", model or comparison.device, rows=short or comparison.machine),
        Card(
            "Isolation in force",
            comparison.isolation[0][1] if comparison.isolation else "not recorded",
            "candidates were trusted (--trust-candidates)" if comparison.trusted else "",
            rows=comparison.isolation,
        ),
        Card(
            "Runs",
            f"{states['finished']} of {expected} finished",
            "; ".join(others) or "none failed or paused",
        ),
        Card(
            "Confirmed",
            f"{sum(r.kind == 'confirmed' for r in results.runs)} of {len(results.runs)} runs",
            f"{known} with a result, {len(results.runs) - known} without",
        ),
    ]


def problems(
    comparison: Comparison,
    results: Results,
    runs: pd.DataFrame,
    unstarted: Mapping[tuple[str, str, int], str],
) -> list[Problem]:
    """What failed and why, gathered so that a hundred equal cases are one line. unstarted: why
    runs never began, by task, arm and seed."""
    found: dict[tuple[str, str], list[str]] = {}
    if comparison.trusted:
        why = "isolation could not hide keys, and --trust-candidates accepted that"
        found["Candidates were trusted", why] = ["every run"]
    columns = [runs[name].tolist() for name in ("task", "arm", "seed", "state", "reason", "torn")]
    for task, arm, seed, state, reason, torn in zip(*columns, strict=True):
        run = f"{arm} on {task}, seed {seed}"
        if state != "finished":
            found.setdefault((f"Run {state}", reason), []).append(run)
        if torn:
            why = "the last line of the log was torn and is dropped"
            found.setdefault(("Log ended in mid-line", why), []).append(run)
    there = set(zip(*columns[:3], strict=True))
    for key in product(comparison.tasks, comparison.arm_names, comparison.seeds):
        if key not in there:
            why = unstarted.get(key, "the comparison ended before it; `harness resume` starts it")
            run = f"{key[1]} on {key[0]}, seed {key[2]}"
            found.setdefault(("Run never started", why), []).append(run)
    for r in results.runs:
        run = f"{r.arm} on {r.task}, seed {r.seed}"
        if r.failed_finalists:
            why = "a better candidate by search score did not pass its confirmation"
            found.setdefault(("Candidate failed confirmation", why), []).append(run)
        if r.kind in ("start", "unconfirmed start"):
            why = "no candidate passed; the starting program's score stands for the run"
            found.setdefault(("Run without a pass", why), []).append(run)
        if r.kind == "missing" and r.task in results.confirmations:
            why = "its best candidate is not in the task's confirmation; `harness resume` adds it"
            found.setdefault(("Result missing", why), []).append(run)
        if r.held_out not in ("PASSED", "not checked"):
            why = f"verdict on the held-out workloads: {r.held_out}"
            found.setdefault(("Held-out workloads failed", why), []).append(run)
    for task in comparison.tasks:
        if task not in results.confirmations:
            why = (
                "no confirmation in the folder: this task has no results; `harness resume` adds it"
            )
            found.setdefault(("Confirmation missing", why), []).append(task)
        elif results.confirmations[task].capped:
            why = "the sample cap was reached before every interval was narrow enough"
            found.setdefault(("Confirmation capped", why), []).append(task)
    return [Problem(f"{what}: {_some(where)}", why) for (what, why), where in found.items()]


def meaning(comparison: Comparison) -> str:
    """What this pair of levels can support."""
    if comparison.simulated:
        return "the harness works on this machine; never a statement about LLMs"
    key = (comparison.llm_level, comparison.evaluator_level)
    return _LEVELS.get(key, "see the documentation on levels")


def joined(names: Sequence[str]) -> str:
    """a, b and c."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _some(where: Sequence[str], most: int = 4) -> str:
    rest = f" and {len(where) - most} more" if len(where) > most else ""
    return "; ".join(where[:most]) + rest

"""What `harness evaluate`, `list` and `show` print: verdicts, names, runs, candidates, prompts.

Covered: text for a person, read from run logs and registries. Not covered: tables over runs
(`reports/`), drawing of a comparison under way (`live.py`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.config import language_named
from harness.errors import LogError, UnknownName, UsageError
from harness.method import METHODS, load_method
from harness.runlog import read_events, read_manifest, read_text
from harness.suite import SUITES, load_suite
from harness.summary import read_summary
from harness.types import (
    Candidate,
    Evaluation,
    JsonObject,
    Language,
    Passed,
    Status,
    evaluation_from_json,
)

PIPE_COLUMNS = 200


def evaluate_file(
    file: Path, suite_name: str, task: str, language: str, trust_candidates: bool
) -> bool:
    """Evaluate a program and print the verdict; whether it passed. Raises UsageError."""
    from harness.evaluate.local import LocalEvaluator

    load_suite(suite_name).task(task)
    by_suffix: dict[str, Language] = {".py": "python", ".cu": "cuda"}
    chosen = language_named(language) if language else by_suffix.get(file.suffix, "cpp")
    try:
        source = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"Cannot read {file}: {error}. Expected a text file.") from error
    evaluator = LocalEvaluator(suite_name, trust_candidates=trust_candidates)
    with closing(evaluator):
        evaluation = evaluator.evaluate(task, Candidate(chosen, source))
    print_verdict(evaluation, _console())
    return evaluation.passed


def print_verdict(evaluation: Evaluation, console: Console) -> None:
    """Status; for a failure the check and its evidence, else a table of the workloads."""
    outcome = evaluation.outcome
    if not isinstance(outcome, Passed):
        where = f" on workload {outcome.workload}" if outcome.workload else ""
        _say(console, f"{outcome.status} at {outcome.stage}, check {outcome.check}{where}")
        _say(console, outcome.message)
        for name, value in outcome.evidence.items():
            _say(console, f"  {name}: {value}")
        return
    _say(
        console,
        f"{outcome.status}: score {outcome.score:.4g} (95 % interval {outcome.score_low:.4g} to "
        f"{outcome.score_high:.4g}); geometric mean over {len(outcome.measurements)} workloads of "
        "the baseline's latency divided by this program's",
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("workload")
    names = ("latency us", "baseline us", "speedup", "95 % interval", "floor us", "samples")
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("notes")
    for m in outcome.measurements:
        table.add_row(
            Text(m.workload), f"{m.latency_us:.1f}", f"{m.baseline_us:.1f}", f"{m.speedup:.3f}",
            f"{m.speedup_low:.3f} to {m.speedup_high:.3f}", f"{m.floor_us:.1f}", str(m.samples),
            Text("; ".join(m.flags)),
        )  # fmt: skip
    console.print(table)
    seconds = f"{evaluation.build_seconds:.2f} s, and {evaluation.device_seconds:.2f} s"
    _say(console, f"built in {seconds} on the device")


def list_suites() -> None:
    """Every registered suite."""
    _rows([(name, load_suite(name).title) for name in sorted(SUITES)])


def list_tasks(suite_name: str) -> None:
    """The tasks of a suite; the ones that run by default are marked."""
    suite = load_suite(suite_name)
    _rows(
        [
            (
                task.name,
                task.title + ("" if task.name in suite.default_tasks else " (not by default)"),
                f"languages {', '.join(task.starts)}; baseline {task.baselines[0].name}; "
                f"{len(task.search)} search, {len(task.final)} final, {len(task.held_out)} "
                "held-out workloads",
            )
            for task in suite.tasks
        ]
    )


def list_methods() -> None:
    """Every registered method, with its variants and its options."""
    rows = []
    for name in sorted(METHODS):
        method = load_method(name)
        options = dataclasses.asdict(method.options())
        shown = ", ".join(f"{key}={value}" for key, value in options.items()) or "none"
        variants = f"variants @{' @'.join(method.variants)}; " if method.variants else ""
        rows.append((name, method.title, f"{variants}options {shown}"))
    _rows(rows)


def list_models(models_file: Path | None) -> None:
    """Every model that a run may name."""
    from harness.llm.models import load_models

    rows = []
    for name, settings in sorted(load_models(models_file).items()):
        price = "" if settings.kind == "simulated" or settings.prices != "unknown" else "no price"
        key = f"key in {settings.key_variable}" if settings.key_variable else "no key needed"
        rows.append((name, settings.kind, ", ".join(filter(None, (settings.base_url, key, price)))))
    _rows(rows)


def show_run(run: Path) -> None:
    """The run's end and its evaluations, one line each."""
    console = _console()
    manifest, summary = read_manifest(run), read_summary(run)
    _say(
        console,
        f"{manifest['task']}, {manifest['arm']}, seed {manifest['seed']}: {summary.status} "
        f"({summary.reason})\n{summary.charges} charges, {summary.llm_calls} LLM calls, "
        f"{summary.usage.tokens} tokens; LLM level {manifest['llm']['level']}",
    )
    table = Table(box=None, pad_edge=False)
    for name in ("charge", "score"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("status", "candidate", "parent"):
        table.add_column(name, no_wrap=True)
    table.add_column("what")  # the one column that gives way; its cells are cut, not wrapped
    for event in read_events(run):
        if event["kind"] == "evaluation":
            failure = event["failure"]
            what = f"{failure['check']}: {failure['message']}" if failure else event["note"]
            table.add_row(
                str(event["charge"]),
                "" if event["score"] is None else f"{event['score']:.3f}",
                event["status"],
                event["candidate"] or "",
                event["parent"] or "",
                Text((what or "").partition("\n")[0], no_wrap=True, overflow="ellipsis"),
            )
    console.print(table)


def show_candidate(run: Path, charge: int | None) -> None:
    """The verdict and the source of one charge, or of the best one (charge None)."""
    console = _console()
    events = [event for event in read_events(run) if event["kind"] == "evaluation"]
    if charge is None:
        passed = [event for event in events if event["status"] == Status.PASSED.value]
        if not passed:
            raise UsageError(f"No candidate of {run} passed. See them all: harness show {run}")
        event = max(passed, key=lambda e: (e["score"], -e["charge"]))
    else:
        event = _numbered(events, "charge", charge, run)
    name = event["candidate"] or "no program"
    _say(console, f"charge {event['charge']}, candidate {name} {event['note'] or ''}".rstrip())
    print_verdict(_evaluation(run, event), console)
    if event["source"]:
        print(read_text(run, event["source"]))


def show_call(run: Path, call: int) -> None:
    """The prompt and the reply of one LLM call."""
    events = [event for event in read_events(run) if event["kind"] == "llm"]
    event = _numbered(events, "call", call, run)
    request: JsonObject = json.loads(read_text(run, event["request"]))
    print(f"call {call}, {event['model']}, purpose {event['purpose']}")
    for message in request["messages"]:
        print(f"\n=== {message['role']} ===\n{message['content']}")
    print(f"\n=== reply ({event['finish_reason']}) ===\n{read_text(run, event['reply'])}")


def _numbered(events: list[JsonObject], field: str, number: int, run: Path) -> JsonObject:
    for event in events:
        if event[field] == number:
            return event
    raise UnknownName(f"{field} of {run}", str(number), [str(event[field]) for event in events])


def _evaluation(run: Path, event: JsonObject) -> Evaluation:
    try:
        return evaluation_from_json(json.loads(read_text(run, event["evaluation"])))
    except (KeyError, ValueError) as error:
        raise LogError(
            f"{run}: event {event['i']} names no whole evaluation ({error!r})."
        ) from error


def _rows(rows: Sequence[tuple[str, ...]]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    _console().print(table)


def _console() -> Console:
    """Off a terminal wide enough for every table, so that a pipe gets whole lines."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_COLUMNS)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)

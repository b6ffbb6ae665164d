"""The other baselines of a task, timed once beside the one that scores are relative to.

A score is relative to a task's first baseline. What it would be against another one follows from
that one's own score: their ratio. Each other baseline is evaluated like a candidate, on the search
workloads, and the result is kept in RUNS/baselines.json, where the report finds it.

Covered: timing, the file. Not covered: what the table says (reports/tables_device.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.errors import LogError, UsageError
from harness.folder import read_manifest, write_text
from harness.manifest import check_baselines
from harness.suite import load_suite
from harness.types import Passed

FORMAT = 1
FILE = "baselines.json"


@dataclass(frozen=True)
class OtherBaseline:
    """One baseline of a task beside the first. score, low, high: its speedup over that one with its
    95 % interval, None where it did not pass; problem: why not, "" where it did."""

    task: str
    first: str
    name: str
    version: str
    score: float | None
    low: float | None
    high: float | None
    problem: str


def time_baselines(
    suite_name: str, tasks: Sequence[str], folder: Path | None, say: Callable[[str], None]
) -> list[OtherBaseline]:
    """Time every other baseline of these tasks (none: the suite's default ones).

    folder: a comparison's, whose report is to show them; it must have been judged against the same
    first ones. Raises UsageError, UnknownName, InfraError, EnvironmentMissing.
    """
    from harness.evaluate.local import LocalEvaluator

    suite = load_suite(suite_name)
    chosen = [suite.task(name) for name in tasks or suite.default_tasks]
    if not any(len(task.baselines) > 1 for task in chosen):
        names = ", ".join(task.name for task in chosen)
        raise UsageError(f"There is one baseline only of {names}; expected a task with others.")
    if folder is not None:
        check_baselines(folder, {task.name: task.baselines[0].identity for task in chosen})
    found: list[OtherBaseline] = []
    evaluator = LocalEvaluator(suite_name)
    with closing(evaluator):
        for task in chosen:
            first, *others = task.baselines
            for other in others:
                outcome = evaluator.evaluate_baseline(task.name, other).outcome
                called = task.name, first.name, other.name, other.version
                if isinstance(outcome, Passed):
                    score, low, high = outcome.score, outcome.score_low, outcome.score_high
                    found.append(OtherBaseline(*called, score, low, high, ""))
                    say(f"{task.name}, {other.name}: {outcome.score:.4g} x {first.name}'s speed")
                else:
                    problem = f"{outcome.status}, {outcome.check}: {outcome.message}"
                    found.append(OtherBaseline(*called, None, None, None, problem))
                    say(f"{task.name}, {other.name}: {problem}")
        described = evaluator.describe()
    if folder is not None:
        record = {
            "format": FORMAT,
            "kind": "baselines",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": described["device"],
            "baselines": [asdict(other) for other in found],
        }
        write_text(folder / FILE, json.dumps(record, indent=1) + "\n")
    return found


def of_comparison(folder: Path) -> tuple[str, list[str]]:
    """The suite and the tasks of the comparison in `folder`. Raises LogError."""
    resolved = read_manifest(folder)["resolved"]
    return str(resolved["suite"]), [str(task) for task in resolved["tasks"]]


def read_baselines(folder: Path) -> tuple[str, list[OtherBaseline]]:
    """When and on what the other baselines were timed, in words, and what was found; ("", []) where
    they were not. Raises LogError."""
    path = folder / FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        rows = [OtherBaseline(**row) for row in data["baselines"]]
        return f"{data['device']}, {data['date']}", rows
    except FileNotFoundError:
        return "", []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LogError(
            f"{path} cannot be read ({error!r}). Delete it, or run `harness baselines {folder}`."
        ) from error

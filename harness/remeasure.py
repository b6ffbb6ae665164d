"""A folder of published kernels, measured on this machine: what `harness reproduce --kernels` does.

Each kernel is imported (harness/interchange) and inspected on the task of its definition: every
final and held-out workload, verified on fresh inputs under this project's tolerances and under the
gate that it was published under, and timed beside the baseline, FlashInfer where it is installed.

The record is written whole after each kernel. A kernel that it already has, of the same text, from
the same device with the same packages, is not measured again.

Covered: K-Search's folder `results`, folders of FlashInfer-Bench's Solution JSON files.
Not covered: TriMul submissions (`harness leaderboard trimul`); the record (remeasured.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from harness.environment import fingerprint, git_state, packages
from harness.errors import EnvironmentMissing, InfraError, LogError, UsageError
from harness.evaluate.inspected import Checked, Inspection, Timed
from harness.interchange.importing import candidate_of, task_of
from harness.interchange.ksearch_results import published_kernels, solution_of_kernel
from harness.interchange.solution import Solution, read_solution
from harness.remeasured import (
    Remeasured,
    RemeasuredKernel,
    RemeasuredWorkload,
    read_remeasured,
    write_remeasured,
)
from harness.suite import Suite, Task, load_suite
from harness.types import Candidate, JsonObject, Status

SUITE = "flashinfer"
_JUDGED_BY = ("protocol", "settings", "isolation", "tasks")  # what a verdict depends on


class _Inspecting(Protocol):
    def inspect(self, task: str, candidate: Candidate, *, timed: bool = True) -> Inspection: ...

    def describe(self) -> JsonObject: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Found:
    """A kernel of the folder: what it is a Solution of, or why it is none."""

    name: str
    method: str
    solution: Solution | None
    problem: str = ""


def remeasure(
    folder: Path,
    out: Path,
    say: Callable[[str], None],
    *,
    suite_name: str = SUITE,
    make_evaluator: Callable[[str], _Inspecting] | None = None,
) -> Remeasured:
    """Measure the kernels of `folder`; the record, which is kept in `out`/remeasured.json. Raises
    UsageError where there is no kernel of the suite, EnvironmentMissing without a GPU."""
    found = list(find_kernels(folder))
    suite = load_suite(suite_name)
    programs = [(kernel, *_program(kernel, suite)) for kernel in found]
    if not any(candidate for _, _, candidate, _ in programs):
        reasons = "\n".join(f"  {kernel.name}: {why}" for kernel, _, _, why in programs)
        raise UsageError(f"No kernel of {folder} can be measured on suite {suite_name}:\n{reasons}")
    evaluator = (make_evaluator or _local)(suite_name)
    with closing(evaluator):
        record = _begun(out, evaluator, suite)
        for kernel, task, candidate, why in programs:
            if task is None or candidate is None:
                say(f"{kernel.name}: left out: {why}")
                continue
            if any(_same(known, task, candidate) for known in record.kernels):
                say(f"{kernel.name}: measured before")
                continue
            say(f"{kernel.name}: {len(task.final)} workloads ...")
            try:
                made = _measured(evaluator, task, kernel, candidate)
            except (InfraError, EnvironmentMissing) as error:  # this machine's, not the kernel's
                say(f"{kernel.name}: put off: {error}")
                continue
            one = (made.task, made.method, made.name)
            kept = tuple(k for k in record.kernels if (k.task, k.method, k.name) != one)
            record = replace(record, kernels=(*kept, made), evaluator=_described(evaluator, suite))
            write_remeasured(out, record)
    return record


def find_kernels(folder: Path) -> Iterator[Found]:
    """The kernels in a folder of K-Search's results, else its Solution JSON files. Raises
    UsageError where there is neither."""
    try:
        published = published_kernels(folder)
    except UsageError as error:
        solutions = sorted(folder.rglob("*.json"))
        if not solutions:
            raise UsageError(f"{error} Or Solution JSON files of FlashInfer-Bench.") from error
        for path in solutions:
            try:
                solution = read_solution(path)
            except UsageError as problem:
                yield Found(path.name, "", None, str(problem))
                continue
            yield Found(solution.name, solution.author, solution)
        return
    for kernel in published:
        try:
            yield Found(kernel.name, kernel.method, solution_of_kernel(kernel))
        except UsageError as problem:
            yield Found(kernel.name, kernel.method, None, str(problem))


def _program(kernel: Found, suite: Suite) -> tuple[Task | None, Candidate | None, str]:
    """(task, candidate, "") or (None, None, why it cannot be measured)."""
    if kernel.solution is None:
        return None, None, kernel.problem
    try:
        task = task_of(kernel.solution, suite)
        return task, candidate_of(kernel.solution, task), ""
    except UsageError as error:
        return None, None, str(error)


def _local(suite_name: str) -> _Inspecting:
    from harness.evaluate.local import LocalEvaluator

    return LocalEvaluator(suite_name)


def _begun(out: Path, evaluator: _Inspecting, suite: Suite) -> Remeasured:
    """The record in `out`, if it is of this device and these packages; else an empty one."""
    described = _described(evaluator, suite)
    baselines = dict.fromkeys(
        f"{t.baselines[0].name} {t.baselines[0].version}" for t in suite.tasks
    )
    gates = [t.published_gate.source for t in suite.tasks if t.published_gate is not None]
    fresh = Remeasured(
        datetime.now(UTC).isoformat(timespec="seconds"),
        str(described["device"]),
        "; ".join(baselines),
        {
            "ours": "this project's tolerances per element and in the norm, on two fresh inputs; "
            "timed calls near the baseline's results; the evaluator's protocol",
            "published": "; ".join(dict.fromkeys(gates)) or "none",
        },
        git_state(),
        fingerprint(),
        dict(packages()),
        described,
        (),
    )
    try:
        known = read_remeasured(out)
    except LogError:
        return fresh
    same = (known.hardware, known.packages, known.baseline, known.gates) == (
        fresh.hardware, fresh.packages, fresh.baseline, fresh.gates,
    )  # fmt: skip
    alike = all(known.evaluator.get(name) == described[name] for name in _JUDGED_BY)
    return known if same and alike else fresh


def _described(evaluator: _Inspecting, suite: Suite) -> JsonObject:
    """The evaluator and the versions of the tasks, as they are read back."""
    tasks = {task.name: task.version for task in suite.tasks}
    described: JsonObject = json.loads(json.dumps(evaluator.describe() | {"tasks": tasks}))
    return described


def _same(known: RemeasuredKernel, task: Task, candidate: Candidate) -> bool:
    return known.task == task.name and known.source_hash == candidate.id


def _measured(
    evaluator: _Inspecting, task: Task, kernel: Found, candidate: Candidate
) -> RemeasuredKernel:
    named = task.name, kernel.method, kernel.name, candidate.id
    inspection = evaluator.inspect(task.name, candidate)
    if inspection.build_failure is not None:
        return RemeasuredKernel(*named, failure=inspection.build_failure)
    timed = {t.workload: t for t in inspection.timed}
    rows = tuple(
        _row(checked, timed.get(checked.workload))
        for checked in inspection.checked
        if checked.split == "final"
    )
    wrong = inspection.failures("held_out")
    held_out = wrong[0].status if wrong else Status.PASSED if task.held_out else None
    message = f"{wrong[0].workload}: {wrong[0].message}" if wrong else ""
    return RemeasuredKernel(*named, workloads=rows, held_out=held_out, held_out_message=message)


def _row(checked: Checked, timed: Timed | None) -> RemeasuredWorkload:
    published = checked.published or checked.status  # a task without such a gate
    verdicts = (checked.workload, checked.status, published)
    messages = checked.message, checked.published_message
    if Status.PASSED not in verdicts:
        return RemeasuredWorkload(*verdicts, *messages)
    if timed is None or timed.fresh is None or timed.baseline is None or timed.problem:
        problem = (timed.problem if timed else None) or "it was not timed"
        return RemeasuredWorkload(*verdicts, *messages, problem=problem)
    return RemeasuredWorkload(
        *verdicts, *messages, timed.fresh, timed.baseline, timed.plan_us, timed.baseline_plan_us
    )

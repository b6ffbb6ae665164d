"""What `harness import` and `harness export` do: files of other systems in, files for them out.

Covered: Solution JSON files, folders of K-Search's results, candidates of a run; a kernel whose
task the suite lacks, or that cannot run here, is told and skipped. Not covered: what is printed
(`cli_interchange.py`); evaluating (`harness evaluate` takes what was written).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config import language_named
from harness.errors import UnknownName, UsageError
from harness.evaluate.bundle import read_bundle
from harness.folder import write_text
from harness.interchange.exporting import solution_of
from harness.interchange.importing import candidate_of, task_of
from harness.interchange.ksearch_results import (
    PublishedKernel,
    published_kernels,
    solution_of_kernel,
)
from harness.interchange.solution import Solution, read_solution
from harness.runlog import read_events, read_manifest, read_text
from harness.suite import Suite, load_suite
from harness.types import Candidate, JsonObject, Language, Status

_SUFFIX: dict[Language, str] = {
    "python": ".py", "triton": ".py", "cpp": ".cpp", "cuda": ".cu"
}  # fmt: skip
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]")


@dataclass(frozen=True)
class Imported:
    """One kernel that was found. problem: why it was not written; language, binding and file: where
    it was."""

    name: str
    task: str
    author: str
    binding: str = ""
    language: Language | None = None
    file: Path | None = None
    problem: str | None = None


def import_paths(paths: Sequence[Path], suite_name: str, out: Path) -> list[Imported]:
    """Write a program into `out` for every kernel. Raises UsageError where a path is neither a
    Solution nor a folder of results, and two kernels have one name."""
    suite, rows = load_suite(suite_name), []
    taken: dict[str, str] = {}
    for path in paths:
        for row, solution in _found(path):
            if solution is None:
                rows.append(row)
                continue
            rows.append(_written(row, solution, suite, out, taken))
    return rows


def _found(path: Path) -> Iterator[tuple[Imported, Solution | None]]:
    if path.is_dir():
        for kernel in published_kernels(path):
            yield _published(kernel)
        return
    solution = read_solution(path)
    yield Imported(solution.name, solution.definition, solution.author), solution


def _published(kernel: PublishedKernel) -> tuple[Imported, Solution | None]:
    row = Imported(kernel.name, kernel.task, kernel.method, kernel.binding)
    try:
        return row, solution_of_kernel(kernel)
    except UsageError as error:
        return _with_problem(row, error), None


def _written(
    row: Imported, solution: Solution, suite: Suite, out: Path, taken: dict[str, str]
) -> Imported:
    try:
        candidate = candidate_of(solution, task_of(solution, suite))
    except UsageError as error:
        return _with_problem(row, error)
    name = _UNSAFE.sub("_", solution.name) + _SUFFIX[candidate.language]
    if taken.setdefault(name, candidate.id) != candidate.id:
        raise UsageError(
            f"Two different kernels are called {solution.name!r}. Import them into two folders "
            "(--out)."
        )
    write_text(out / name, candidate.source)
    bundle = read_bundle(candidate.source, candidate.language)
    return Imported(
        row.name,
        row.task,
        row.author,
        bundle.binding if bundle is not None else "",
        candidate.language,
        out / name,
    )


def _with_problem(row: Imported, error: UsageError) -> Imported:
    return Imported(row.name, row.task, row.author, row.binding, problem=str(error))


def export_candidate(
    run: Path, charge: int | None, out: Path, *, name: str, author: str, hardware: str
) -> Solution:
    """Write the candidate of a charge of a run (None: its best) as a Solution JSON. name, author:
    "" for what the run says. Raises LogError, UsageError."""
    manifest = read_manifest(run)
    event = _chosen(run, charge)
    candidate = Candidate(
        language_named(event["language"]), read_text(run, event["source"]), None, event["note"]
    )
    suite, task = manifest["resolved"]["suite"], manifest["task"]
    solution = solution_of(
        candidate,
        load_suite(suite).task(task),
        name=name or f"{manifest['method']}_{task}_{candidate.id}",
        author=author or manifest["arm"],
        hardware=hardware,
    )
    write_text(out, solution.json_text())
    return solution


def _chosen(run: Path, charge: int | None) -> JsonObject:
    """The evaluation event of a program."""
    events = [e for e in read_events(run) if e["kind"] == "evaluation" and e["source"]]
    if charge is None:
        passed = [e for e in events if e["status"] == Status.PASSED.value]
        if not passed:
            raise UsageError(f"No candidate of {run} passed. See them all: harness show {run}")
        return max(passed, key=lambda e: (e["score"], -e["charge"]))
    for event in events:
        if event["charge"] == charge:
            return event
    raise UnknownName(
        f"charge with a program of {run}", str(charge), [str(e["charge"]) for e in events]
    )

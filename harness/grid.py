"""The grid: arms × tasks × seeds over one evaluator.

Runs are independent of each other, so neither the number of threads nor their order changes what a
run does. They start seed by seed, so that an early stop leaves every arm about equally far.

Covered: what each run is given (its card, its start, its models, its clients), and how it stands.
Not covered: what happens inside a run (`search.py`); threads, the boundary that keeps one run's
error from the others, and what comes after all of them (`compare.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.config import Resolved, ResolvedArm
from harness.errors import EnvironmentMissing, LogError
from harness.evaluate import Evaluator
from harness.folder import run_folder
from harness.llm.client import Client
from harness.llm.connect import connect
from harness.manifest import run_share
from harness.metered import Clients, Models
from harness.progress import Progress
from harness.search import RunSpec, run_search
from harness.suite import Suite
from harness.summary import RunSummary, read_summary
from harness.taskcard import card_from_json
from harness.types import Candidate, Evaluation, Failed, JsonObject, JsonScalar


@dataclass(frozen=True)
class RunKey:
    """One cell of the grid."""

    task: str
    arm: ResolvedArm
    seed: int

    def folder(self, comparison: Path) -> Path:
        """The run's folder in the folder of its comparison."""
        return run_folder(comparison, self.task, self.arm.arm.folder, self.seed)


@dataclass(frozen=True)
class Outcome:
    """How a run stands. status "paused": resume goes on; "failed": its method or its log must be
    mended, or it broke the protocol. summary: None where there is no log to read."""

    key: RunKey
    status: Literal["finished", "paused", "failed"]
    reason: str
    summary: RunSummary | None

    @property
    def final(self) -> bool:
        """Whether the log holds an end: the run takes part in the confirmation."""
        return self.summary is not None and self.summary.status != "paused"


def grid_keys(resolved: Resolved) -> list[RunKey]:
    """Every run, in the order in which they start."""
    return [
        RunKey(task, arm, seed)
        for seed in resolved.seeds
        for task in resolved.tasks
        for arm in resolved.arms
    ]


def finished_outcome(key: RunKey, comparison: Path) -> Outcome | None:
    """The outcome of a run whose log holds its end, or None if there is something left to do."""
    folder = key.folder(comparison)
    if not (folder / "events.jsonl").exists():
        return None
    try:
        summary = read_summary(folder)
    except LogError:
        return None  # the run itself says what is wrong with it
    if summary.status == "paused":
        return None
    return Outcome(key, summary.status, summary.reason, summary)


class Grid:
    """Runs the cells of one comparison. Thread-safe: one thread per run.

    comparison: comparison.json. on_progress: called from the runs' threads. stop: ends each run at
    its next safe point.
    """

    def __init__(
        self,
        folder: Path,
        comparison: JsonObject,
        resolved: Resolved,
        suite: Suite,
        evaluator: Evaluator,
        *,
        on_progress: Callable[[Progress], None],
        stop: threading.Event,
    ) -> None:
        self._folder = folder
        self._comparison = comparison
        self._resolved = resolved
        self._evaluator = evaluator
        self._on_progress = on_progress
        self._stop = stop
        self._spaces = {
            task.design_space.name: task.design_space
            for task in suite.tasks
            if task.design_space is not None
        }
        self._starts: dict[str, Evaluation] = {}
        self._locks = {task: threading.Lock() for task in resolved.tasks}

    def search(self, key: RunKey) -> RunSummary:
        """Make or continue one run. Raises what run_search does, and what the method raises."""
        return run_search(
            self._spec(key),
            models=model_schedule(key.arm, self._resolved, key.seed),
            clients=self._clients(key),
            evaluator=self._evaluator,
            on_progress=self._on_progress,
            stop=self._stop,
        )

    def _spec(self, key: RunKey) -> RunSpec:
        card = card_from_json(self._comparison["cards"][key.task])
        start = Candidate(card.language, card.start_source)
        return RunSpec(
            folder=key.folder(self._folder),
            task=card,
            start=start,
            start_evaluation=self._start(key.task, start),
            method=key.arm.method,
            options=key.arm.options,
            arm=key.arm.arm.text,
            seed=key.seed,
            budget=self._resolved.budget,
            manifest=run_share(self._comparison, key.arm.arm.text, key.task),
        )

    def _start(self, task: str, start: Candidate) -> Evaluation:
        """Iteration 0: evaluated once per task, whoever asks first.

        Raises EnvironmentMissing if the starting program does not pass on this machine.
        """
        with self._locks[task]:
            if task not in self._starts:
                self._starts[task] = self._evaluator.evaluate(task, start)
        evaluation = self._starts[task]
        if isinstance(evaluation.outcome, Failed):
            raise EnvironmentMissing(
                f"The starting program of task {task} does not pass on this machine, so nothing "
                f"can be compared on it: {evaluation.feedback} Run `harness doctor`, then "
                f"`harness resume {self._folder}`."
            )
        return evaluation

    def _clients(self, key: RunKey) -> Clients:
        """One client per model of this run: tapes are per run."""
        clients: dict[str, Client] = {}
        lock = threading.Lock()
        name = key.folder(self._folder).relative_to(self._folder).as_posix()

        def client(model: str) -> Client:
            with lock:
                if model not in clients:
                    clients[model] = connect(
                        self._resolved.models[model],
                        self._resolved.llm_level,
                        spaces=self._spaces,
                        run=name,
                    )
                return clients[model]

        return client


def model_schedule(arm: ResolvedArm, resolved: Resolved, seed: int) -> Models:
    """Charges so far → (model, sampling).

    A simulated model answers by the hash of the request, so two seeds of a run whose first prompts
    are equal would get equal replies: the run's seed is part of its sampling settings. A live model
    draws afresh with every call and gets what models.toml says.
    """

    def at(charges: int) -> tuple[str, Mapping[str, JsonScalar]]:
        settings = resolved.models[arm.schedule.at(charges)]
        sampling = settings.request_sampling()
        if settings.kind == "simulated":
            sampling["seed"] = seed
        return settings.name, sampling

    return at

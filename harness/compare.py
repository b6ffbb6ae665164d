"""A comparison from request to report.

1. Resolve the request; lock the folder; continue what it holds, refuse another comparison.
2. Say what a live run will cost, and ask.
3. Make ready what the methods need (prepare.py); make the evaluator; write comparison.json.
4. Run the grid (grid.py) in threads, shown live (live.py).
5. Confirm every run's best, each task in one session (confirm.py).
6. Build the report from the folder, print its path.

What is finished is not done again: in a finished folder only step 6 is left. Ctrl-C (or SIGTERM)
stops each run at its next safe point and says how to resume; a second one ends at once, which loses
nothing either, since every log is append-only.

Exit status: 0 all runs finished, 3 some are paused or failed, 130 interrupted.
"""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol, cast

from rich.console import Console

from harness.config import ComparisonRequest, Resolved, request_from_json, resolve
from harness.confirm import (
    RunContenders,
    confirm_task,
    confirmed_contenders,
    phases_in_words,
    read_contenders,
    write_confirmation,
)
from harness.costs import ask_about_containers, ask_about_costs
from harness.environment import cores
from harness.errors import EnvironmentMissing, HarnessError, InfraError, LogError
from harness.evaluate import Evaluator
from harness.evaluate.machine import busy
from harness.evaluate.modal.ledger import spent_in_words
from harness.evaluators import MakeEvaluator, chosen_evaluator
from harness.folder import check_same, locked, read_manifest, write_text, write_unstarted
from harness.grid import Grid, Outcome, RunKey, finished_outcome, grid_keys
from harness.interrupt import interruptible, results
from harness.live import LiveView, RunView
from harness.loading import load
from harness.manifest import check_evaluator, write_comparison, write_device_lock
from harness.prepare import prepare_methods
from harness.progress import Progress
from harness.runlog import restart as restart_run
from harness.suite import load_suite
from harness.types import Candidate

LIVE_JOBS = 16  # runs that wait for an endpoint cost this machine next to nothing

FINISHED, INCOMPLETE, INTERRUPTED = 0, 3, 130


class _Report(Protocol):
    """What the report's builder returns, as far as it is used here."""

    @property
    def page(self) -> Path: ...


def compare(
    request: ComparisonRequest,
    folder: Path,
    *,
    jobs: int = 0,
    yes: bool = False,
    restart: bool = False,
    make_evaluator: MakeEvaluator = chosen_evaluator,
    console: Console | None = None,
) -> int:
    """Make or continue a comparison; returns the exit status.

    jobs: runs side by side; 0 chooses. yes: start without asking. restart: start runs over whose
    log and method disagree. Raises UsageError, EnvironmentMissing, LogError before any run starts.
    """
    console = console or Console(stderr=True)
    resolved = resolve(request)
    with locked(folder):
        comparison = Comparison(request, resolved, folder, restart=restart, console=console)
        if not comparison.begun:
            ask_about_costs(resolved, yes, console)
            ask_about_containers(resolved, yes, console)
        status = comparison.carry_out(make_evaluator, jobs or default_jobs(resolved))
        if status != INTERRUPTED:
            console.print("Writing the report ...", highlight=False)
            with busy():
                path = build_report(folder)
            print(f"Report: {path}")
    return status


def resume(
    folder: Path,
    *,
    jobs: int = 0,
    yes: bool = False,
    restart: bool = False,
    make_evaluator: MakeEvaluator = chosen_evaluator,
    console: Console | None = None,
) -> int:
    """Continue the comparison in `folder`; returns the exit status. Raises LogError if there is
    none, and what `compare` raises."""
    request = request_from_json(read_manifest(folder)["asked"])
    return compare(
        request,
        folder,
        jobs=jobs,
        yes=yes,
        restart=restart,
        make_evaluator=make_evaluator,
        console=console,
    )


def build_report(folder: Path) -> Path:
    """Write RUNS/report from the run logs; the path of its page. Raises LogError."""
    read_manifest(folder)
    build = load("report", "html", {"html": "reports.build:build_report"})
    return cast(Callable[[Path], _Report], build)(folder).page


def default_jobs(resolved: Resolved) -> int:
    """Enough runs to keep the evaluator busy: while one is timed, others think and build."""
    runs = len(resolved.arms) * len(resolved.tasks) * len(resolved.seeds)
    if resolved.modal is not None:
        return min(runs, resolved.modal.containers)
    live = any(settings.kind != "simulated" for settings in resolved.models_used.values())
    return min(runs, LIVE_JOBS if live else cores() + 2)


class Comparison:
    """One process's work on one comparison, in a folder that it holds."""

    def __init__(
        self,
        request: ComparisonRequest,
        resolved: Resolved,
        folder: Path,
        *,
        restart: bool,
        console: Console,
    ) -> None:
        self._request = request
        self._resolved = resolved
        self._folder = folder
        self._restart = restart
        self._console = console
        self.begun = check_same(folder, resolved.to_json())
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._under_way: list[str] = []  # tasks that are being confirmed
        self._unprepared: dict[str, str] = {}
        self._keys = grid_keys(resolved)
        self._view = LiveView(
            [RunView(key.task, key.arm.arm.text, key.seed) for key in self._keys],
            resolved.budget.charges,
            console=console,
        )

    def carry_out(self, make_evaluator: MakeEvaluator, jobs: int) -> int:
        """Steps 3 to 5 of the module's docstring; the exit status."""
        with self._view, interruptible(self._stop, self._on_interrupt):
            done = {key: finished_outcome(key, self._folder) for key in self._keys}
            for outcome in done.values():
                if outcome is not None:
                    self._show_end(outcome)
            self._view.already_done(
                sum(o.summary.charges for o in done.values() if o is not None and o.summary)
            )
            outcomes = [outcome for outcome in done.values() if outcome is not None]
            pending = [key for key, outcome in done.items() if outcome is None]
            if pending or not self.begun or self._unconfirmed(outcomes):
                with self._prepared(make_evaluator, pending) as evaluator:
                    if self.begun:
                        check_evaluator(self._folder, evaluator)
                    else:
                        write_comparison(self._folder, self._request, self._resolved, evaluator)
                    outcomes += self._search(evaluator, pending, jobs)
                    complete = self._confirm(evaluator, outcomes)
                    if (held := write_device_lock(self._folder, evaluator)) is not None:
                        self._view.say(held)
                    if (spent := spent_in_words(self._folder)) is not None:
                        self._view.say(spent)
            else:
                complete = True
            self._view.phase("done" if not self._stop.is_set() else "stopped")
        return self._status(outcomes, complete)

    @contextmanager
    def _prepared(
        self, make_evaluator: MakeEvaluator, pending: Sequence[RunKey]
    ) -> Iterator[Evaluator]:
        """The evaluator, and what the methods need: side by side but on a CPU, whose peaks are
        measured when its evaluator starts."""
        methods = {key.arm.arm.method: key.arm.method for key in pending}.values()
        with ThreadPoolExecutor(1) as pool:
            preparing = pool.submit(prepare_methods, methods, self._view.say, self._stop)
            if load_suite(self._resolved.suite).device == "cpu":
                self._view.phase("preparing the methods")
                results([preparing], self._view.tick)
                self._view.phase("preparing the evaluator (compiler, isolation, peaks)")
            else:
                self._view.phase("preparing the methods and the evaluator")
            with closing(make_evaluator(self._resolved, self._folder)) as evaluator:
                (self._unprepared,) = results([preparing], self._view.tick)
                yield evaluator

    def _search(self, evaluator: Evaluator, pending: Sequence[RunKey], jobs: int) -> list[Outcome]:
        self._view.phase("searching")
        grid = Grid(
            self._folder,
            read_manifest(self._folder),
            self._resolved,
            load_suite(self._resolved.suite),
            evaluator,
            on_progress=self._on_progress,
            stop=self._stop,
        )
        with ThreadPoolExecutor(max(1, min(jobs, len(pending)))) as pool:
            futures = [pool.submit(self._run, grid, key) for key in pending]
            outcomes = results(futures, self._view.tick)
        never = [o for o in outcomes if not (o.key.folder(self._folder) / "manifest.json").exists()]
        reasons = {(o.key.task, o.key.arm.arm.text, o.key.seed): o.reason for o in never}
        write_unstarted(self._folder, reasons)
        return outcomes

    def _run(self, grid: Grid, key: RunKey) -> Outcome:
        """The boundary of one run: whatever it raises becomes its outcome."""
        folder = key.folder(self._folder)
        reason = self._unprepared.get(key.arm.method.name)
        if self._stop.is_set():
            reason = "stopped on request, before it began"
        if reason is not None:
            self._view.state(key.task, key.arm.arm.text, key.seed, "paused")
            return Outcome(key, "paused", reason, None)
        self._view.state(key.task, key.arm.arm.text, key.seed, "running")
        try:
            try:
                summary = grid.search(key)
            except LogError:
                if not self._restart:
                    raise
                restart_run(folder)
                summary = grid.search(key)
            outcome = Outcome(key, summary.status, summary.reason, summary)
        except (EnvironmentMissing, InfraError) as error:
            outcome = Outcome(key, "paused", str(error), None)
        except HarnessError as error:
            outcome = Outcome(key, "failed", str(error), None)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a method must not end the grid
            reason = f"{type(error).__name__}: {error} ({_save_traceback(folder)})"
            outcome = Outcome(key, "failed", reason, None)
        self._show_end(outcome)
        return outcome

    def _confirm(self, evaluator: Evaluator, outcomes: Sequence[Outcome]) -> bool:
        """Confirm the tasks that need it, as many at once as there are devices; whether every one
        of them could be."""
        tasks = self._unconfirmed(outcomes)
        if not tasks or self._stop.is_set():
            return not tasks
        modal = self._resolved.modal
        devices = modal.containers if modal else len(evaluator.describe().get("gpus", ())) or 1
        with ThreadPoolExecutor(min(devices, len(tasks))) as pool:
            futures = [pool.submit(self._confirm_one, evaluator, t, outcomes) for t in tasks]
            confirmed = results(futures, self._view.tick)
        return all(confirmed)

    def _confirm_one(self, evaluator: Evaluator, task: str, outcomes: Sequence[Outcome]) -> bool:
        """Whether it could be confirmed."""
        if self._stop.is_set():
            return False
        card = read_manifest(self._folder)["cards"][task]
        start = Candidate(card["language"], card["start_source"])
        self._confirming(task, under_way=True)
        try:
            result = confirm_task(evaluator, task, start, self._contenders(task, outcomes))
        except InfraError as error:
            self._view.say(f"The confirmation of {task} is put off: {error}")
            return False
        finally:
            self._confirming(task, under_way=False)
        write_confirmation(self._folder, result)
        if (spent := phases_in_words(result.confirmation)) is not None:
            self._view.say(f"Confirming {task} {spent}")
        return True

    def _confirming(self, task: str, *, under_way: bool) -> None:
        """Show which tasks are being confirmed."""
        with self._lock:
            (self._under_way.append if under_way else self._under_way.remove)(task)
            if self._under_way:
                self._view.phase(f"confirming {', '.join(self._under_way)}")

    def _unconfirmed(self, outcomes: Sequence[Outcome]) -> list[str]:
        """Tasks with ended runs whose best programs are not those of the written confirmation."""
        tasks = []
        for task in self._resolved.tasks:
            runs = self._contenders(task, outcomes)
            path = self._folder / "confirm" / f"{task}.json"
            now = [(run.arm, run.seed, [c.candidate.id for c in run.contenders]) for run in runs]
            if runs and confirmed_contenders(path) != now:
                tasks.append(task)
        return tasks

    def _contenders(self, task: str, outcomes: Sequence[Outcome]) -> list[RunContenders]:
        """The ended runs of a task, in the grid's order."""
        ended = {outcome.key for outcome in outcomes if outcome.final}
        return [
            read_contenders(key.folder(self._folder), key.arm.arm.text, key.seed)
            for key in self._keys
            if key.task == task and key in ended
        ]

    def _on_interrupt(self, times: int) -> None:
        if times == 1:
            self._view.say("Stopping at the next safe point of each run (once more: end now).")
            return
        # Not by closing the evaluator, which waits for the request under way: everything below this
        # process ends with it.
        self._console.show_cursor(True)
        os._exit(INTERRUPTED)

    def _status(self, outcomes: Sequence[Outcome], complete: bool) -> int:
        stopped = [outcome for outcome in outcomes if outcome.status != "finished"]
        if stopped or not complete:
            paused = [outcome.key.arm for outcome in stopped if outcome.status == "paused"]
            anew = {a.arm.text for a in paused if a.method.replicates(a.options) is not None}
            but = f" (runs of {', '.join(sorted(anew))} begin anew)" if anew else ""
            self._view.say(
                f"{len(outcomes) - len(stopped)} of {len(self._keys)} runs finished, {len(paused)} "
                f"paused, {len(stopped) - len(paused)} failed. Nothing is lost{but}; to go on: "
                f"harness resume {self._folder}"
            )
        if self._stop.is_set():
            return INTERRUPTED
        return INCOMPLETE if stopped or not complete else FINISHED

    def _on_progress(self, progress: Progress) -> None:
        self._view.update(
            RunView(
                progress.task,
                progress.arm,
                progress.seed,
                charges=progress.charges,
                best=progress.best_score,
                failures=progress.failures,
                tokens=progress.usage.tokens,
                dollars=progress.usage.dollars,
                state="running",
                doing=progress.phase,
            )
        )

    def _show_end(self, outcome: Outcome) -> None:
        key, summary = outcome.key, outcome.summary
        self._view.end(
            key.task,
            key.arm.arm.text,
            key.seed,
            outcome.status,
            summary.charges if summary else None,
            summary.best_score if summary else None,
            summary.failures if summary else 0,
            summary.usage.tokens if summary else 0,
        )
        if outcome.status != "finished":
            self._view.say(
                f"{key.task}, {key.arm.arm.text}, seed {key.seed} {outcome.status}: "
                f"{outcome.reason}"
            )


def _save_traceback(folder: Path) -> str:
    """Write the traceback at hand into the run's folder; where it is, in words."""
    path = folder / "error.txt"
    try:
        write_text(path, traceback.format_exc())
    except EnvironmentMissing as error:
        return f"its traceback could not be saved: {error}"
    return f"traceback: {path}"

"""THE loop of one run: next proposal → evaluate → log → hand back, until the budget says stop.

1. Open the run's folder (runlog.py: one writer). A finished run is only summarised.
2. Write the manifest, or compare it and the method's code with the recorded ones (attempt.py).
3. Log iteration 0, the starting program: charge 0, never counted. A later attempt takes the
   recorded one.
4. Start the method's generator with its problem (problem.py).
5. Ask whether the budget allows one more evaluation (budget.py). If not, the method gets the last
   evaluation, to record what it learned, but no call of the model; then end.
6. Step the generator under the machine lock. Its LLM calls go through metered.py.
7. Check what it yielded. Evaluate it, a list concurrently; a proposal without a program costs a
   charge too. Log in the order of the list, count, and send the evaluations back. Go to 5.
8. Close the generator, write why the run ended.

Resume is the same loop: journal.py serves what the log holds, and compares what is done with it.
A method that cannot do the same again (Method.replicates) starts over; its attempt is kept.
A method sees the same evaluation live and replayed: without raw samples and cache marks.

How a run ends: `finished` with the limit or "method finished"; `failed: ...` where the method broke
the protocol (a yield of another type); `paused` where going on later makes sense: the user's stop,
a failure of the evaluator or the endpoint, an exception of the method (which is raised on, and
after a fix the run resumes). Not covered: many runs at once (compare.py); a method that computes
for ever without yielding or asking.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.attempt import METHOD_RAISED, RunSpec, begin_attempt, put_replicate_aside
from harness.budget import Meter
from harness.errors import (
    BudgetExhausted,
    EnvironmentMissing,
    HarnessError,
    InfraError,
    LogError,
)
from harness.evaluate import Evaluator
from harness.evaluate.machine import busy
from harness.journal import Journal, cut, evaluation_fields, recorded_evaluation_of
from harness.metered import Clients, Interruption, Models, RunInterrupted, RunLLM, StopRequested
from harness.method import Search
from harness.problem import RunProblem
from harness.progress import Progress
from harness.proposal import no_code, what_is_wrong
from harness.reply import unusable_source
from harness.runlog import RunLog, restart
from harness.summary import RunSummary, read_summary, summarise
from harness.types import (
    Candidate,
    Evaluation,
    JsonObject,
    NoCode,
    Proposal,
    Status,
    evaluation_from_json,
    evaluation_to_json,
)

__all__ = [
    "Progress", "RunSpec", "RunSummary", "read_summary", "restart", "run_search",
]  # fmt: skip

MAX_CONCURRENT_EVALUATIONS = 16  # threads of one list; the evaluator limits the real work itself


def run_search(
    spec: RunSpec,
    *,
    models: Models,
    clients: Clients,
    evaluator: Evaluator,
    on_progress: Callable[[Progress], None],
    stop: threading.Event,
) -> RunSummary:
    """Make or continue one run until it ends, pauses or `stop` is set.

    Raises LogError (locked or damaged folder; ReplayMismatch if the log and the method disagree),
    EnvironmentMissing (disk), UsageError (unknown price), and whatever the method raises.
    """
    put_replicate_aside(spec)
    with RunLog.open(spec.folder) as log:
        if log.events and log.events[-1]["kind"] == "finished":
            return summarise(spec.folder, log.events)
        begin_attempt(spec, log)
        run = Run(spec, Journal(log), models, clients, evaluator.evaluate, on_progress, stop)
        run.drive()
        return summarise(spec.folder, log.events)


class Run:
    """One attempt at a run, over an open journal."""

    def __init__(
        self,
        spec: RunSpec,
        journal: Journal,
        models: Models,
        clients: Clients,
        evaluate: Callable[[str, Candidate], Evaluation],
        on_progress: Callable[[Progress], None],
        stop: threading.Event,
    ) -> None:
        self.spec = spec
        self._journal = journal
        self._evaluate_program = evaluate
        self._on_progress = on_progress
        self._stop = stop
        self._meter = Meter(spec.budget)
        self._interruption = Interruption()
        self._best_score: float | None = None
        self._last_status: Status | None = None
        self._failures = 0
        self._in_method = False
        self._llm = RunLLM(
            journal=journal,
            meter=self._meter,
            models=models,
            clients=clients,
            interruption=self._interruption,
            stop=stop,
            on_call=lambda: self._report("asking the model"),
        )

    def drive(self) -> None:
        """Steps 3 to 8 of the module's docstring."""
        with self._pausing(), ExitStack() as temporary:
            spec = self.spec
            start_evaluation = self._log_start()
            problem = RunProblem(
                task=spec.task,
                start=spec.start,
                start_evaluation=start_evaluation,
                llm=self._llm,
                options=spec.options,
                method=spec.method.name,
                seed=spec.seed,
                meter=self._meter,
                journal=self._journal,
                interruption=self._interruption,
                workspace=lambda: self._workspace(temporary),
                check_stop=self._check_stop,
            )
            reason = self._search(problem)
            self._journal.finish(
                {
                    "reason": cut(reason),
                    "charges": self._meter.charges,
                    "llm_calls": self._meter.llm_calls,
                }
            )
            self._report(reason)

    def _workspace(self, temporary: ExitStack) -> Path:
        """The attempt's folder in the run's; outside it where the log is only read."""
        log = self._journal.log
        if not log.writable:
            return Path(temporary.enter_context(TemporaryDirectory(prefix="harness-replay-")))
        number = sum(event["kind"] == "attempt" for event in log.events)
        return log.make_folder(f"workspace/{number}")

    def _search(self, problem: RunProblem) -> str:
        """Run the generator to its end; the reason why it ended."""
        with self._method_steps():
            search = self.spec.method.search(problem)
        if not isinstance(search, Generator):
            return (
                f"failed: {self.spec.method.name} returned {type(search).__name__}, expected a "
                "generator: a method's search function yields proposals"
            )
        with self._closing(search):
            answer: Evaluation | list[Evaluation] | None = None
            while True:
                limit = self._meter.evaluation_exceeded()
                if limit is not None:
                    self._llm.ended = f"budget: {limit}"  # it may record, but not ask
                    if answer is None:
                        return self._llm.ended
                self._check_stop()
                try:
                    yielded = self._step(search, answer)
                except StopIteration:
                    return self._llm.ended or "method finished"
                except BudgetExhausted as exhausted:
                    return self._llm.ended or f"budget: {exhausted.limit}"
                if self._llm.ended is not None:
                    return self._llm.ended  # the method caught BudgetExhausted and went on
                self._llm.proposal_made()
                wrong = what_is_wrong(yielded, self.spec.task)
                if wrong:
                    return f"failed: {self.spec.method.name} {wrong}"
                proposals = yielded if isinstance(yielded, list) else [yielded]
                allowed = self._meter.charges_left
                evaluations = self._evaluate(proposals[:allowed])
                if len(evaluations) < len(proposals):
                    return f"budget: {self._meter.evaluation_exceeded()}"  # the list was cut
                answer = evaluations if isinstance(yielded, list) else evaluations[0]

    def _step(
        self, search: Search, answer: Evaluation | list[Evaluation] | None
    ) -> Proposal | list[Proposal]:
        self._report("searching")
        with self._method_steps():
            return search.send(answer)

    @contextmanager
    def _method_steps(self) -> Iterator[None]:
        """Around code of the method. Afterwards the harness's own failure wins, also where the
        method swallowed it and yielded, returned or raised something else."""
        self._in_method = True
        try:
            with busy():
                yield
        except SystemExit as error:
            # It would end this thread without a word; as an Exception the run's boundary sees it.
            raise RuntimeError(f"the method called sys.exit({error.code!r})") from error
        finally:
            if self._interruption.error is not None:
                self._in_method = False
                raise self._interruption.error
        self._in_method = False

    @contextmanager
    def _closing(self, search: Search) -> Iterator[None]:
        """Close the generator at the end. Its clean-up may still record where the run is finished,
        but neither call the model nor, where the run only pauses, write anything."""
        try:
            yield
        except BaseException as error:
            self._interruption.error = self._interruption.error or error
            with suppress(RunInterrupted, BudgetExhausted, RuntimeError):
                search.close()
            raise
        self._llm.ended = self._llm.ended or "the run has ended"
        with self._method_steps():
            try:
                search.close()
            except BudgetExhausted:
                pass
            except RuntimeError as error:
                # A generator that yields on GeneratorExit cannot be stopped, only left alone.
                if "ignored GeneratorExit" not in str(error):
                    raise

    def _log_start(self) -> Evaluation:
        spec, journal = self.spec, self._journal
        recorded = journal.recorded_evaluation()
        if recorded is None:
            evaluation = spec.start_evaluation
        else:
            evaluation = recorded_evaluation_of(journal.log, recorded)
        return self._log_evaluation(spec.start, evaluation, recorded)

    def _evaluate(self, proposals: Sequence[Proposal]) -> list[Evaluation]:
        """Evaluate what the log does not answer, log everything in order, count the charges."""
        done: list[Evaluation] = []
        for proposal in proposals:
            recorded = self._journal.recorded_evaluation()
            if recorded is None:
                break
            evaluation = recorded_evaluation_of(self._journal.log, recorded)
            done.append(self._charge(proposal, evaluation, recorded))
        rest = proposals[len(done) :]
        if not rest:
            return done
        self._check_stop()
        self._report("evaluating")
        if len(rest) == 1:
            return [*done, self._charge(rest[0], self._evaluate_one(rest[0]), None)]
        with ThreadPoolExecutor(min(len(rest), MAX_CONCURRENT_EVALUATIONS)) as pool:
            futures = [pool.submit(self._evaluate_one, proposal) for proposal in rest]
            try:
                for proposal, future in zip(rest, futures, strict=True):
                    done.append(self._charge(proposal, future.result(), None))
            finally:
                for future in futures:
                    future.cancel()
        return done

    def _evaluate_one(self, proposal: Proposal) -> Evaluation:
        reason = (
            proposal.reason if isinstance(proposal, NoCode) else unusable_source(proposal.source)
        )
        if isinstance(proposal, NoCode) or reason is not None:
            return no_code(str(reason))
        evaluation = self._evaluate_program(self.spec.task.name, proposal)
        if evaluation.status is Status.INFRA_ERROR:
            raise InfraError(evaluation.feedback)
        return evaluation

    def _charge(
        self, proposal: Proposal, evaluation: Evaluation, recorded: JsonObject | None
    ) -> Evaluation:
        self._meter.add_evaluation(evaluation)
        self._failures += not evaluation.passed
        return self._log_evaluation(proposal, evaluation, recorded)

    def _log_evaluation(
        self, proposal: Proposal, evaluation: Evaluation, recorded: JsonObject | None
    ) -> Evaluation:
        """Log or compare; returns the evaluation as a method sees it."""
        log = self._journal.log
        if recorded is None:
            samples = log.put_samples(self._meter.charges, evaluation)
            cached = evaluation.cached
            evaluation = _as_read_back(evaluation)
        else:
            samples, cached = recorded["samples"], recorded["cached"]
        if isinstance(proposal, Candidate) and evaluation.candidate_id is None:
            proposal = NoCode("unusable program")
        fields = evaluation_fields(
            log,
            proposal,
            self.spec.task.language,
            evaluation,
            self._meter,
            samples=samples,
            cached=cached,
        )
        self._journal.evaluation(proposal, fields, recorded)
        score = evaluation.score
        if score is not None and (self._best_score is None or score > self._best_score):
            self._best_score = score
        self._last_status = evaluation.status
        self._report("replaying" if self._journal.replaying else "searching")
        return evaluation

    def _check_stop(self) -> None:
        if self._stop.is_set() and not self._journal.replaying:
            raise StopRequested("stopped on request")

    @contextmanager
    def _pausing(self) -> Iterator[None]:
        """Log why the run stops before its end. A failure that may pass is swallowed: the run is
        paused and can be resumed; anything else is raised on."""
        try:
            yield
        except LogError:
            raise  # the log disagrees or cannot be written: it stays as it is
        except BaseException as error:
            words = f"{type(error).__name__}: {error}"
            if isinstance(error, KeyboardInterrupt):
                self._pause("interrupted from the keyboard")
            elif self._in_method:
                self._pause(METHOD_RAISED + words)
            else:
                harness = isinstance(error, HarnessError | StopRequested)
                self._pause(str(error) if harness else words)
                if isinstance(error, InfraError | StopRequested):
                    return
            raise

    def _pause(self, reason: str) -> None:
        if self._journal.log.writable:
            with suppress(EnvironmentMissing):  # a full disk is what is being reported
                self._journal.log.append("paused", {"reason": cut(reason)})
        self._report("paused")

    def _report(self, phase: str) -> None:
        self._on_progress(
            Progress(
                arm=self.spec.arm,
                task=self.spec.task.name,
                seed=self.spec.seed,
                charges=self._meter.charges,
                budget=self.spec.budget,
                best_score=self._best_score,
                last_status=self._last_status,
                failures=self._failures,
                usage=self._meter.usage,
                seconds=self._meter.seconds,
                phase=phase,
            )
        )


def _as_read_back(evaluation: Evaluation) -> Evaluation:
    """The evaluation as the log will give it back, so that live and replayed are the same."""
    plain = replace(evaluation, cached=False, samples_us={})
    return evaluation_from_json(json.loads(json.dumps(evaluation_to_json(plain))))

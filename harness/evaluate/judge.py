"""The judge of one task: builds nothing, trusts nothing, decides everything.

Stages, stop at the first failure:

1. smoke: the smallest workload, one call, verified in full;
2. correctness: workloads on `Bench.correctness_seeds` fresh inputs, each verified in full;
3. timing: paired blocks against the baseline on fresh inputs; every call is held against the
   baseline's outputs, and of the blocks that the bench draws one call, drawn afterwards, is
   verified in full; then the two clocks, the roofline floor and the libraries that were loaded.

Seeds derive from a secret that only the judge has. No input content serves two calls of a worker.

Covered: search (`Judge.evaluate`) and verification (`Judge.verify`), shared with `confirmation.py`.
Not covered: building (`build.py`), caching and sharing (`local.py`).
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from harness.errors import InfraError
from harness.evaluate.bench import Bench, Blocks, Calls
from harness.evaluate.clocks import hold_to_floor
from harness.evaluate.gathered import Timing, Verified
from harness.evaluate.program import Call, CandidateFailure, Clocks, Contents, Program
from harness.evaluate.settings import EvaluatorSettings
from harness.evaluate.side import Side
from harness.evaluate.timing import log_interval, mean_over_workloads
from harness.evaluate.verdict import (
    Samples,
    Verdict,
    after_disputes,
    failed,
    fastest_ns,
    is_disputed,
    latencies_us,
    no_room,
    slow_flag,
    wants_a_compiler,
)
from harness.evaluate.verification import check_block, check_call, smallest
from harness.suite import Task
from harness.types import Passed, Stage, Status, Workload


class BaselineFailure(InfraError):
    """The baseline failed. told: how."""

    def __init__(self, task: Task, told: str) -> None:
        super().__init__(
            f"The baseline {task.baselines[0].name} of task {task.name} failed: {told}. "
            "Run `harness doctor`."
        )
        self.told = told


class Judge:
    """Judges candidates of one task on one device. Not thread-safe: one device, one judge.

    secret: seeds of inputs derive from it.
    """

    def __init__(self, bench: Bench, secret: bytes) -> None:
        self.bench = bench
        self.task = bench.task
        self.settings: EvaluatorSettings = bench.settings
        self._secret = secret
        self._baseline: Side | None = None
        self._baseline_ns: dict[Workload, int] = {}  # of what its worker has run
        self._kernels = b""  # that the baseline's workers have compiled
        # Finalists that were verified on every final workload: as given, with their kernels, and
        # what was disputed of them.
        self.verified: dict[str, tuple[Program, Program, list[str]]] = {}
        self.compiling_seconds = 0.0
        self._deadline = math.inf

    def close(self) -> None:
        self.close_baseline()
        self.bench.close()

    def close_baseline(self) -> None:
        """End the baseline's worker; the next evaluation starts another."""
        self.bench.forget()
        if self._baseline is not None:
            self.keep_compiled(self._baseline)
            self._baseline.close()
            self._baseline = None
            self._baseline_ns = {}

    def baseline_program(self) -> Program:
        baseline = self.task.baselines[0]
        code = baseline.source.encode()
        return Program(baseline.language, code, trusted=True, kernels=self._kernels, baseline=True)

    def generator(self, candidate_id: str, purpose: str) -> np.random.Generator:
        """The stream of inputs for one candidate and purpose: secret until the calls are made."""
        text = f"{self.task.name}\n{self.task.version}\n{candidate_id}\n{purpose}"
        digest = hashlib.blake2b(text.encode(), key=self._secret, digest_size=16).digest()
        return np.random.Generator(np.random.SFC64(int.from_bytes(digest, "little")))

    def evaluate(self, candidate_id: str, program: Program) -> Verdict:
        """Judge one candidate on the search workloads."""
        with self.bench.alone():
            before = self.compiling_seconds
            with self.in_time():
                verdict = self._evaluate(candidate_id, program)
                if program.complete and wants_a_compiler(verdict.outcome):
                    program = replace(program, complete=False)
                    verdict = self._evaluate(candidate_id, program)
            disputes: list[Verdict] = []
            while self._doubtful(verdict) and len(disputes) < self.settings.disputes:
                disputes.append(verdict)
                with self.in_time():
                    verdict = self._evaluate(candidate_id, program, len(disputes))
            verdict = after_disputes(verdict, disputes)
            return replace(verdict, compiling_seconds=self.compiling_seconds - before)

    def _doubtful(self, verdict: Verdict) -> bool:
        """Whether a verdict is disputed, and there is time to look again: both times together must
        not outlast the container that the program is judged in."""
        most = self.settings.evaluation_seconds / 2
        return is_disputed(verdict.outcome) and verdict.device_seconds < most

    @contextmanager
    def in_time(self) -> Iterator[None]:
        """Within it, calls raise CandidateFailure once they have taken too long together."""
        self._deadline = time.monotonic() + self.settings.evaluation_seconds
        try:
            yield
        finally:
            self._deadline = math.inf

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise CandidateFailure(
                Status.TIMEOUT,
                "evaluation",
                f"its calls took more than {self.settings.evaluation_seconds:g} s together",
            )

    def _evaluate(self, candidate_id: str, program: Program, again: int = 0) -> Verdict:
        bench, search = self.bench, self.task.search
        started = time.perf_counter()
        stage, workload = Stage.SMOKE, smallest(self.task, search)
        rng = self.generator(candidate_id, f"search {again}" if again else "search")
        verified: dict[Workload, list[Verified]] = {}
        try:
            with bench.busy(), bench.expecting(self._to_verify(workload, rng)) as calls:
                side = bench.start(program, search, compiles=True)
            with side:
                with bench.busy():
                    for workload, contents in calls:
                        verified[workload] = self.verify(side, workload, contents, rng)
                        stage = Stage.CORRECTNESS
                sealed = bench.sealed(program, side)
                stage, timing_started = Stage.TIMING, time.perf_counter()
                if sealed is None:
                    timings = self._time_all(side, rng, verified)
            if sealed is not None:
                with bench.start(sealed, search) as side:
                    timings = self._time_all(side, rng, {})
            timed = {w: (t.candidate, t.baseline) for w, t in timings.items()}
            for settled, flag in bench.settle_clocks(sealed or program, timed, rng).items():
                timings[settled].flags.append(flag)
        except CandidateFailure as failure:
            failed_on = failure.workload or workload.name
            return Verdict(failed(failure, stage, failed_on), time.perf_counter() - started)
        except BaselineFailure as failure:
            told = failed(self.blame(failure, search, rng), stage, None)
            return Verdict(told, time.perf_counter() - started)
        except bench.device_errors() as error:
            self.close_baseline()  # it may have been bound by half
            outcome = failed(no_room(error), stage, workload.name)
            return Verdict(outcome, time.perf_counter() - started)
        now = time.perf_counter()
        return self._passed(timings, now - started, now - timing_started)

    def _to_verify(self, first: Workload, rng: np.random.Generator) -> Calls:
        """One call of the first workload, then of each as many as are asked for."""
        seeds = self.bench.correctness_seeds
        yield first, self.bench.to_verify(first, rng, 1)
        for workload in self.task.search:
            if seeds > 1 or workload != first:
                yield workload, self.bench.to_verify(workload, rng, seeds)

    def verify(
        self, side: Side, workload: Workload, contents: Sequence[Contents], rng: np.random.Generator
    ) -> list[Verified]:
        """Bind a workload and verify calls in full. Returns those that can stand for timed calls,
        the last one at least, where a worker stays warm. Raises CandidateFailure."""
        side.bind(workload, self.bench.verification_slots)
        hosts: list[int] = []
        made: list[Verified] = []
        for start in range(0, len(contents), side.slots):
            self._check_time()
            for call in side.run_block(contents[start : start + side.slots], rng):
                hosts.append(call.clocks.worker.host_ns)
                if self.bench.stays_warm:
                    made.append(Verified(call.contents, call.clocks))
                check_call(self.bench, workload, call)
        # On a GPU the first call compiles and loads what is missing, the others show the rest.
        self.compiling_seconds += (hosts[0] - min(hosts)) / 1e9
        return [v for v in made if v.clocks.queued] or made[-1:]

    def _time_all(
        self, side: Side, rng: np.random.Generator, verified: Mapping[Workload, Sequence[Verified]]
    ) -> dict[Workload, Timing]:
        """verified: what this worker has run before."""
        timings = {}
        for workload in self.task.search:
            try:
                with self.bench.quiet():
                    timings[workload] = self._time(side, workload, rng, verified.get(workload, ()))
            except CandidateFailure as failure:
                failure.workload = workload.name
                raise
        self.bench.check_libraries(side)
        return timings

    def _time(
        self,
        side: Side,
        workload: Workload,
        rng: np.random.Generator,
        verified: Sequence[Verified],
    ) -> Timing:
        """Paired blocks of one workload. The machine is held alone by the caller. verified: calls
        of it that this worker has made."""
        bench, baseline = self.bench, self._baseline_side()
        known = self._baseline_ns.get(workload)
        slots = bench.block_slots(workload, known) if known else None
        side.bind(workload, slots)
        self.bind_baseline(baseline, workload, slots)
        warm = [bench.fresh(workload, rng) for _ in range(bench.warmup_calls)]
        if verified:
            latency_ns = min(v.clocks.latency_ns for v in verified)
        else:
            latency_ns = fastest_ns(side.run_block(warm, rng))
        if workload not in self._baseline_ns or not bench.stays_warm:
            self._baseline_ns[workload] = self.usual_ns(baseline, warm, rng)
        usual = self._baseline_ns[workload]
        timing = Timing(bench.floor_calls)
        if latency_ns > bench.slow_ns(usual):
            few = Blocks(1, bench.slow_samples, bench.slow_samples)
            self._sample(timing, side, baseline, workload, rng, few, verified)
            flag = slow_flag(timing.candidate, timing.baseline, bench.slow_ns)
            if flag is not None:
                timing.flags.append(flag)
            else:
                timing = Timing(bench.floor_calls)
        if not timing.blocks:
            blocks = bench.blocks(usual, side.slots)
            self._sample(timing, side, baseline, workload, rng, blocks, ())
        calls = timing.candidate
        timing.floor_us = hold_to_floor(bench, workload, timing.contents, calls, timing.flags)
        return timing

    def _sample(
        self,
        timing: Timing,
        side: Side,
        baseline: Side,
        workload: Workload,
        rng: np.random.Generator,
        blocks: Blocks,
        known: Sequence[Verified],
    ) -> None:
        """Add blocks of calls. known: calls that stand for the first ones."""
        settings, bench = self.settings, self.bench
        for call in known[: blocks.most]:
            (beside,) = self.baseline_block(baseline, [call.contents], rng)
            timing.add([call.contents], [call.clocks], [beside.clocks])
        drawn = bench.drawn_blocks(blocks.most, rng)
        repeats = settings.steal_repeats
        watch = bench.watch()
        while len(timing.blocks) < blocks.most:
            self._check_time()
            in_full = len(timing.blocks) in drawn
            contents = [bench.fresh(workload, rng) for _ in range(blocks.calls)]
            mine, theirs = self._pair_block(side, baseline, workload, rng, contents, in_full)
            if watch.disturbed({workload.name: latencies_us(theirs)}) and repeats > 0:
                repeats -= 1
                continue
            timing.add(contents, mine, theirs)
            enough = len(timing.blocks) >= blocks.least
            if enough and log_interval(timing.blocks).narrower_than(settings.search_half_width):
                break
        if repeats < settings.steal_repeats:
            timing.flags.append(f"{settings.steal_repeats - repeats} disturbed blocks repeated")

    def _pair_block(
        self,
        side: Side,
        baseline: Side,
        workload: Workload,
        rng: np.random.Generator,
        contents: Sequence[Contents],
        in_full: bool,
    ) -> tuple[list[Clocks], list[Clocks]]:
        """Calls of the candidate and of the baseline on the same fresh inputs, in random order of
        the two; with `in_full` one of the candidate's is then drawn and verified. Raises
        CandidateFailure."""
        mine: list[Call] = []
        theirs: list[Call] = []
        self.bench.draw(workload, contents)
        for position in rng.permutation(2):
            if position == 0:
                theirs = self.baseline_block(baseline, contents, rng)
            else:
                mine = side.run_block(contents, rng)
        side.audit_stop()
        check_block(self.bench, workload, mine, theirs, rng, in_full=in_full)
        return [call.clocks for call in mine], [call.clocks for call in theirs]

    def baseline_block(
        self, baseline: Side, contents: Sequence[Contents], rng: np.random.Generator
    ) -> list[Call]:
        """A block of the baseline. Its failure is ours: InfraError."""
        with self._ours():
            return baseline.run_block(contents, rng)

    def bind_baseline(self, baseline: Side, workload: Workload, slots: int | None = None) -> None:
        """Bind the baseline to a workload. Its failure is ours: InfraError."""
        with self._ours():
            baseline.bind(workload, slots)

    @contextmanager
    def _ours(self) -> Iterator[None]:
        """Within it the baseline works, whose failure is no candidate's, or so it seems."""
        try:
            yield
        except (CandidateFailure, InfraError) as failure:  # such as a supervisor that was killed
            self.close_baseline()
            raise BaselineFailure(self.task, str(failure).rstrip(".")) from failure

    def blame(
        self, failure: BaselineFailure, workloads: Sequence[Workload], rng: np.random.Generator
    ) -> CandidateFailure:
        """What to tell a program beside which the baseline failed, once its worker has ended: it
        may have taken all the memory. Raises BaselineFailure if the baseline fails alone, too."""
        with self.start_baseline(workloads) as baseline:
            for workload in workloads:
                self.bind_baseline(baseline, workload)
                self.baseline_block(baseline, [self.bench.fresh(workload, rng)], rng)
        return CandidateFailure(
            Status.RUNTIME_ERROR,
            "beside_the_baseline",
            f"the baseline works alone, but beside this program it failed: {failure.told}",
        )

    def usual_ns(self, baseline: Side, warm: Sequence[Contents], rng: np.random.Generator) -> int:
        """The baseline's fastest call of the bound workload, in nanoseconds."""
        if self.bench.stays_warm:  # its first call loads kernels, or compiles them
            self.baseline_block(baseline, warm, rng)
        return fastest_ns(self.baseline_block(baseline, warm, rng))

    def keep_compiled(self, baseline: Side) -> None:
        """What a baseline's worker has compiled is there for the next one."""
        if self.bench.stays_warm:
            self._kernels = baseline.kernels() or self._kernels

    def start_baseline(self, workloads: Sequence[Workload]) -> Side:
        """A worker with the baseline. That it does not load is ours: InfraError."""
        try:
            return self.bench.start(self.baseline_program(), workloads)
        except CandidateFailure as failure:
            raise InfraError(
                f"The baseline {self.task.baselines[0].name} of task {self.task.name} does not "
                f"load: {failure.message}. Run `harness doctor`."
            ) from failure

    def _baseline_side(self) -> Side:
        if self._baseline is None:
            with self._ours():  # beside a program, which may have left it no room
                self._baseline = self.bench.start(self.baseline_program(), self.task.search)
        return self._baseline

    def _passed(
        self, timings: dict[Workload, Timing], device_seconds: float, timing_seconds: float
    ) -> Verdict:
        rows, samples = [], Samples()
        for workload, timing in timings.items():
            rows.append(timing.row(workload))
            samples[workload.name] = (
                tuple(latencies_us(timing.candidate)),
                tuple(latencies_us(timing.baseline)),
            )
        score = mean_over_workloads([timing.blocks for timing in timings.values()])
        outcome = Passed(tuple(rows), score.low, score.high)
        return Verdict(outcome, device_seconds, timing_seconds, samples_us=samples)

"""The judge of one task: builds nothing, trusts nothing, decides everything.

Stages, stop at the first failure:

1. smoke: the smallest workload, one call, verified in full;
2. correctness: every workload on `correctness_seeds` fresh inputs, each verified in full;
3. timing: paired blocks against the baseline on fresh inputs; every call is held against the
   baseline's outputs, and one of every block, drawn afterwards, is verified in full; then the two
   clocks, the roofline floor and the libraries that were loaded.

Seeds derive from a secret that only the judge has. No input content serves two calls of a worker.

Covered: search (`Judge.evaluate`) and verification (`Judge.verify`), shared with `confirmation.py`.
Not covered: building (`build.py`), caching and sharing (`local.py`).
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.errors import InfraError
from harness.evaluate import machine
from harness.evaluate.launcher import WarmParent
from harness.evaluate.memory import private_inputs
from harness.evaluate.peaks import Peaks, floor_us
from harness.evaluate.settings import EvaluatorSettings
from harness.evaluate.side import Call, CandidateFailure, Program, Side
from harness.evaluate.timing import StealClock, block_value, log_interval, mean_over_workloads
from harness.evaluate.verification import (
    Clocks,
    check_block,
    check_call,
    check_clocks,
    check_floor,
    check_libraries,
    near_duplicate,
)
from harness.suite import Arrays, Task
from harness.types import Failed, Measurement, Passed, Stage, Workload

Samples = dict[str, tuple[tuple[float, ...], tuple[float, ...]]]


@dataclass(frozen=True)
class Verdict:
    """An outcome with its raw samples (candidate, baseline; microseconds) and its device time, of
    which `timing_seconds` went into timing (waiting for the machine included)."""

    outcome: Passed | Failed
    device_seconds: float
    timing_seconds: float = 0.0
    samples_us: Samples = field(default_factory=dict)


@dataclass
class _Timing:
    """What one workload's timing gathers."""

    candidate_us: list[float] = field(default_factory=list)
    baseline_us: list[float] = field(default_factory=list)
    blocks: list[float] = field(default_factory=list)
    plan_us: list[float] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    candidate_clocks: list[Clocks] = field(default_factory=list)
    baseline_clocks: list[Clocks] = field(default_factory=list)


class Judge:
    """Judges candidates of one task on this machine. Not thread-safe: one device, one judge.

    parents: the warm parent for each language. threads: cores that both sides may use.
    """

    def __init__(
        self,
        task: Task,
        *,
        parents: dict[str, WarmParent],
        peaks: Peaks,
        settings: EvaluatorSettings,
        secret: bytes,
        threads: int,
    ) -> None:
        self.task = task
        self.settings = settings
        self.threads = threads
        self.peaks = peaks
        self._parents = parents
        self._secret = secret
        self._baseline: Side | None = None

    def close(self) -> None:
        if self._baseline is not None:
            self._baseline.close()
            self._baseline = None

    def side(self, program: Program, workloads: Sequence[Workload]) -> Side:
        """A fresh worker with the program loaded. Raises CandidateFailure if it does not load."""
        side = Side(
            self._parents[program.language],
            program,
            self.task.signature,
            workloads,
            self.settings,
            self.threads,
        )
        try:
            side.load()
        except BaseException:
            side.close()
            raise
        return side

    def parent_pid(self, side: Side) -> int:
        """The process that the side's worker was forked from."""
        return self._parents[side.program.language].pid

    def baseline_program(self) -> Program:
        baseline = self.task.baselines[0]
        return Program(baseline.language, baseline.source.encode(), trusted=True)

    def generator(self, candidate_id: str, purpose: str) -> np.random.Generator:
        """The stream of inputs for one candidate and purpose: secret until the calls are made."""
        text = f"{self.task.name}\n{self.task.version}\n{candidate_id}\n{purpose}"
        digest = hashlib.blake2b(text.encode(), key=self._secret, digest_size=16).digest()
        return np.random.Generator(np.random.SFC64(int.from_bytes(digest, "little")))

    def evaluate(self, candidate_id: str, program: Program) -> Verdict:
        """Judge one candidate on the search workloads."""
        started = time.perf_counter()
        stage, workload = Stage.SMOKE, self.smallest(self.task.search)
        rng = self.generator(candidate_id, "search")
        try:
            with machine.busy():
                side = self.side(program, self.task.search)
            with side:
                with machine.busy():
                    self.verify(side, workload, rng, calls=1)
                    stage = Stage.CORRECTNESS
                    for workload in self.task.search:
                        self.verify(side, workload, rng, calls=self.settings.correctness_seeds)
                stage, timing_started = Stage.TIMING, time.perf_counter()
                timings: list[tuple[Workload, _Timing, float]] = []
                for workload in self.task.search:
                    with machine.quiet():
                        timings.append(self._time(side, workload, rng))
                timing_seconds = time.perf_counter() - timing_started
                check_clocks(
                    [clocks for _, timing, _ in timings for clocks in timing.candidate_clocks],
                    [clocks for _, timing, _ in timings for clocks in timing.baseline_clocks],
                    self.settings,
                )
                check_libraries(self.task, side, self.parent_pid(side))
        except CandidateFailure as failure:
            return Verdict(failed(failure, stage, workload.name), time.perf_counter() - started)
        return self._passed(timings, time.perf_counter() - started, timing_seconds)

    def smallest(self, workloads: Sequence[Workload]) -> Workload:
        """The workload with the fewest input elements."""

        def elements(workload: Workload) -> int:
            inputs = self.task.signature.inputs
            return sum(int(np.prod(t.sizes(workload.axes), dtype=np.int64)) for t in inputs)

        return min(workloads, key=elements)

    def fresh(self, workload: Workload, rng: np.random.Generator) -> Arrays:
        """One call's inputs in private memory."""
        inputs = private_inputs(self.task.signature, workload)
        self.task.fill(workload, rng, inputs)
        return inputs

    def verify(self, side: Side, workload: Workload, rng: np.random.Generator, calls: int) -> None:
        """Bind a workload and verify `calls` calls in full, and one more whose inputs differ from
        the last one's in one element of each tensor. Raises CandidateFailure."""
        side.bind(workload)
        contents = [self.fresh(workload, rng) for _ in range(calls)]
        contents.append(near_duplicate(self.task.signature, contents[-1], rng))
        for start in range(0, len(contents), self.settings.ring_slots):
            block = contents[start : start + self.settings.ring_slots]
            for call in side.run_block(block, rng):
                check_call(self.task, workload, call)

    def _time(
        self, side: Side, workload: Workload, rng: np.random.Generator
    ) -> tuple[Workload, _Timing, float]:
        """Paired blocks of one workload. The machine is held alone by the caller."""
        settings, timing = self.settings, _Timing()
        baseline = self._baseline_side()
        side.bind(workload)
        baseline.bind(workload)
        warm = [self.fresh(workload, rng) for _ in range(settings.warmup_calls)]
        candidate_warm = min(call.wall_ns for call in side.run_block(warm, rng))
        baseline_warm = min(call.wall_ns for call in self.baseline_block(baseline, warm, rng))
        slow = candidate_warm > settings.slow_factor * baseline_warm
        if slow:
            timing.flags.append(
                f"{settings.slow_samples} samples: slower than {settings.slow_factor:g} x baseline"
            )
        calls = 1 if slow else settings.ring_slots
        minimum = settings.slow_samples if slow else settings.search_blocks
        maximum = settings.slow_samples if slow else settings.search_max_blocks
        repeats = settings.steal_repeats
        steal = StealClock()
        while len(timing.blocks) < maximum:
            block = self.pair_block({"candidate": side}, baseline, workload, rng, calls)
            if steal.share() > settings.max_steal and repeats > 0:
                repeats -= 1
                continue
            times = {name: [call.wall_ns / 1e3 for call in made] for name, made in block.items()}
            timing.candidate_clocks += [Clocks(c.wall_ns, c.worker_ns) for c in block["candidate"]]
            timing.baseline_clocks += [Clocks(c.wall_ns, c.worker_ns) for c in block["baseline"]]
            timing.candidate_us += times["candidate"]
            timing.baseline_us += times["baseline"]
            timing.blocks.append(block_value(times["candidate"], times["baseline"]))
            timing.plan_us += [c.plan_ns / 1e3 for c in block["candidate"] if c.plan_ns is not None]
            enough = len(timing.blocks) >= minimum
            if enough and log_interval(timing.blocks).narrower_than(settings.search_half_width):
                break
        if repeats < settings.steal_repeats:
            timing.flags.append(f"{settings.steal_repeats - repeats} blocks repeated (steal time)")
        work = self.task.work(workload, warm[0])
        floor = floor_us(work, self.peaks)
        check_floor(statistics.median(timing.candidate_us), floor, timing.flags, settings)
        return workload, timing, floor

    def pair_block(
        self,
        sides: dict[str, Side],
        baseline: Side,
        workload: Workload,
        rng: np.random.Generator,
        calls: int,
    ) -> dict[str, list[Call]]:
        """`calls` calls of every side on the same fresh inputs, in random order of sides; one call
        of each candidate is then drawn and verified. Raises CandidateFailure."""
        contents = [self.fresh(workload, rng) for _ in range(calls)]
        names = ["baseline", *sides]
        made: dict[str, list[Call]] = {}
        for position in rng.permutation(len(names)):
            name = names[int(position)]
            if name == "baseline":
                made[name] = self.baseline_block(baseline, contents, rng)
            else:
                made[name] = sides[name].run_block(contents, rng)
        for name, side in sides.items():
            side.audit_stop()
            check_block(self.task, workload, made[name], made["baseline"], rng)
        return made

    def baseline_block(
        self, baseline: Side, contents: Sequence[Arrays], rng: np.random.Generator
    ) -> list[Call]:
        """A block of the baseline. Its failure is ours: InfraError."""
        try:
            return baseline.run_block(contents, rng)
        except CandidateFailure as failure:
            self.close()
            raise InfraError(
                f"The baseline {self.task.baselines[0].name} of task {self.task.name} failed: "
                f"{failure.message}. Run `harness doctor`."
            ) from failure

    def _baseline_side(self) -> Side:
        if self._baseline is None:
            try:
                self._baseline = self.side(self.baseline_program(), self.task.search)
            except CandidateFailure as failure:
                raise InfraError(
                    f"The baseline {self.task.baselines[0].name} of task {self.task.name} does not "
                    f"load: {failure.message}. Run `harness doctor`."
                ) from failure
        return self._baseline

    def _passed(
        self,
        timings: Sequence[tuple[Workload, _Timing, float]],
        device_seconds: float,
        timing_seconds: float,
    ) -> Verdict:
        rows, samples = [], Samples()
        for workload, timing, floor in timings:
            rows.append(
                measurement(
                    workload,
                    timing.candidate_us,
                    timing.baseline_us,
                    timing.blocks,
                    floor,
                    timing.plan_us,
                    timing.flags,
                )
            )
            samples[workload.name] = (tuple(timing.candidate_us), tuple(timing.baseline_us))
        score = mean_over_workloads([timing.blocks for _, timing, _ in timings])
        outcome = Passed(tuple(rows), score.low, score.high)
        return Verdict(outcome, device_seconds, timing_seconds, samples)


def measurement(
    workload: Workload,
    candidate_us: Sequence[float],
    baseline_us: Sequence[float],
    blocks: Sequence[float],
    floor: float,
    plan_us: Sequence[float],
    flags: Sequence[str],
) -> Measurement:
    """One workload's row from its samples and block values."""
    ratio = log_interval(blocks)
    return Measurement(
        workload.name,
        statistics.median(candidate_us),
        statistics.median(baseline_us),
        ratio.value,
        ratio.low,
        ratio.high,
        floor,
        len(candidate_us),
        statistics.median(plan_us) if plan_us else None,
        tuple(flags),
    )


def failed(failure: CandidateFailure, stage: Stage, workload: str | None) -> Failed:
    """The outcome of a failure at a stage."""
    return Failed(failure.status, stage, failure.check, failure.message, workload, failure.evidence)

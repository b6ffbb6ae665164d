"""Inspection: everything about one submission, on one task, not stopping at the first failure.

1. Every workload of final, tests and held-out is verified on fresh seeds, in a worker that may
   compile. One that broke (crash, illegal access, time-out) is replaced before the next workload.
2. On the final workloads, in another worker, in random order: a block with fresh inputs before
   every call, a block on reused inputs (written once, the same containers in every call), one of
   the baseline. Both modes by the same clock, behind the same gate. Every fresh call is
   held against the baseline's outputs, one is verified in full; the clocks and the floor are
   checked as in search.
3. In a third worker it is diagnosed on the search workloads.

Wrong outputs do not end the timing of a workload, but its times then count for nothing. Reused
times are a diagnostic: they are never a score.

Covered: verdicts, two kinds of times, what the worker says of the submission, what its side says
(inputs changed, late writes, guards). Not covered: building; ranks and words
(harness/leaderboard.py); the limits of fetching results afterwards (inspected_side.py).
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from harness.evaluate.bench import Blocks
from harness.evaluate.check import Mismatch
from harness.evaluate.clocks import hold_to_floor
from harness.evaluate.diagnosis import diagnose
from harness.evaluate.gathered import waiting
from harness.evaluate.inspected import (
    SPLITS,
    Checked,
    Inspection,
    Observed,
    Split,
    Timed,
    observed_from_worker,
)
from harness.evaluate.inspected_side import InspectedSide
from harness.evaluate.judge import Judge
from harness.evaluate.program import Call, CandidateFailure, Clocks, Contents, Program
from harness.evaluate.side import Side
from harness.evaluate.verdict import (
    anew,
    fastest_ns,
    is_disputed,
    latencies_us,
    plan_us,
    slow_flag,
)
from harness.evaluate.verification import check_block, check_near
from harness.types import Status, Workload

SEEDS = 2
"""Fresh inputs per workload: two show what was kept from a call. No near-duplicate: it would change
one element of the mask, and no case of upstream's has one; what is keyed on contents finds nothing
in fresh ones anyway."""

MOST_SECONDS = 60.0
"""Of each of the two parts: a submission that hangs on everything must end."""

# After these the worker goes on to the next workload: it broke no process.
_HARMLESS = ("tolerance", "not_written", "inputs_changed", "late_write")


@dataclass
class _Gathered:
    """One workload's timing."""

    fresh: list[Clocks] = field(default_factory=list)
    reused: list[Clocks] = field(default_factory=list)
    baseline: list[Clocks] = field(default_factory=list)
    contents: list[Contents] = field(default_factory=list)  # of the fresh calls
    flags: list[str] = field(default_factory=list)
    problem: str | None = None
    reused_problem: str | None = None
    floor_us: float = 0.0

    def clear(self) -> None:
        """Forget the calls, not what was found of them."""
        for calls in (self.fresh, self.reused, self.baseline, self.contents):
            calls.clear()


class Inspector:
    """One inspection. Raises InfraError for the harness's own faults.

    timed: whether the final workloads are timed, too.
    """

    def __init__(self, judge: Judge, candidate_id: str, program: Program, *, timed: bool) -> None:
        self._judge = judge
        self._bench = judge.bench
        self._task = judge.task
        self._program = replace(program, submission=True)
        self._timed = timed
        self._rng = judge.generator(candidate_id, "inspect")
        self._side: InspectedSide | None = None
        self._workloads: Sequence[Workload] = ()
        self._compiles = False
        self._seen = Observed()  # by the workers that have ended
        self._now = Observed()  # by the present one
        self._deadline = 0.0
        self._baselines: dict[Workload, list[Clocks]] = {}  # of the workloads timed so far
        self._broken: CandidateFailure | None = None  # why no worker starts

    def run(self) -> Inspection:
        with self._bench.alone():
            return self._run()

    def _run(self) -> Inspection:
        started = time.perf_counter()
        self._judge.close_baseline()  # the room is the submission's
        self._deadline = started + MOST_SECONDS  # of the first part
        task = self._task
        groups = dict(zip(SPLITS, (task.final, task.tests, task.held_out), strict=True))
        self._workloads = [w for workloads in groups.values() for w in workloads]
        self._compiles = True
        checked: list[Checked] = []
        try:
            for split, workloads in groups.items():
                for workload in workloads:
                    with self._bench.busy():
                        checked.append(self._check(split, workload))
            self._end()
            self._workloads, self._compiles = task.final, False
            self._deadline = time.perf_counter() + MOST_SECONDS
            timed = self._time_all() if self._timed else []
            self._end()
            if timed:
                found = diagnose(self._bench, self._program, task.search, self._rng).figures
                timed = [replace(t, diagnostics=found.get(t.workload, {})) for t in timed]
        finally:
            self._end()
        return Inspection(
            task.name,
            task.version,
            task.baselines[0].name,
            tuple(checked),
            tuple(timed),
            self._seen,
            device_seconds=time.perf_counter() - started,
        )

    # The worker.

    def _ready(self) -> InspectedSide:
        """The worker, started if there is none. Raises CandidateFailure."""
        if time.perf_counter() > self._deadline:
            raise CandidateFailure(
                Status.TIMEOUT,
                "not_looked_at",
                f"{MOST_SECONDS:g} s were over before this workload",
            )
        if self._broken is not None:
            raise self._broken
        if self._side is None:
            try:
                side = self._bench.start(self._program, self._workloads, compiles=self._compiles)
            except CandidateFailure as failure:
                if not is_disputed(failure):
                    self._broken = failure
                raise
            assert isinstance(side, InspectedSide)
            self._side = side
        return self._side

    def _look(self) -> None:
        """Ask the worker what it has seen so far."""
        if self._side is not None:
            self._now = observed_from_worker(self._side.report())

    def _after(self, failure: CandidateFailure) -> None:
        """Keep a worker that broke nothing, end another."""
        if failure.check in _HARMLESS:
            with contextlib.suppress(CandidateFailure):
                return self._look()
        self._end()

    def _end(self) -> None:
        """End the worker, if there is one; the next one need not compile what this one has."""
        if self._side is not None:
            self._program = self._bench.sealed(self._program, self._side) or self._program
            self._side.close()
        self._side = None
        self._seen, self._now = self._seen.merged(self._now), Observed()

    # Correctness.

    def _check(self, split: Split, workload: Workload) -> Checked:
        named = workload.name, split
        gate = None if self._task.published_gate is None else Status.PASSED
        try:
            mismatch, published = self._verified(workload)
        except CandidateFailure as failure:
            status, message = failure.status, failure.message
            both = (status, message) if gate is not None else (None, "")
            return Checked(*named, status, failure.check, message, *both)
        if published:
            gate = Status.INCORRECT_NUMERICAL
        if mismatch is None:
            return Checked(*named, Status.PASSED, "", "", gate, published)
        wrong = Status.INCORRECT_NUMERICAL
        return Checked(*named, wrong, "tolerance", mismatch.message, gate, published)

    def _verified(self, workload: Workload) -> tuple[Mismatch | None, str]:
        """`_verify`, once more in a fresh worker where nothing but a disputed failure was found."""
        found: tuple[Mismatch | None, str] = None, ""
        disputes = self._judge.settings.disputes
        while True:
            try:
                found = self._verify(self._ready(), workload)
                self._look()
                return found
            except CandidateFailure as failure:
                self._after(failure)
                if any(found) or not is_disputed(failure) or disputes == 0:
                    raise
                disputes -= 1

    def _verify(self, side: InspectedSide, workload: Workload) -> tuple[Mismatch | None, str]:
        """Calls on fresh seeds, each verified in full: what is wrong by the task's tolerances, and
        by the gate of published kernels."""
        side.bind(workload)
        contents = [self._bench.fresh(workload, self._rng) for _ in range(SEEDS)]
        mismatch: Mismatch | None = None
        published = ""
        for start in range(0, SEEDS, side.slots):
            for call in side.run_block(contents[start : start + side.slots], self._rng):
                ours, theirs = self._bench.by_both_gates(workload, call)
                mismatch, published = mismatch or ours, published or theirs
        return mismatch, published

    # Times.

    def _time_all(self) -> list[Timed]:
        with self._judge.start_baseline(self._task.final) as baseline:
            return [self._time(baseline, workload) for workload in self._task.final]

    def _time(self, baseline: Side, workload: Workload) -> Timed:
        made, disputes = _Gathered(), self._judge.settings.disputes
        while True:
            try:
                self._time_once(made, baseline, workload)
            except CandidateFailure as failure:
                self._after(failure)
                if made.problem is None and is_disputed(failure) and disputes > 0:
                    disputes -= 1
                    made = _Gathered(flags=[anew(failure.message)])
                    continue
                made.problem = made.problem or _told(failure)
            break
        hosts = [clocks.worker.host_ns / 1e3 for clocks in made.fresh]
        return Timed(
            workload.name,
            made.floor_us,
            tuple(latencies_us(made.fresh)),
            tuple(latencies_us(made.reused)),
            tuple(latencies_us(made.baseline)),
            statistics.median(hosts) if any(hosts) else None,
            made.problem,
            made.reused_problem,
            (*made.flags, *waiting(made.fresh, made.baseline)),
            plan_us(made.fresh),
            plan_us(made.baseline),
        )

    def _time_once(self, made: _Gathered, baseline: Side, workload: Workload) -> None:
        """Gather a workload's times, and hold them to their floor and to both clocks."""
        bench = self._bench
        with bench.quiet():
            self._gather(made, baseline, workload)
        self._look()
        flags = made.flags
        made.floor_us = hold_to_floor(bench, workload, made.contents, made.fresh, flags)
        self._baselines[workload] = made.baseline
        timed = {w: (theirs, theirs) for w, theirs in self._baselines.items()}
        bench.check_clocks(timed | {workload: (made.fresh, made.baseline)})

    def _gather(self, made: _Gathered, baseline: Side, workload: Workload) -> None:
        """Blocks of all three. A failure with fresh inputs ends it; one with reused inputs ends
        those."""
        judge, bench, rng, settings = self._judge, self._bench, self._rng, self._judge.settings
        side = self._bound(workload)
        judge.bind_baseline(baseline, workload)
        warm = [bench.fresh(workload, rng) for _ in range(bench.warmup_calls)]
        mine = side.run_block(warm, rng)
        usual = judge.usual_ns(baseline, warm, rng)

        def slow_ns(baseline_ns: float) -> float:
            return settings.slow_factor * baseline_ns

        if fastest_ns(mine) > slow_ns(usual):
            self._add_blocks(made, baseline, workload, Blocks(settings.slow_samples, 1, 1))
            if (flag := slow_flag(made.fresh, made.baseline, slow_ns)) is not None:
                made.flags.append(flag)
                return
            made.clear()
        slots = self._bound(workload).slots  # of another worker, where that one broke
        self._add_blocks(made, baseline, workload, bench.blocks(usual, slots))

    def _add_blocks(
        self, made: _Gathered, baseline: Side, workload: Workload, blocks: Blocks
    ) -> None:
        judge, bench, rng, settings = self._judge, self._bench, self._rng, self._judge.settings
        calls = min(blocks.calls, self._bound(workload).slots)
        count = blocks.least
        watch, repeats = bench.watch(), settings.steal_repeats
        done = 0
        while done < count:
            contents = [bench.fresh(workload, rng) for _ in range(calls)]
            fresh: list[Call] = []
            theirs, reused = [], []
            for place in rng.permutation(3):
                if place == 0:
                    fresh = self._bound(workload).run_block(contents, rng)
                elif place == 1:
                    theirs = judge.baseline_block(baseline, contents, rng)
                else:
                    reused = self._reuse(made, workload, calls)
            if (
                watch.disturbed({workload.name: latencies_us([c.clocks for c in theirs])})
                and repeats > 0
            ):
                repeats -= 1
                continue
            self._hold_against(made, workload, fresh, theirs, whole=done == 0)
            made.contents += contents
            made.fresh += [call.clocks for call in fresh]
            made.baseline += [call.clocks for call in theirs]
            made.reused += reused
            done += 1
        if repeats < settings.steal_repeats:
            made.flags.append(f"{settings.steal_repeats - repeats} disturbed blocks repeated")

    def _bound(self, workload: Workload) -> InspectedSide:
        """The worker with this workload, also where it had to be started again."""
        side = self._ready()
        if side.bound != workload:
            side.bind(workload)
        return side

    def _reuse(self, made: _Gathered, workload: Workload, calls: int) -> list[Clocks]:
        """A block on reused inputs; none once it has failed."""
        if made.reused_problem is not None and not made.reused_problem.startswith("tolerance"):
            return []
        bench, rng = self._bench, self._rng
        try:
            side = self._bound(workload)
            call, clocks = side.reuse_block(bench.fresh(workload, rng), rng, calls)
        except CandidateFailure as failure:
            made.reused_problem = _told(failure)
            self._after(failure)
            self._end()  # its containers may still be kept
            return []
        if made.reused_problem is None and not made.reused:
            mismatch = bench.mismatch(workload, call)
            if mismatch is not None:
                made.reused_problem = f"tolerance: {mismatch.message}"
        return clocks

    def _hold_against(
        self,
        made: _Gathered,
        workload: Workload,
        fresh: Sequence[Call],
        theirs: Sequence[Call],
        *,
        whole: bool,
    ) -> None:
        """Every call against the baseline's; with `whole`, one of them in full."""
        bench = self._bench
        try:
            if whole:
                check_block(bench, workload, fresh, theirs, self._rng)
            elif made.problem is None:
                check_near(bench, fresh, theirs)
        except CandidateFailure as failure:
            made.problem = _told(failure)


def inspect(judge: Judge, candidate_id: str, program: Program, *, timed: bool) -> Inspection:
    """Inspect one program in Python or Triton."""
    return Inspector(judge, candidate_id, program, timed=timed).run()


def _told(failure: CandidateFailure) -> str:
    return f"{failure.check}: {failure.message}"

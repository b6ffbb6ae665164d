"""Confirmation: the best candidates of all runs, timed together on one device in one session.

1. Each finalist is verified on every final workload with fresh seeds, in a fresh process, unless
   this judge has done so in an earlier session. If some fail, the session ends here with those
   alone: the others must be timed beside whoever takes their places, so timing them now would be
   for nothing.
2. Randomised blocks: in each block every finalist and the baseline get a fresh process; for each
   final workload, in random order, all of them are timed on the same fresh inputs, in random order.
   Where the device has no room for all (`Bench.alive_at_once`), finalists come in groups, drawn
   anew for each block, each group beside the baseline; if something breaks in a group, they come
   one at a time from then on, so that nobody suffers for what another did to the device. One value
   per finalist, workload and block. Blocks are added until every 95 % interval (of each score, and
   of each ratio to the best) is narrow enough, or a cap is reached, and then the wider interval is
   printed.
3. The held-out workloads: correct or not. They never select.

Blocks hold everything that differs from process to process, so their spread is the honest error.

Covered: intervals over blocks, libraries, floors, a finalist that breaks in the middle.
Not covered: choosing finalists (`harness/confirm.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np

from harness.evaluate.clocks import hold_to_floor
from harness.evaluate.diagnosis import diagnose, with_figures
from harness.evaluate.gathered import Block, Entry, Timing, baselines_us
from harness.evaluate.judge import BaselineFailure, Judge
from harness.evaluate.program import Call, CandidateFailure, Clocks, Contents, Program
from harness.evaluate.side import Side
from harness.evaluate.timing import log_interval
from harness.evaluate.verdict import failed, is_disputed, no_room
from harness.evaluate.verification import check_block
from harness.types import Confirmation, Failed, Finalist, Passed, Stage, Status, Workload


class Session:
    """One confirmation of one task. Raises InfraError for the harness's own faults."""

    def __init__(self, judge: Judge, entries: Sequence[tuple[str, Program | Failed]]) -> None:
        self._judge = judge
        self._bench = judge.bench
        self._task = judge.task
        self._entries = [
            Entry(name, None, program) if isinstance(program, Failed) else Entry(name, program)
            for name, program in entries
        ]
        self._phases: dict[str, float] = {}
        self._together = self._bench.alive_at_once

    def run(self) -> Confirmation:
        with self._bench.alone():
            return self._run()

    def _run(self) -> Confirmation:
        started = time.perf_counter()
        self._judge.close_baseline()  # the room is the finalists'
        for entry in self._entries:
            with self._phase("verifying"), self._bench.busy():
                self._verify_final(entry)
        if any(entry.failure for entry in self._entries):
            broken = [Finalist(e.candidate_id, e.failure, None) for e in self._entries if e.failure]
            return self._made(broken, 0, started, capped=False)
        with self._phase("timing"):
            blocks, capped = self._time_blocks()
        finalists = []
        for entry in self._entries:
            with self._phase("back to back"):
                outcome = entry.failure or self._outcome(entry)
            scores = tuple(entry.block_scores()) if isinstance(outcome, Passed) else ()
            with self._phase("held out"), self._bench.busy():
                held_out, message = self._held_out(entry)
            finalists.append(Finalist(entry.candidate_id, outcome, held_out, message, scores))
        with self._phase("diagnosing"):
            self._diagnose(finalists)
        return self._made(finalists, blocks, started, capped=capped)

    def _made(
        self, finalists: Sequence[Finalist], blocks: int, started: float, *, capped: bool
    ) -> Confirmation:
        return Confirmation(
            self._task.name,
            self._task.baselines[0].name,
            tuple(finalists),
            blocks,
            time.perf_counter() - started,
            capped,
            phases=self._phases,
        )

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self._phases[name] = self._phases.get(name, 0.0) + time.perf_counter() - begun

    def _diagnose(self, finalists: list[Finalist]) -> None:
        """Add to the best one's rows of the search workloads (of dozens, all take a minute) what
        its worker says beyond the score."""
        scores = {
            n: finalist.final.score
            for n, finalist in enumerate(finalists)
            if isinstance(finalist.final, Passed)
        }
        if not scores:
            return
        best = max(scores, key=lambda n: scores[n])
        program, outcome = self._entries[best].program, finalists[best].final
        assert program is not None
        assert isinstance(outcome, Passed)
        rng = self._judge.generator(finalists[best].candidate_id, "diagnosis")
        final = self._task.final
        looked_at = [workload for workload in final if workload in self._task.search] or final
        found = diagnose(self._bench, program, looked_at, rng)
        rows = with_figures(outcome.measurements, found, self._task)
        finalists[best] = replace(finalists[best], final=replace(outcome, measurements=rows))

    def _alive(self) -> list[Entry]:
        return [entry for entry in self._entries if entry.failure is None]

    def _verify_final(self, entry: Entry) -> None:
        workloads, given = (*self._task.final, *self._task.tests), entry.program
        known = self._judge.verified.get(entry.candidate_id)
        if known is not None and known[0] == given:
            _, entry.program, disputed = known
            entry.disputed = [*disputed]
            return
        with self._judge.in_time():  # both looks together
            while given is not None and entry.failure is None:
                failure = self._verify(entry, f"confirm {len(entry.disputed)}", workloads)
                if failure is None:
                    made = given, entry.program or given, [*entry.disputed]
                    self._judge.verified[entry.candidate_id] = made
                    return
                self._fail(entry, failure)

    def _verify(self, entry: Entry, purpose: str, workloads: Sequence[Workload]) -> Failed | None:
        """What is wrong on fresh seeds, in a fresh process."""
        judge, bench, workload = self._judge, self._bench, workloads[0]
        rng = judge.generator(entry.candidate_id, purpose)
        once = set(self._task.tests).difference(self._task.final)
        assert entry.program is not None
        try:
            with bench.start(entry.program, workloads, compiles=True) as side:
                for workload in workloads:
                    seeds = 1 if workload in once else bench.correctness_seeds
                    calls = bench.to_verify(workload, rng, seeds)
                    judge.verify(side, workload, calls, rng)
                bench.check_libraries(side)
                entry.program = bench.sealed(entry.program, side) or entry.program
        except CandidateFailure as failure:
            return failed(failure, Stage.CORRECTNESS, workload.name)
        except bench.device_errors() as error:
            return failed(no_room(error), Stage.CORRECTNESS, workload.name)
        return None

    def _time_blocks(self) -> tuple[int, bool]:
        """Add blocks until the intervals are narrow or a cap is reached: (blocks, capped)."""
        settings, started = self._judge.settings, time.perf_counter()
        blocks, tries, repeats = 0, 0, settings.steal_repeats
        watch = self._bench.watch()
        while self._alive() and blocks < settings.confirm_max_blocks:
            with self._bench.quiet():
                watch.restart()
                tries += 1  # each on inputs that no worker has seen
                values = self._block(f"block {tries}")
                disturbed = values is not None and watch.disturbed(baselines_us(values))
            if values is None:
                continue  # a finalist broke: the block is not complete
            if disturbed and repeats > 0:
                repeats -= 1
                continue
            self._keep(values)
            blocks += 1
            if blocks >= self._bench.confirm_min_blocks:
                if self._narrow(settings.confirm_half_width):
                    return blocks, False
                if time.perf_counter() - started > settings.confirm_max_seconds:
                    break
        return blocks, bool(self._alive())

    def _block(self, name: str) -> Block | None:
        """One randomised block, or None if it cannot be completed or nobody is left. A finalist
        that failed on the way is marked, unless it may try again."""
        judge = self._judge
        rng = judge.generator(name, "confirm")
        alive = self._alive()
        alive = [alive[int(i)] for i in rng.permutation(len(alive))]
        size = self._together or len(alive)
        values: Block = {}
        usual: dict[Workload, int] = {}  # the baseline's latencies, once it is warm
        with judge.start_baseline(self._task.final) as baseline:
            for start in range(0, len(alive), size):
                group = alive[start : start + size]
                made, whole = self._try(name, group, baseline, usual, rng)
                if not whole or (made is None and any(e.failure is None for e in group)):
                    return None
                values |= made or {}
            judge.keep_compiled(baseline)
        return values or None  # nobody is left

    def _try(
        self,
        block: str,
        group: Sequence[Entry],
        baseline: Side,
        usual: dict[Workload, int],
        rng: np.random.Generator,
    ) -> tuple[Block | None, bool]:
        """`_group`, and whether the baseline can go on: it may have been bound by half. Where
        finalists share a device and something breaks, they come one at a time from then on: who it
        was shows when each is alone."""
        made, whole = None, False
        before = [entry.timed_seconds for entry in group]
        try:
            made, whole = self._group(block, group, baseline, usual, rng), True
        except BaselineFailure as failure:  # a finalist may have left it no room
            if len(group) == 1:
                told = self._judge.blame(failure, self._task.final, rng)
                self._fail(group[0], failed(told, Stage.TIMING, None))
            elif self._together is None:
                raise
        except self._bench.device_errors() as error:
            for entry in group:
                entry.failure = failed(no_room(error), Stage.TIMING, None)
        if made is None and self._together is not None and len(group) > 1:
            self._together = 1
            for entry, seconds in zip(group, before, strict=True):
                entry.failure, entry.timed_seconds = None, seconds
        return made, whole

    def _group(
        self,
        block: str,
        group: Sequence[Entry],
        baseline: Side,
        usual: dict[Workload, int],
        rng: np.random.Generator,
    ) -> Block | None:
        """The block's share of these finalists, or None if one of them failed."""
        judge, bench, final = self._judge, self._bench, self._task.final
        values: Block = {}
        with ExitStack() as stack:
            sides: dict[str, Side] = {}
            for entry in group:
                assert entry.program is not None
                try:
                    side = bench.start(entry.program, final)
                except CandidateFailure as failure:
                    self._fail(entry, failed(failure, Stage.TIMING, None))
                    return None
                sides[entry.candidate_id] = stack.enter_context(side)
            for position in rng.permutation(len(final)):
                workload = final[int(position)]
                # Every group gets the same inputs.
                inputs = judge.generator(f"{block} {workload.name}", "confirm")
                judge.bind_baseline(baseline, workload)
                warm = [bench.fresh(workload, inputs) for _ in range(bench.warmup_calls)]
                if workload not in usual or not bench.stays_warm:
                    usual[workload] = judge.usual_ns(baseline, warm, rng)
                calls = bench.confirm_calls(baseline.slots, usual[workload])
                contents = [bench.fresh(workload, inputs) for _ in range(calls)]
                made = self._measure(sides, baseline, workload, warm, contents, rng)
                if made is None:
                    return None
                for name, clocks in made.items():
                    values[name, workload.name] = (contents, *clocks)
        return values

    def _measure(
        self,
        sides: dict[str, Side],
        baseline: Side,
        workload: Workload,
        warm: Sequence[Contents],
        contents: Sequence[Contents],
        rng: np.random.Generator,
    ) -> dict[str, tuple[list[Clocks], list[Clocks]]] | None:
        """One workload of one group, or None if a finalist failed."""
        judge, bench = self._judge, self._bench
        theirs: list[Call] = []
        waiting: dict[str, list[Call]] = {}  # until the baseline's outputs are there
        made: dict[str, list[Clocks]] = {}
        order = ["", *sides]  # "": the baseline
        bench.draw(workload, contents)
        for name in [order[int(i)] for i in rng.permutation(len(order))]:
            try:
                if not name:
                    theirs = judge.baseline_block(baseline, contents, rng)
                else:
                    with self._in_time(name):
                        sides[name].bind(workload)
                        sides[name].run_block(warm, rng)
                        waiting[name] = sides[name].run_block(contents, rng)
                        sides[name].release()
                    made[name] = [call.clocks for call in waiting[name]]
                for done in list(waiting) if theirs else ():
                    name = done
                    sides[name].audit_stop()
                    in_full = rng.random() < bench.drawn_share
                    check_block(bench, workload, waiting.pop(name), theirs, rng, in_full=in_full)
            except CandidateFailure as failure:
                self._fail(self._entry(name), failed(failure, Stage.TIMING, workload.name))
                return None
        clocks = [call.clocks for call in theirs]
        return {name: (mine, clocks) for name, mine in made.items()}

    def _entry(self, candidate_id: str) -> Entry:
        return next(entry for entry in self._entries if entry.candidate_id == candidate_id)

    @contextmanager
    def _in_time(self, name: str) -> Iterator[None]:
        """Within it a finalist's calls are timed; all of them together have the time that a search
        has, so that one which is slow only here does not cost the others their confirmation."""
        entry = self._entry(name)
        begun, most = time.perf_counter(), self._judge.settings.evaluation_seconds
        yield
        entry.timed_seconds += time.perf_counter() - begun
        if entry.timed_seconds > most:
            message = f"its timed calls took more than {most:g} s together"
            raise CandidateFailure(Status.TIMEOUT, "evaluation", message)

    def _fail(self, entry: Entry, failure: Failed) -> None:
        entry.fail(failure, self._judge.settings.disputes)

    def _keep(self, values: Block) -> None:
        for entry in self._alive():
            for workload in self._task.final:
                timing = entry.timings.setdefault(workload, Timing(self._bench.floor_calls))
                timing.add(*values[entry.candidate_id, workload.name])

    def _narrow(self, half_width: float) -> bool:
        """Whether every score, and every ratio to the best finalist, is known well enough."""
        scores = {entry.candidate_id: np.array(entry.block_scores()) for entry in self._alive()}
        best = max(scores.values(), key=lambda values: float(values.mean()))
        return all(
            log_interval(list(values)).narrower_than(half_width)
            and (values is best or log_interval(list(values - best)).narrower_than(half_width))
            for values in scores.values()
        )

    def _outcome(self, entry: Entry) -> Passed | Failed:
        bench, timings = self._bench, entry.timings
        rng = self._judge.generator(entry.candidate_id, "back to back")
        assert entry.program is not None
        workload = self._task.final[0]
        try:
            for workload, timing in timings.items():
                calls, flags = timing.candidate, timing.flags
                timing.floor_us = hold_to_floor(bench, workload, timing.contents, calls, flags)
            timed = {w: (timing.candidate, timing.baseline) for w, timing in timings.items()}
            bench.check_confirmed(timed)
            try:
                shown = bench.check_back_to_back(entry.program, timed, rng)
            except bench.device_errors() as error:
                return failed(no_room(error), Stage.TIMING, None)
        except CandidateFailure as failure:
            return failed(failure, Stage.TIMING, failure.workload or workload.name)
        for workload, flag in shown.items():
            timings[workload].flags.append(flag)
        score = log_interval(entry.block_scores())
        return Passed(entry.rows(), score.low, score.high)

    def _held_out(self, entry: Entry) -> tuple[Status | None, str]:
        """The verdict on the held-out workloads; (None, "") for a finalist that did not pass."""
        if entry.program is None or entry.failure is not None:
            return None, ""
        with self._judge.in_time():
            for look in range(1 + self._judge.settings.disputes):
                failure = self._verify(entry, f"held-out {look}", self._task.held_out)
                if failure is None or not is_disputed(failure):
                    break
        if failure is not None:
            return failure.status, f"{failure.workload}: {failure.message}"
        return Status.PASSED, ""

"""Confirmation: the best candidates of all runs, timed together on one device in one session.

1. Each finalist is verified on every final workload with fresh seeds, in a fresh process. 2.
Randomised blocks: in each block every finalist and the baseline get a fresh process; for each final
   workload, in random order, all of them are timed on the same fresh inputs, in random order. One
   value per finalist, workload and block. Blocks are added until every 95 % interval (of each
   score, and of each ratio to the best) is narrow enough, or a cap is reached, and then the wider
   interval is printed.
3. The held-out workloads: correct or not. They never select.

Blocks hold everything that differs from process to process, so their spread is the honest error.

Covered: intervals over blocks, libraries, floors, a finalist that breaks in the middle.
Not covered: choosing finalists (`harness/confirm.py`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from harness.errors import InfraError
from harness.evaluate import machine
from harness.evaluate.judge import Judge, failed, measurement
from harness.evaluate.peaks import floor_us
from harness.evaluate.side import Call, CandidateFailure, Program, Side
from harness.evaluate.timing import StealClock, block_value, log_interval
from harness.evaluate.verification import check_block, check_floor, check_libraries
from harness.types import Confirmation, Failed, Finalist, Passed, Stage, Status, Workload


@dataclass
class _Entry:
    """What a session knows of one finalist."""

    candidate_id: str
    program: Program | None
    failure: Failed | None = None
    blocks: dict[str, list[float]] = field(default_factory=dict)
    candidate_us: dict[str, list[float]] = field(default_factory=dict)
    baseline_us: dict[str, list[float]] = field(default_factory=dict)
    plan_us: dict[str, list[float]] = field(default_factory=dict)
    flags: dict[str, list[str]] = field(default_factory=dict)

    def block_scores(self) -> list[float]:
        """Per block, the mean over workloads of the log speedup."""
        return [float(np.mean(values)) for values in zip(*self.blocks.values(), strict=True)]


class Session:
    """One confirmation of one task. Raises InfraError for the harness's own faults."""

    def __init__(self, judge: Judge, entries: Sequence[tuple[str, Program | Failed]]) -> None:
        self._judge = judge
        self._task = judge.task
        self._entries = [
            _Entry(name, None, program) if isinstance(program, Failed) else _Entry(name, program)
            for name, program in entries
        ]

    def run(self) -> Confirmation:
        started = time.perf_counter()
        for entry in self._entries:
            with machine.busy():
                self._verify_final(entry)
        blocks, capped = self._time_blocks()
        finalists = []
        for entry in self._entries:
            outcome = entry.failure or self._outcome(entry)
            scores = tuple(entry.block_scores()) if isinstance(outcome, Passed) else ()
            with machine.busy():
                held_out, message = self._held_out(entry)
            finalists.append(Finalist(entry.candidate_id, outcome, held_out, message, scores))
        return Confirmation(
            self._task.name,
            self._task.baselines[0].name,
            tuple(finalists),
            blocks,
            time.perf_counter() - started,
            capped,
        )

    def _alive(self) -> list[_Entry]:
        return [entry for entry in self._entries if entry.failure is None]

    def _verify_final(self, entry: _Entry) -> None:
        if entry.program is None:
            return
        judge, workload = self._judge, self._task.final[0]
        rng = judge.generator(entry.candidate_id, "confirm")
        try:
            with judge.side(entry.program, self._task.final) as side:
                for workload in self._task.final:
                    judge.verify(side, workload, rng, judge.settings.correctness_seeds)
                check_libraries(self._task, side, judge.parent_pid(side))
        except CandidateFailure as failure:
            entry.failure = failed(failure, Stage.CORRECTNESS, workload.name)

    def _time_blocks(self) -> tuple[int, bool]:
        """Add blocks until the intervals are narrow or a cap is reached: (blocks, capped)."""
        settings, started = self._judge.settings, time.perf_counter()
        blocks, repeats, steal = 0, settings.steal_repeats, StealClock()
        while self._alive() and blocks < settings.confirm_max_blocks:
            rng = self._judge.generator(f"block {blocks} {repeats}", "confirm")
            with machine.quiet():
                steal.share()
                values = self._block(rng)
                disturbed = steal.share() > settings.max_steal
            if values is None:
                continue  # a finalist broke and is out: the block is not complete
            if disturbed and repeats > 0:
                repeats -= 1
                continue
            self._keep(values)
            blocks += 1
            if blocks >= settings.confirm_min_blocks:
                if self._narrow(settings.confirm_half_width):
                    return blocks, False
                if time.perf_counter() - started > settings.confirm_max_seconds:
                    break
        return blocks, bool(self._alive())

    def _block(
        self, rng: np.random.Generator
    ) -> dict[tuple[str, str], tuple[list[float], list[float], list[float]]] | None:
        """One randomised block: (finalist, workload) -> (its us, baseline us, plan us).

        None if a finalist failed on the way; it is then marked.
        """
        judge, final = self._judge, self._task.final
        values: dict[tuple[str, str], tuple[list[float], list[float], list[float]]] = {}
        with ExitStack() as stack:
            baseline = self._start_baseline(stack)
            sides: dict[str, Side] = {}
            for entry in self._alive():
                assert entry.program is not None
                try:
                    side = judge.side(entry.program, final)
                except CandidateFailure as failure:
                    entry.failure = failed(failure, Stage.TIMING, None)
                    return None
                sides[entry.candidate_id] = stack.enter_context(side)
            for position in rng.permutation(len(final)):
                workload = final[int(position)]
                made = self._measure(sides, baseline, workload, rng)
                if made is None:
                    return None
                for name, (mine, theirs, plan) in made.items():
                    values[name, workload.name] = (mine, theirs, plan)
        return values

    def _measure(
        self,
        sides: dict[str, Side],
        baseline: Side,
        workload: Workload,
        rng: np.random.Generator,
    ) -> dict[str, tuple[list[float], list[float], list[float]]] | None:
        """One workload of one block, or None if a finalist failed."""
        judge = self._judge
        baseline.bind(workload)
        warm = [judge.fresh(workload, rng) for _ in range(judge.settings.warmup_calls)]
        judge.baseline_block(baseline, warm, rng)
        contents = [judge.fresh(workload, rng) for _ in range(judge.settings.ring_slots)]
        names = ["", *sides]
        made: dict[str, list[Call]] = {}
        for position in rng.permutation(len(names)):
            name = names[int(position)]
            if not name:
                made[name] = judge.baseline_block(baseline, contents, rng)
                continue
            try:
                sides[name].bind(workload)
                sides[name].run_block(warm, rng)
                made[name] = sides[name].run_block(contents, rng)
            except CandidateFailure as failure:
                self._fail(name, failure, workload)
                return None
        for name, side in sides.items():
            try:
                side.audit_stop()
                check_block(self._task, workload, made[name], made[""], rng)
            except CandidateFailure as failure:
                self._fail(name, failure, workload)
                return None
        return {
            name: (
                [call.wall_ns / 1e3 for call in made[name]],
                [call.wall_ns / 1e3 for call in made[""]],
                [call.plan_ns / 1e3 for call in made[name] if call.plan_ns is not None],
            )
            for name in sides
        }

    def _fail(self, name: str, failure: CandidateFailure, workload: Workload) -> None:
        entry = next(e for e in self._entries if e.candidate_id == name)
        entry.failure = failed(failure, Stage.TIMING, workload.name)

    def _start_baseline(self, stack: ExitStack) -> Side:
        try:
            side = self._judge.side(self._judge.baseline_program(), self._task.final)
        except CandidateFailure as failure:
            raise InfraError(f"The baseline does not load: {failure.message}.") from failure
        return stack.enter_context(side)

    def _keep(
        self, values: dict[tuple[str, str], tuple[list[float], list[float], list[float]]]
    ) -> None:
        for entry in self._alive():
            for workload in self._task.final:
                mine, theirs, plan = values[entry.candidate_id, workload.name]
                entry.candidate_us.setdefault(workload.name, []).extend(mine)
                entry.baseline_us.setdefault(workload.name, []).extend(theirs)
                entry.plan_us.setdefault(workload.name, []).extend(plan)
                entry.blocks.setdefault(workload.name, []).append(block_value(mine, theirs))

    def _narrow(self, half_width: float) -> bool:
        """Whether every score, and every ratio to the best finalist, is known well enough."""
        scores = {entry.candidate_id: np.array(entry.block_scores()) for entry in self._alive()}
        best = max(scores.values(), key=lambda values: float(values.mean()))
        return all(
            log_interval(list(values)).narrower_than(half_width)
            and (values is best or log_interval(list(values - best)).narrower_than(half_width))
            for values in scores.values()
        )

    def _outcome(self, entry: _Entry) -> Passed | Failed:
        rows = []
        rng = self._judge.generator(entry.candidate_id, "floor")
        for workload in self._task.final:
            name = workload.name
            work = self._task.work(workload, self._judge.fresh(workload, rng))
            floor = floor_us(work, self._judge.peaks)
            flags: list[str] = []
            try:
                latency = float(np.median(entry.candidate_us[name]))
                check_floor(latency, floor, flags, self._judge.settings)
            except CandidateFailure as failure:
                return failed(failure, Stage.TIMING, name)
            rows.append(
                measurement(
                    workload,
                    entry.candidate_us[name],
                    entry.baseline_us[name],
                    entry.blocks[name],
                    floor,
                    entry.plan_us[name],
                    flags,
                )
            )
        score = log_interval(entry.block_scores())
        return Passed(tuple(rows), score.low, score.high)

    def _held_out(self, entry: _Entry) -> tuple[Status | None, str]:
        """The verdict on the held-out workloads; (None, "") for a finalist that did not pass."""
        if entry.program is None or entry.failure is not None:
            return None, ""
        judge, workload = self._judge, self._task.held_out[0]
        rng = judge.generator(entry.candidate_id, "held-out")
        try:
            with judge.side(entry.program, self._task.held_out) as side:
                for workload in self._task.held_out:
                    judge.verify(side, workload, rng, judge.settings.correctness_seeds)
        except CandidateFailure as failure:
            return failure.status, f"{workload.name}: {failure.message}"
        return Status.PASSED, ""

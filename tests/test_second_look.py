"""A failure that a disturbed machine can cause, once and again: in a confirmation and in an
inspection. In a search: tests/test_gpu_evaluator.py."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from harness.errors import InfraError
from harness.evaluate import inspection
from harness.evaluate.check import Mismatch
from harness.evaluate.confirmation import Session
from harness.evaluate.inspected import Inspection
from harness.evaluate.inspection import Inspector, inspect
from harness.evaluate.judge import Judge
from harness.evaluate.program import Call, CandidateFailure, Clocks, Contents, Program
from harness.evaluate.settings import EvaluatorSettings
from harness.evaluate.side import Side
from harness.loading import load
from harness.types import Failed, Finalist, Passed, Status
from tests import toy_trimul
from tests.toy_gpu_suite import TORCH
from tests.toy_judge import judge_here

pytest.importorskip("triton")

# Only the disturbances that a test makes count, not those of the machine that it runs on.
SETTINGS = EvaluatorSettings(
    confirm_min_blocks=2, confirm_max_blocks=2, stopped_cpu_us=1e9, stop_timeout_seconds=60.0
)


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with judge_here("tests.toy_gpu_suite:suite", "scale_rows", SETTINGS) as judge:
        yield judge


@pytest.fixture(scope="module")
def inspecting() -> Iterator[Judge]:
    with judge_here("tests.toy_trimul:suite", "toy@spec", SETTINGS) as judge:
        yield judge


class Disturbed:
    """Looks at stopped workers of candidates, some of which find that they ran on.

    times: how many do, from the look `first` on. within: a method of Session; only what is looked
    at in it counts.
    """

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        times: int,
        first: int = 0,
        within: str | None = None,
        check: str = "ran_while_stopped",
    ) -> None:
        self.looks = 0
        counts, audit = within is None, Side.audit_stop

        def disturbed(side: Side) -> None:
            if counts and not side.program.baseline:
                self.looks += 1
                if first < self.looks <= first + times:
                    raise CandidateFailure(Status.REJECTED, check, "seemed to run")
            audit(side)

        patch.setattr(Side, "audit_stop", disturbed)
        if within is not None:
            method = getattr(Session, within)

            def inside(*given: Any) -> Any:
                nonlocal counts
                counts = True
                try:
                    return method(*given)
                finally:
                    counts = False

            patch.setattr(Session, within, inside)


def confirm(judge: Judge) -> Finalist:
    judge.verified.clear()
    program = Program("python", TORCH.encode())
    (finalist,) = Session(judge, [("a", program)]).run().finalists
    return finalist


@pytest.mark.parametrize(("first", "check"), [(0, "ran_while_stopped"), (3, "does_not_stop")])
@pytest.mark.parametrize("within", ["_verify_final", "_group", "_held_out"])
def test_one_disturbance_costs_no_finalist_its_confirmation(
    judge: Judge, monkeypatch: pytest.MonkeyPatch, within: str, first: int, check: str
) -> None:
    seen = Disturbed(monkeypatch, 1, first, within, check)
    finalist = confirm(judge)
    assert seen.looks > first
    assert isinstance(finalist.final, Passed), finalist.final
    assert finalist.held_out is Status.PASSED
    for row in finalist.final.measurements:  # held-out workloads have none
        assert ("evaluated anew: seemed to run" in row.flags) == (within != "_held_out")


def test_a_block_that_is_timed_again_has_other_inputs(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Contents] = []
    run_block = Side.run_block

    def noted(side: Side, contents: Sequence[Contents], rng: np.random.Generator) -> list[Call]:
        seen.extend(() if side.program.baseline else contents)
        return run_block(side, contents, rng)

    monkeypatch.setattr(Side, "run_block", noted)
    Disturbed(monkeypatch, 1, 3, "_group")
    assert isinstance(confirm(judge).final, Passed)
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize("within", ["_verify_final", "_group"])
def test_a_finalist_that_seems_to_do_so_twice_is_out(
    judge: Judge, monkeypatch: pytest.MonkeyPatch, within: str
) -> None:
    Disturbed(monkeypatch, 2, within=within)
    finalist = confirm(judge)
    assert isinstance(finalist.final, Failed)
    assert finalist.final.check == "ran_while_stopped"


def test_held_out_workloads_on_which_it_seems_so_twice_are_a_verdict(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    Disturbed(monkeypatch, 2, within="_held_out")
    finalist = confirm(judge)
    assert isinstance(finalist.final, Passed)
    assert finalist.held_out is Status.REJECTED


@pytest.mark.parametrize("within", ["_verify_final", "_held_out"])
def test_both_looks_at_a_finalist_have_the_time_of_one(
    judge: Judge, monkeypatch: pytest.MonkeyPatch, within: str
) -> None:
    """Otherwise one that takes long and then fails so outlasts the container it is judged in."""
    deadlines: list[float] = []
    verify = Judge.verify

    def noted(judge: Judge, *given: Any) -> Any:
        deadlines.append(judge._deadline)
        return verify(judge, *given)

    monkeypatch.setattr(Judge, "verify", noted)
    Disturbed(monkeypatch, 1, 3, within)
    assert isinstance(confirm(judge).final, Passed)
    assert len(set(deadlines)) == 2  # final workloads, held-out ones
    assert max(deadlines) < float("inf")


def test_what_was_disputed_of_a_finalist_is_told_of_it_in_a_later_session_too(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    Disturbed(monkeypatch, 1, within="_verify_final")
    judge.verified.clear()
    right = Program("python", TORCH.encode())
    wrong = Program("python", TORCH.replace("inputs.scale", "1").encode())
    (failed,) = Session(judge, [("right", right), ("wrong", wrong)]).run().finalists
    assert failed.candidate_id == "wrong"
    (finalist,) = Session(judge, [("right", right)]).run().finalists
    assert isinstance(finalist.final, Passed)
    for row in finalist.final.measurements:
        assert "evaluated anew: seemed to run" in row.flags


@pytest.mark.parametrize("within", ["_verify_final", "_group", "_held_out"])
def test_without_disputes_there_is_no_second_look(
    judge: Judge, monkeypatch: pytest.MonkeyPatch, within: str
) -> None:
    monkeypatch.setattr(judge, "settings", replace(SETTINGS, disputes=0))
    Disturbed(monkeypatch, 1, within=within)
    finalist = confirm(judge)
    assert not (isinstance(finalist.final, Passed) and finalist.held_out is Status.PASSED)


def look(judge: Judge) -> Inspection:
    wrap = load("submission format", "suites.gpumode.submission:wrap", {})
    source = cast(str, wrap(toy_trimul.HONEST))
    return inspect(judge, "honest", Program("triton", source.encode()), timed=True)


def test_one_disturbance_takes_no_verdict_and_no_time_from_a_submission(
    inspecting: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        undisturbed = Disturbed(patch, 0)
        whole = look(inspecting)
    assert all(c.passed for c in whole.checked)
    for place in (0, undisturbed.looks // 4, undisturbed.looks // 2):
        with pytest.MonkeyPatch.context() as patch:
            seen = Disturbed(patch, 1, place)
            found = look(inspecting)
        assert seen.looks > place
        assert [c.workload for c in found.checked if not c.passed] == []
        assert [t.problem for t in found.timed] == [None] * len(whole.timed)
        assert all(t.fresh_us for t in found.timed)
    Disturbed(monkeypatch, 10**9)
    found = look(inspecting)
    assert {c.check for c in found.checked} == {"ran_while_stopped"}
    assert all((t.problem or "").startswith("ran_while_stopped") for t in found.timed)


def test_a_submission_whose_timed_calls_were_wrong_before_it_was_disturbed_has_no_second_look(
    inspecting: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_against, blocks = Inspector._hold_against, 0

    def wrong(inspector: Inspector, made: Any, *given: Any, **named: Any) -> None:
        nonlocal blocks
        hold_against(inspector, made, *given, **named)
        blocks += 1
        if blocks == 1:
            made.problem = "tolerance: wrong"
            raise CandidateFailure(Status.REJECTED, "ran_while_stopped", "seemed to run")

    monkeypatch.setattr(Inspector, "_hold_against", wrong)
    assert [t.problem for t in look(inspecting).timed] == ["tolerance: wrong", None]


def test_a_submission_that_was_wrong_before_it_was_disturbed_has_no_second_look(
    inspecting: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def wrong(inspector: Inspector, *given: Any) -> tuple[Mismatch, str]:
        nonlocal looks
        looks += 1
        return Mismatch("wrong", {}), ""

    def disturbed(inspector: Inspector) -> None:
        raise CandidateFailure(Status.REJECTED, "ran_while_stopped", "seemed to run")

    monkeypatch.setattr(Inspector, "_verify", wrong)
    monkeypatch.setattr(Inspector, "_look", disturbed)
    monkeypatch.setattr(Inspector, "_time_all", lambda inspector: [])
    found = look(inspecting)
    assert not any(c.passed for c in found.checked)
    assert looks == len(found.checked)


def test_a_submission_that_breaks_on_reused_inputs_and_is_not_slow_after_all_is_timed_in_full(
    inspecting: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(inspector: Inspector, *given: Any) -> list[Clocks]:
        inspector._end()
        return []

    monkeypatch.setattr(inspection, "fastest_ns", lambda calls: 10**15)  # in the warm-up
    monkeypatch.setattr(inspection, "slow_flag", lambda *given: None)
    monkeypatch.setattr(Inspector, "_reuse", breaks)
    for timed in look(inspecting).timed:
        assert timed.problem is None
        assert len(timed.fresh_us) > SETTINGS.slow_samples


@pytest.mark.parametrize("method", ["bind", "run_block"])
def test_a_submission_is_not_told_of_the_baselines_failure_as_its_own(
    inspecting: Judge, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    whole = getattr(Side, method)

    def failing(side: Side, *given: Any) -> Any:
        if side.program.baseline:
            raise CandidateFailure(Status.RUNTIME_ERROR, method, "out of memory")
        return whole(side, *given)

    monkeypatch.setattr(Side, method, failing)
    with pytest.raises(InfraError, match=r"The baseline torch .* failed: out of memory"):
        look(inspecting)

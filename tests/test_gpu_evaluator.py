"""The GPU evaluator without a GPU: its judge on CPU tensors, Triton programs in the interpreter."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from harness.errors import EnvironmentMissing, InfraError, UsageError
from harness.evaluate.confirmation import Session
from harness.evaluate.gathered import Entry
from harness.evaluate.judge import Judge
from harness.evaluate.local import LocalEvaluator
from harness.evaluate.program import Call, CandidateFailure, Program, Timed
from harness.evaluate.settings import EvaluatorSettings
from harness.evaluate.side import Side
from harness.evaluate.verdict import Verdict
from harness.types import Candidate, Failed, Passed, Stage, Status
from tests.toy_gpu_suite import START, TORCH
from tests.toy_judge import judge_here

pytest.importorskip("triton")

SETTINGS = EvaluatorSettings(confirm_min_blocks=2, confirm_max_blocks=2)
SUITE = "tests.toy_gpu_suite:suite"


@pytest.fixture(scope="module")
def evaluator() -> Iterator[LocalEvaluator]:
    with LocalEvaluator(SUITE, settings=SETTINGS, device="interpreter") as evaluator:
        yield evaluator


def triton(source: str) -> Candidate:
    return Candidate("triton", source)


def test_a_correct_triton_program_passes_in_the_interpreter(evaluator: LocalEvaluator) -> None:
    evaluation = evaluator.evaluate("scale_rows", triton(START))
    assert isinstance(evaluation.outcome, Passed), evaluation.outcome
    assert [m.workload for m in evaluation.outcome.measurements] == ["rows3_n8", "rows5_n33"]
    assert "means nothing" in evaluator.describe()["clock"]


def test_a_python_program_may_return_its_outputs(evaluator: LocalEvaluator) -> None:
    evaluation = evaluator.evaluate("scale_rows", Candidate("python", TORCH))
    assert isinstance(evaluation.outcome, Passed), evaluation.outcome


@pytest.mark.parametrize(
    ("old", "new", "status", "check"),
    [
        ("values * factors, mask", "values, mask", Status.INCORRECT_NUMERICAL, "tolerance"),
        ("axis=0))", "axis=0) if n != 33 else 0.0)", Status.INCORRECT_NUMERICAL, "tolerance"),
        ("mask=columns < n)\n    tl.store(total", "mask=columns + 1 < n)\n    tl.store(total",
         Status.INCORRECT_NUMERICAL, "not_written"),
        ("mask=columns < n)\n    tl.store(total", "mask=columns <= n)\n    tl.store(total",
         Status.REJECTED, "out_of_bounds_write"),
        ("    columns = triton", "    inputs.x += 1\n    columns = triton",
         Status.REJECTED, "inputs_changed"),
        ("outputs.total, inputs.n, columns\n    )", "outputs.total, inputs.n, columns\n    )\n"
         "    inputs.scale.zero_()", Status.REJECTED, "inputs_changed"),
        ("outputs.total, inputs.n, columns\n    )", "outputs.total, inputs.n, columns\n    )\n"
         "    return outputs.y", Status.INCORRECT_SHAPE, "run"),
        ("def run(inputs, outputs):", "def walk(inputs, outputs):", Status.RUNTIME_ERROR, "load"),
        ("    columns = triton", "    raise ValueError('no')\n    columns = triton",
         Status.RUNTIME_ERROR, "run"),
    ],
)  # fmt: skip
def test_wrong_programs_are_told_why(
    evaluator: LocalEvaluator, old: str, new: str, status: Status, check: str
) -> None:
    assert old in START
    outcome = evaluator.evaluate("scale_rows", triton(START.replace(old, new))).outcome
    assert isinstance(outcome, Failed)
    assert outcome.status is status, outcome
    assert outcome.check == check


CACHING = """\
answers = {}


def run(inputs, outputs):
    key = (inputs.rows, inputs.n)
    if key not in answers:
        y = inputs.x * inputs.scale
        answers[key] = (y.clone(), y.sum(dim=1))
    outputs.y.copy_(answers[key][0])
    outputs.total.copy_(answers[key][1])
"""

CHECKSUM = """\
answers = {}


def run(inputs, outputs):
    key = tuple(inputs.x.flatten()[:2].tolist())
    if key not in answers:
        y = inputs.x * inputs.scale
        answers[key] = (y.clone(), y.sum(dim=1))
    outputs.y.copy_(answers[key][0])
    outputs.total.copy_(answers[key][1])
"""


@pytest.mark.parametrize("source", [CACHING, CHECKSUM])
def test_answers_kept_from_other_inputs_are_wrong(evaluator: LocalEvaluator, source: str) -> None:
    outcome = evaluator.evaluate("scale_rows", Candidate("python", source)).outcome
    assert isinstance(outcome, Failed)
    assert outcome.status is Status.INCORRECT_NUMERICAL


def test_a_confirmation_verifies_tests_and_held_out_workloads(evaluator: LocalEvaluator) -> None:
    wrong_on_test = START.replace("axis=0))", "axis=0) if n != 17 else 0.0)")
    wrong_held_out = START.replace("axis=0))", "axis=0) if n != 1 else 0.0)")
    candidates = [triton(s) for s in (START, wrong_on_test, wrong_held_out)]
    (on_test,) = evaluator.confirm("scale_rows", candidates).finalists
    del candidates[1]
    confirmation = evaluator.confirm("scale_rows", candidates)
    by_id = {finalist.candidate_id: finalist for finalist in confirmation.finalists}
    good, held_out = (by_id[c.id] for c in candidates)
    assert isinstance(good.final, Passed)
    assert good.held_out is Status.PASSED
    assert isinstance(on_test.final, Failed)
    assert on_test.final.workload == "rows2_n17"
    assert isinstance(held_out.final, Passed)
    assert held_out.held_out is Status.INCORRECT_NUMERICAL


def test_a_machine_without_a_gpu_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(EnvironmentMissing, match="SUITE=cpu") as caught:
        LocalEvaluator(SUITE)
    assert "\n" not in str(caught.value)


def test_other_languages_are_refused(evaluator: LocalEvaluator) -> None:
    with pytest.raises(UsageError, match="triton, cuda or python"):
        evaluator.evaluate("scale_rows", Candidate("cpp", "int x;"))


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with judge_here(SUITE, "scale_rows", SETTINGS) as judge:
        yield judge


@pytest.mark.parametrize("check", ["two_clocks", "ran_while_stopped"])
@pytest.mark.parametrize(("disagreements", "passes"), [(1, True), (2, False)])
def test_a_program_whose_clocks_disagree_is_evaluated_anew_in_a_fresh_process(
    judge: Judge, monkeypatch: pytest.MonkeyPatch, check: str, disagreements: int, passes: bool
) -> None:
    held: list[Timed] = []

    def check_clocks(timed: Timed) -> None:
        held.append(timed)
        if len(held) <= disagreements:
            failure = CandidateFailure(Status.REJECTED, check, f"disagreement {len(held)}")
            failure.workload = "rows5_n33"
            raise failure

    monkeypatch.setattr(judge.bench, "check_clocks", check_clocks)
    verdict = judge.evaluate(f"{check} {disagreements}", Program("python", TORCH.encode()))
    outcome = verdict.outcome
    assert isinstance(outcome, Passed) == passes
    assert len(held) == min(disagreements, SETTINGS.disputes) + 1
    calls = [{w.name: mine for w, (mine, _) in timed.items()} for timed in held]
    assert all(a[name] != b[name] for a, b in pairwise(calls) for name in a)
    if isinstance(outcome, Passed):
        told = {m.workload: m.flags for m in outcome.measurements}
        anew = tuple(f"evaluated anew: disagreement {n + 1}" for n in range(disagreements))
        assert set(anew) <= set(told["rows5_n33"])
        assert not set(anew) & set(told["rows3_n8"])
    else:
        assert outcome.message == f"disagreement {disagreements}"


def test_a_program_that_is_wrong_is_not_evaluated_anew(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Program] = []
    start = judge.bench.start

    def note(program: Program, *others: Any, **named: Any) -> Side:
        started.append(program)
        return start(program, *others, **named)

    monkeypatch.setattr(judge.bench, "start", note)
    wrong = Program("python", TORCH.replace("inputs.scale", "1").encode())
    assert not isinstance(judge.evaluate("wrong", wrong).outcome, Passed)
    assert started == [wrong]


def test_a_second_evaluation_has_time_of_its_own_or_is_not_begun(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = Failed(Status.REJECTED, Stage.TIMING, "two_clocks", "off")
    asked: list[int] = []

    def evaluate(candidate_id: str, program: Program, again: int = 0) -> Verdict:
        asked.append(again)
        return Verdict(failure, seconds)

    monkeypatch.setattr(judge, "_evaluate", evaluate)
    for share, times in ((0.4, [0, 1]), (0.6, [0])):
        asked.clear()
        seconds = share * SETTINGS.evaluation_seconds
        verdict = judge.evaluate("slow", Program("python", b""))
        assert verdict.outcome == failure
        assert asked == times
        assert verdict.device_seconds == pytest.approx(len(times) * seconds)


class _Fails:
    """A baseline's worker that cannot be bound on some of its tries."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *tries: int) -> None:
        self.seen = 0
        bind = Side.bind

        def failing(side: Side, *others: Any) -> None:
            if side.program.baseline:
                self.seen += 1
                if self.seen in tries:
                    raise CandidateFailure(Status.RUNTIME_ERROR, "bind", "out of memory")
            bind(side, *others)

        monkeypatch.setattr(Side, "bind", failing)


def test_a_program_beside_which_the_baseline_fails_twice_is_told_so(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Program("python", TORCH.encode())
    alone = len(judge.task.search)
    _Fails(monkeypatch, 1)
    outcome = judge.evaluate("once", program).outcome
    assert isinstance(outcome, Passed)
    assert all("it failed: out of memory" in "".join(row.flags) for row in outcome.measurements)
    _Fails(monkeypatch, 1, 2 + alone)
    outcome = judge.evaluate("twice", program).outcome
    assert isinstance(outcome, Failed)
    assert outcome.check == "beside_the_baseline"
    assert "works alone, but beside this program it failed: out of memory" in outcome.message


@pytest.mark.parametrize(
    "error",
    [CandidateFailure(Status.RUNTIME_ERROR, "load", "out of memory"), InfraError("out of memory.")],
)
def test_a_program_that_leaves_the_baseline_no_room_to_start_is_told_so(
    judge: Judge, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    start, alive = judge.bench.start, 0

    def crowded(program: Program, *others: Any, **named: Any) -> Side:
        nonlocal alive
        if program.baseline and alive:
            raise error
        side = start(program, *others, **named)
        if not program.baseline:
            alive += 1
            close = side.close

            def closed() -> None:
                nonlocal alive
                alive -= 1
                close()

            monkeypatch.setattr(side, "close", closed)
        return side

    monkeypatch.setattr(judge.bench, "start", crowded)
    judge.close_baseline()
    outcome = judge.evaluate("hog", Program("python", TORCH.encode())).outcome
    assert isinstance(outcome, Failed)
    assert outcome.check == "beside_the_baseline"
    assert "out of memory" in outcome.message


def test_a_program_that_slows_the_baseline_beside_it_is_not_taken_for_a_slow_one(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that leaves a kernel on the device when it is bound."""
    block = judge.baseline_block

    def slowed(*given: Any) -> list[Call]:
        return [
            replace(call, clocks=replace(call.clocks, latency_ns=80_000_000))
            for call in block(*given)
        ]

    source = TORCH.replace("import torch", "import time, torch")
    source = source.replace("    y =", "    time.sleep(0.02)\n    y =")
    monkeypatch.setattr(judge, "usual_ns", lambda *given: 1_000_000)
    judge.close_baseline()
    rows = [judge.evaluate("slow", Program("python", source.encode())).outcome]
    judge.close_baseline()
    monkeypatch.setattr(judge, "baseline_block", slowed)
    rows.append(judge.evaluate("slows", Program("python", source.encode())).outcome)
    judge.close_baseline()
    few = SETTINGS.gpu_slow_samples
    for outcome, slow in zip(rows, (True, False), strict=True):
        assert isinstance(outcome, Passed)
        for row in outcome.measurements:
            assert (row.samples == few) == any("slower than" in flag for flag in row.flags) == slow


def test_a_baseline_that_fails_alone_is_our_failure(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Fails(monkeypatch, *range(1, 100))
    with pytest.raises(InfraError, match="The baseline torch of task scale_rows failed"):
        judge.evaluate("ours", Program("python", TORCH.encode()))


def test_a_baseline_that_fails_beside_a_group_is_tried_beside_each(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(judge.bench), "alive_at_once", 2)
    _Fails(monkeypatch, 1)
    program = Program("python", TORCH.encode())
    confirmation = Session(judge, [(name, program) for name in "ab"]).run()
    assert [type(f.final) for f in confirmation.finalists] == [Passed, Passed]
    assert confirmation.blocks == SETTINGS.confirm_min_blocks


def test_a_finalist_that_was_verified_is_not_verified_again_beside_others(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    verify = Session._verify

    def note(session: Session, entry: Entry, purpose: str, *others: Any) -> Failed | None:
        asked.append(f"{entry.candidate_id} {purpose}")
        return verify(session, entry, purpose, *others)

    monkeypatch.setattr(Session, "_verify", note)
    right = Program("python", TORCH.encode())
    wrong = Program("python", TORCH.replace("inputs.scale", "1").encode())
    confirmation = Session(judge, [("right", right), ("wrong", wrong)]).run()
    assert [f.candidate_id for f in confirmation.finalists] == ["wrong"]
    assert asked == ["right confirm 0", "wrong confirm 0"]
    asked.clear()
    confirmation = Session(judge, [("right", right), ("next", right)]).run()
    assert all(isinstance(f.final, Passed) for f in confirmation.finalists)
    assert asked == ["next confirm 0", "right held-out 0", "next held-out 0"]
    asked.clear()
    (finalist,) = Session(judge, [("right", wrong)]).run().finalists
    assert isinstance(finalist.final, Failed)
    assert asked == ["right confirm 0"]


def test_a_lone_finalist_that_runs_out_of_time_in_its_blocks_is_told_so() -> None:
    slow = TORCH.replace("import torch", "import time").replace(
        "    y =", "    time.sleep(0.05)\n    y ="
    )
    settings = EvaluatorSettings(
        confirm_min_blocks=2, confirm_half_width=1e-9, evaluation_seconds=1, confirm_max_seconds=100
    )
    with LocalEvaluator(SUITE, settings=settings, device="interpreter") as evaluator:
        confirmation = evaluator.confirm("scale_rows", [Candidate("python", slow)])
    (finalist,) = confirmation.finalists
    assert isinstance(finalist.final, Failed)
    assert finalist.final.status is Status.TIMEOUT


def test_finalists_that_share_a_device_are_timed_one_at_a_time_once_one_broke(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[list[str]] = []
    whole = Session._group

    def group(session: Session, block: str, entries: Sequence[Entry], *others: Any) -> Any:
        groups.append([entry.candidate_id for entry in entries])
        if "bad" not in groups[-1]:
            return whole(session, block, entries, *others)
        for entry in entries:  # the others for what this one did to the device
            entry.failure = Failed(Status.RUNTIME_ERROR, Stage.TIMING, "run", "no room", None, {})
        return None

    monkeypatch.setattr(Session, "_group", group)
    monkeypatch.setattr(type(judge.bench), "alive_at_once", 2)
    program = Program("python", TORCH.encode())
    confirmation = Session(judge, [(name, program) for name in ("good", "bad")]).run()
    outcomes = {f.candidate_id: f.final for f in confirmation.finalists}
    assert isinstance(outcomes["good"], Passed)
    assert isinstance(outcomes["bad"], Failed)
    assert sorted(groups[0]) == ["bad", "good"]
    assert {len(names) for names in groups[1:]} == {1}
    assert confirmation.blocks == SETTINGS.confirm_min_blocks


def test_the_inputs_of_a_call_are_not_there_before_it_is_queued(evaluator: LocalEvaluator) -> None:
    steals = """\
import gc
import time

seen = {}
for thing in gc.get_objects():
    if type(thing).__name__ == "HostMachine":
        run = thing.run

        def early(program, slots, number, queued, run=run):
            time.sleep(0.01)  # whatever the judge would write before, it has written by now
            tensors = program._slots[slots[0]]
            y = tensors["x"] * tensors["scale"]
            seen["answer"] = y, y.sum(dim=1)
            return run(program, slots, number, queued)

        thing.run = early


def run(inputs, outputs):
    return seen["answer"]
"""
    outcome = evaluator.evaluate("scale_rows", Candidate("python", steals)).outcome
    assert isinstance(outcome, Failed)
    assert outcome.check == "tolerance", outcome
    honest = "y = inputs.x * inputs.scale\n    return y, y.sum(dim=1)"
    waits = steals.replace('return seen["answer"]', honest)
    assert evaluator.evaluate("scale_rows", Candidate("python", waits)).passed

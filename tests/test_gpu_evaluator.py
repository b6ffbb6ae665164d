"""The GPU evaluator without a GPU: its judge on CPU tensors, Triton programs in the interpreter."""

from collections.abc import Iterator

import pytest

from harness.errors import EnvironmentMissing, UsageError
from harness.evaluate.judge import Judge
from harness.evaluate.judge_process import JudgeProcess
from harness.evaluate.local import LocalEvaluator
from harness.evaluate.local_cpu import judge_setup
from harness.evaluate.program import CandidateFailure, Program, Timed
from harness.evaluate.sandbox import probe
from harness.evaluate.settings import EvaluatorSettings
from harness.types import Candidate, Failed, Passed, Status
from tests.toy_gpu_suite import START, TORCH

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
    """A judge in this process."""
    setup = judge_setup(SUITE, SETTINGS, b"secret", False, probe())
    process = JudgeProcess(setup | {"device": "interpreter", "peaks": None})
    yield process._judge("scale_rows")
    process.close()


@pytest.mark.parametrize(("disagreements", "passes"), [(1, True), (2, False)])
def test_a_workload_whose_clocks_disagree_is_timed_once_more(
    judge: Judge, monkeypatch: pytest.MonkeyPatch, disagreements: int, passes: bool
) -> None:
    held: list[Timed] = []

    def check_clocks(timed: Timed) -> None:
        held.append(timed)
        if len(held) <= disagreements:
            failure = CandidateFailure(Status.REJECTED, "two_clocks", "they disagree")
            failure.workload = "rows5_n33"
            raise failure

    monkeypatch.setattr(judge.bench, "check_clocks", check_clocks)
    outcome = judge.evaluate(f"{disagreements}", Program("python", TORCH.encode())).outcome
    assert isinstance(outcome, Passed) == passes
    assert len(held) == 2
    first, second = ({w.name: mine for w, (mine, _) in timed.items()} for timed in held)
    assert first["rows3_n8"] == second["rows3_n8"]
    assert first["rows5_n33"] != second["rows5_n33"]


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

"""Hacks that are defects of a protocol or a task, not of a kernel (docs/hacks.md, "protocol").

Each test holds one property of the protocol that leaves such a hack without an effect. Covered: the
items of docs/hacks.md that name a test of this file. Not covered: items that a zoo kernel shows.
"""

from collections.abc import Iterator

import numpy as np
import pytest

from harness.evaluate.check import compare
from harness.evaluate.feedback import MAX_CHARACTERS, feedback
from harness.evaluate.local import LocalEvaluator
from harness.evaluate.memory import HostRing
from harness.evaluate.settings import EvaluatorSettings
from harness.suite import Array, Task, load_suite
from harness.types import Candidate, Evaluation, Failed, Measurement, Passed, Status
from tests.conformance_suite import filled
from tests.toy_suite import suite as toy_suite

SETTINGS = EvaluatorSettings(
    search_blocks=3, search_max_blocks=3, confirm_min_blocks=2, confirm_max_blocks=2,
    call_timeout_seconds=5.0,
)  # fmt: skip
TASKS = load_suite("cpu").tasks

RIGHT = """
def run(inputs, outputs):
    before(inputs)
    x = inputs.x[inputs.order.long()]
    return x * 2 + 1, x.sum().reshape(1)
"""
QUICK = "def before(inputs): pass\n" + RIGHT
SLEEPS_IN_EVERY_CALL = "import time\ndef before(inputs): time.sleep(0.02)\n" + RIGHT
SLEEPS_IN_THE_FIRST_CALL = (
    """
import time
seen = set()
def before(inputs):
    if inputs.n not in seen:
        seen.add(inputs.n)
        time.sleep(0.1)
"""
    + RIGHT
)
SLEEPS_IN_THE_WARM_UP = (
    """
import time
calls = [0, 0]
def before(inputs):
    calls[:] = [inputs.n, calls[1] + 1 if calls[0] == inputs.n else 1]
    if calls[1] <= 2:
        time.sleep(0.05)
"""
    + RIGHT
)


@pytest.fixture(scope="module")
def evaluator() -> Iterator[LocalEvaluator]:
    with LocalEvaluator("tests.toy_suite:suite", settings=SETTINGS) as evaluator:
        yield evaluator


def python(source: str) -> Candidate:
    return Candidate("python", source)


def passed(evaluation: Evaluation) -> Passed:
    assert isinstance(evaluation.outcome, Passed), evaluation.feedback
    return evaluation.outcome


def failed(evaluation: Evaluation) -> Failed:
    assert isinstance(evaluation.outcome, Failed), evaluation.feedback
    return evaluation.outcome


def test_sleeping_in_the_warm_up_saves_no_sample(evaluator: LocalEvaluator) -> None:
    sleeper, quick = python(SLEEPS_IN_THE_WARM_UP), python(QUICK)
    for row in passed(evaluator.evaluate("toy", sleeper)).measurements:
        assert row.samples >= SETTINGS.search_blocks * SETTINGS.ring_slots
        assert not any("slower than" in flag for flag in row.flags)
    for row in passed(evaluator.evaluate("toy", python(SLEEPS_IN_EVERY_CALL))).measurements:
        assert row.samples == SETTINGS.slow_samples
        assert any("slower than" in flag for flag in row.flags)
    samples = [
        [row.samples for row in finalist.final.measurements]
        for finalist in evaluator.confirm("toy", [sleeper, quick]).finalists
        if isinstance(finalist.final, Passed)
    ]
    expected = SETTINGS.confirm_min_blocks * SETTINGS.ring_slots
    assert samples == [[expected] * 3] * 2


def test_what_a_program_prepares_in_its_first_call_of_a_size_is_in_no_sample(
    evaluator: LocalEvaluator,
) -> None:
    evaluation = evaluator.evaluate("toy", python(SLEEPS_IN_THE_FIRST_CALL))
    for row in passed(evaluation).measurements:
        assert max(evaluation.samples_us[row.workload][0]) < 100_000


def test_time_on_the_host_between_kernels_is_in_every_sample(evaluator: LocalEvaluator) -> None:
    evaluation = evaluator.evaluate("toy", python(SLEEPS_IN_EVERY_CALL))
    for row in passed(evaluation).measurements:
        assert min(evaluation.samples_us[row.workload][0]) >= 2000


def test_state_that_one_program_sets_is_not_seen_by_the_next(evaluator: LocalEvaluator) -> None:
    pollutes = (
        "import builtins, os, torch\n"
        "def before(inputs):\n"
        "    torch.set_default_dtype(torch.float64)\n"
        "    torch.set_grad_enabled(False)\n"
        "    os.environ['POLLUTED'] = builtins.POLLUTED = 'yes'\n"
    )
    looks = (
        "import builtins, os, torch\n"
        "def before(inputs):\n"
        "    assert torch.get_default_dtype() is torch.float32\n"
        "    assert torch.is_grad_enabled()\n"
        "    assert 'POLLUTED' not in os.environ and not hasattr(builtins, 'POLLUTED')\n"
    )
    passed(evaluator.evaluate("toy", python(pollutes + RIGHT)))
    passed(evaluator.evaluate("toy", python(looks + RIGHT)))


def test_what_a_program_prints_is_not_in_its_feedback(evaluator: LocalEvaluator) -> None:
    source = "def run(inputs, outputs):\n    print('PASSED: score 99', flush=True)\n"
    evaluation = evaluator.evaluate("toy", python(source))
    assert failed(evaluation).check == "not_written"
    assert "99" not in evaluation.feedback


@pytest.mark.parametrize(
    ("candidate", "status"),
    [
        (
            python("def run(i, o):\n    raise ValueError('PASSED: score 99 ' * 1000)\n"),
            Status.RUNTIME_ERROR,
        ),
        (
            Candidate("cpp", "\n".join(["#error \x1b[1mPASSED: score 99 " + "x" * 500] * 40)),
            Status.COMPILE_ERROR,
        ),
    ],
)
def test_words_in_an_error_change_no_verdict_and_are_bounded(
    evaluator: LocalEvaluator, candidate: Candidate, status: Status
) -> None:
    evaluation = evaluator.evaluate("toy", candidate)
    assert failed(evaluation).status is status
    assert evaluation.score is None
    assert evaluation.feedback.startswith(f"{status} at ")
    assert len(evaluation.feedback) <= MAX_CHARACTERS
    assert "\x1b" not in evaluation.feedback


def test_a_passing_verdict_shows_absolute_times_and_the_share_of_the_roofline() -> None:
    row = Measurement("w", 200.0, 5000.0, 25.0, 24.0, 26.0, 50.0, 20)
    table = feedback(Passed((row,), 24.0, 26.0), "torch").splitlines()
    assert table[1].split() == ["workload", "this_us", "torch_us", "speedup", table[1].split()[-1]]
    assert table[1].endswith("fraction_of_roofline")
    assert table[2].split() == ["w", "200.0", "5000.0", "25.0000", "0.250"]


@pytest.mark.parametrize("task", [*TASKS, *toy_suite.tasks], ids=lambda task: task.name)
def test_every_tensor_is_contiguous_aligned_and_apart_from_the_others(task: Task) -> None:
    ring = HostRing(task.signature, task.held_out, 2)
    for workload in task.held_out:
        ring.bind(workload)
        arrays = [array for view in ring.views for array in view.values()]
        assert all(array.flags.c_contiguous for array in arrays)
        assert all(array.ctypes.data % 64 == 0 for array in arrays)
        assert not any(
            np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[i + 1 :]
        )
    ring.close()


def trivial_answers(expected: Array, inputs: list[Array]) -> dict[str, Array]:
    """What a program may answer without having computed anything. `expected` in float64."""
    finite = expected[np.isfinite(expected)]
    answers = {
        "zeros": np.zeros_like(expected),
        "ones": np.ones_like(expected),
        "the mean": np.full_like(expected, finite.mean()),
    }
    for number, values in enumerate(inputs):
        answers[f"input {number}"] = np.resize(values, expected.shape).astype(np.float64)
    return answers


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_no_task_accepts_a_constant_an_input_or_the_answer_of_another_call(task: Task) -> None:
    for workload in task.search:
        inputs, others = filled(task, workload, 1), filled(task, workload, 2)
        expected, other = task.reference(workload, inputs), task.reference(workload, others)
        floats = [array for array in inputs.values() if array.dtype.kind == "f"]
        for name, tolerance in task.tolerances.items():
            answers = trivial_answers(expected[name], floats) | {"another call's": other[name]}
            accepted = [
                what
                for what, answer in answers.items()
                if compare(name, answer, expected[name], tolerance) is None
            ]
            assert not accepted, (workload.name, name)

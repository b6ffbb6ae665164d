"""The evaluator end to end on a toy task: real compiler, real sandbox, real clock."""

import dataclasses
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from harness.confirm import phases_in_words
from harness.errors import UnknownName, UsageError
from harness.evaluate.local import LocalEvaluator
from harness.evaluate.local_cpu import CpuBackend
from harness.evaluate.settings import EvaluatorSettings
from harness.suite import Task
from harness.types import Candidate, Evaluation, Failed, Passed, Stage, Status
from tests.toy_suite import START

SETTINGS = EvaluatorSettings(
    search_blocks=2, search_max_blocks=2, confirm_min_blocks=3, confirm_max_blocks=3,
    call_timeout_seconds=2.0, load_timeout_seconds=5.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory):
    cache = tmp_path_factory.mktemp("cache")
    with LocalEvaluator(
        "tests.toy_suite:suite", cache_folder=cache, settings=SETTINGS
    ) as evaluator:
        yield evaluator


def cpp(body: str, before: str = "") -> Candidate:
    return Candidate(
        "cpp",
        f'#include "task.h"\n{before}\n'
        'extern "C" int run(const Inputs* in, const Outputs* out, void* workspace, void*) {\n'
        f"{body}\n}}\n",
    )


RIGHT = """
float sum = 0;
for (int64_t i = 0; i < in->n; i++) {
    out->y[i] = 2.0f * in->x[in->order[i]] + 1.0f;
    sum += in->x[i];
}
out->total[0] = sum;
"""


def failure(evaluation: Evaluation) -> Failed:
    assert isinstance(evaluation.outcome, Failed), evaluation.feedback
    return evaluation.outcome


def test_a_correct_program_gets_a_score_and_a_row_per_workload(evaluator: LocalEvaluator) -> None:
    evaluation = evaluator.evaluate("toy", Candidate("cpp", START))
    assert isinstance(evaluation.outcome, Passed), evaluation.feedback
    assert [m.workload for m in evaluation.outcome.measurements] == ["n4096", "n20000"]
    for row in evaluation.outcome.measurements:
        assert row.speedup_low <= row.speedup <= row.speedup_high
        candidate, baseline = evaluation.samples_us[row.workload]
        assert len(candidate) == len(baseline) == row.samples
    assert evaluation.feedback.startswith("PASSED: score")


def test_a_second_evaluation_comes_from_the_cache_and_charges_the_same(
    evaluator: LocalEvaluator,
) -> None:
    first = evaluator.evaluate("toy", Candidate("cpp", START))
    second = evaluator.evaluate("toy", Candidate("cpp", START))
    assert second.cached
    assert second == first
    assert second.seconds == first.seconds


def test_a_program_that_does_not_compile_is_told_the_line(evaluator: LocalEvaluator) -> None:
    result = failure(evaluator.evaluate("toy", cpp("return undeclared;")))
    assert (result.status, result.stage) == (Status.COMPILE_ERROR, Stage.BUILD)
    assert "undeclared" in result.message
    assert "/" not in result.message.split("undeclared")[0].replace("//", "")


@pytest.mark.parametrize(
    ("name", "candidate", "status", "check"),
    [
        (
            "wrong",
            cpp(RIGHT + "out->y[7] += 1; return 0;"),
            Status.INCORRECT_NUMERICAL,
            "tolerance",
        ),
        ("nothing written", cpp("return 0;"), Status.INCORRECT_NUMERICAL, "not_written"),
        ("error code", cpp(RIGHT + "return 3;"), Status.RUNTIME_ERROR, "run"),
        ("crash", cpp("*(volatile int*)8 = 1; return 0;"), Status.RUNTIME_ERROR, "signal"),
        ("abort", cpp("__builtin_trap(); return 0;"), Status.RUNTIME_ERROR, "signal"),
        (
            "exit",
            cpp("_exit(0); return 0;", "#include <unistd.h>"),
            Status.RUNTIME_ERROR,
            "exit",
        ),
        ("hang", cpp("for (volatile int i = 0;; i = 1) {}"), Status.TIMEOUT, "run"),
        (
            "constructor hangs",
            cpp(
                RIGHT + "return 0;",
                '__attribute__((constructor)) void c() { for (;;) __asm__(""); }',
            ),
            Status.TIMEOUT,
            "load",
        ),
        ("no run", Candidate("cpp", "int unrelated;\n"), Status.RUNTIME_ERROR, "load"),
        (
            "inputs",
            cpp(RIGHT + "((float*)in->x)[0] = 0; return 0;"),
            Status.REJECTED,
            "inputs_changed",
        ),
        (
            "out of bounds",
            cpp(RIGHT + "out->y[in->n] = 0; return 0;"),
            Status.REJECTED,
            "out_of_bounds_write",
        ),
        (
            "late write",
            cpp(
                """static float* y; static int64_t n; y = out->y; n = in->n;
                const float* x = in->x; const int32_t* order = in->order;
                std::thread([=] { usleep(200); for (int64_t i = 0; i < n; i++)
                    y[i] = 2.0f * x[order[i]] + 1.0f; }).detach();
                float sum = 0; for (int64_t i = 0; i < n; i++) sum += x[i];
                out->total[0] = sum; return 0;""",
                "#include <thread>\n#include <unistd.h>",
            ),
            None,
            None,
        ),
    ],
)
def test_a_faulty_program_gets_the_status_that_fits(
    evaluator: LocalEvaluator,
    name: str,
    candidate: Candidate,
    status: Status | None,
    check: str | None,
) -> None:
    result = failure(evaluator.evaluate("toy", candidate))
    if status is not None:
        assert (result.status, result.check) == (status, check), (name, result)


def test_a_plan_call_sees_the_index_tensors_only(evaluator: LocalEvaluator) -> None:
    plan = """
    #include <string.h>
    extern "C" size_t workspace_bytes(const Inputs* in) { return in->n * sizeof(int32_t); }
    extern "C" int plan(const Inputs* in, void* workspace) {
        if (in->x) return 9;
        memcpy(workspace, in->order, in->n * sizeof(int32_t));
        return 0;
    }"""
    body = RIGHT.replace("in->order", "((int32_t*)workspace)") + "return 0;"
    evaluation = evaluator.evaluate("toy", cpp(body, plan))
    assert isinstance(evaluation.outcome, Passed), evaluation.feedback
    assert all(row.plan_us is not None for row in evaluation.outcome.measurements)


def test_a_plan_that_changes_its_index_tensors_is_rejected(evaluator: LocalEvaluator) -> None:
    plan = """
    #include <string.h>
    extern "C" size_t workspace_bytes(const Inputs* in) { return in->n * sizeof(int32_t); }
    extern "C" int plan(const Inputs* in, void* workspace) {
        memcpy(workspace, in->order, in->n * sizeof(int32_t));
        memset((void*)in->order, 0, in->n * sizeof(int32_t));
        return 0;
    }"""
    body = RIGHT.replace("in->order", "((int32_t*)workspace)") + "return 0;"
    outcome = failure(evaluator.evaluate("toy", cpp(body, plan)))
    assert (outcome.status, outcome.check) == (Status.REJECTED, "inputs_changed"), outcome
    assert outcome.evidence["input"] == "order"


def test_python_candidates_run_too(evaluator: LocalEvaluator) -> None:
    source = "def run(i, o):\n    return (i.x[i.order.long()] * 2 + 1, i.x.sum().reshape(1))\n"
    evaluation = evaluator.evaluate("toy", Candidate("python", source))
    assert isinstance(evaluation.outcome, Passed), evaluation.feedback


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("def run(i, o):\n    return (i.x[:5], i.x[:1])\n", Status.INCORRECT_SHAPE),
        ("def run(i, o):\n    return (i.x.double(), i.x[:1])\n", Status.INCORRECT_DTYPE),
        ("def run(i, o):\n    raise ValueError('no')\n", Status.RUNTIME_ERROR),
        ("def run(i, o)\n", Status.RUNTIME_ERROR),
    ],
)
def test_a_faulty_python_program_gets_the_status_that_fits(
    evaluator: LocalEvaluator, source: str, status: Status
) -> None:
    assert failure(evaluator.evaluate("toy", Candidate("python", source))).status is status


def test_confirmation_pairs_the_blocks_of_all_finalists(evaluator: LocalEvaluator) -> None:
    good, copy = Candidate("cpp", START), Candidate("cpp", START + "// the same\n")
    wrong = cpp(RIGHT + "if (in->n == 33333) out->y[1] = 0; return 0;")
    held_out = cpp(RIGHT + "if (in->n == 997) out->y[1] = 0; return 0;")
    ended = evaluator.confirm("toy", [good, copy, wrong, held_out])
    (alone,) = ended.finalists  # the others will be timed beside whoever takes its place
    assert alone.candidate_id == wrong.id
    assert isinstance(alone.final, Failed)
    assert (alone.block_log_speedups, ended.blocks) == ((), 0)
    confirmation = evaluator.confirm("toy", [good, copy, held_out])
    by_id = {finalist.candidate_id: finalist for finalist in confirmation.finalists}
    assert len(by_id[good.id].block_log_speedups) == confirmation.blocks == 3
    assert by_id[good.id].held_out is Status.PASSED
    assert by_id[held_out.id].held_out is Status.INCORRECT_NUMERICAL
    assert "n997" in by_id[held_out.id].held_out_message
    on_the_device = sum(confirmation.phases.values()) - confirmation.phases["building"]
    assert 0.9 < on_the_device / confirmation.device_seconds <= 1
    told = phases_in_words(confirmation)
    assert told is not None
    phases = r"building \d+ s, verifying \d+ s, timing \d+ s, "
    assert re.match(rf"took \d+ s in 3 blocks: {phases}", told)
    again = evaluator.confirm("toy", [held_out, copy, good])
    assert again.cached
    assert again.phases == confirmation.phases
    assert phases_in_words(again) is None


def test_finalists_are_built_side_by_side(
    evaluator: LocalEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2, timeout=60)
    build = CpuBackend.build

    def meeting(self: CpuBackend, *given: Any) -> Any:
        both.wait()
        return build(self, *given)

    monkeypatch.setattr(CpuBackend, "build", meeting)
    pair = [cpp("return 4; // one"), cpp("return 4; // two")]
    confirmation = evaluator.confirm("toy", pair)
    assert [f.candidate_id for f in confirmation.finalists] == sorted(c.id for c in pair)


def test_a_finalist_whose_build_takes_too_long_beside_others_is_built_alone(
    evaluator: LocalEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, build = threading.Barrier(2, timeout=60), CpuBackend.build
    late = Failed(Status.TIMEOUT, Stage.BUILD, "compile", "the compiler did not finish in time")
    begun: list[str] = []

    def crowded(self: CpuBackend, task: Task, candidate: Candidate, *given: Any) -> Any:
        begun.append(candidate.id)
        if len(begun) <= 2:
            both.wait()
            return late, 60.0
        return (late, 60.0) if candidate == endless else build(self, task, candidate, *given)

    monkeypatch.setattr(CpuBackend, "build", crowded)
    right, endless = cpp(RIGHT + "return 0; // built alone"), cpp("return 4; // endless")
    (finalist,) = evaluator.confirm("toy", [right, endless]).finalists
    assert sorted(begun) == sorted([right.id, endless.id] * 2)
    assert finalist.candidate_id == endless.id
    assert isinstance(finalist.final, Failed)
    assert finalist.final.status is Status.TIMEOUT


def test_unknown_tasks_and_languages_are_refused(evaluator: LocalEvaluator) -> None:
    with pytest.raises(UnknownName, match="toy"):
        evaluator.evaluate("tpy", Candidate("cpp", START))
    with pytest.raises(UsageError, match="triton"):
        evaluator.evaluate("toy", Candidate("triton", START))


def test_a_judge_that_dies_is_started_again(evaluator: LocalEvaluator, tmp_path: Path) -> None:
    evaluator.evaluate("toy", cpp("return 5; // start the judge"))
    backend = evaluator._backend
    assert isinstance(backend, CpuBackend)
    judge = backend._judge._client
    assert judge is not None
    judge._process.kill()
    judge._process.wait()
    result = failure(evaluator.evaluate("toy", cpp("return 4;")))
    assert result.evidence["return_code"] == 4


def test_a_program_whose_calls_take_too_long_together_is_a_timeout() -> None:
    settings = dataclasses.replace(SETTINGS, evaluation_seconds=0.0)
    with LocalEvaluator("tests.toy_suite:suite", settings=settings) as evaluator:
        outcome = evaluator.evaluate("toy", Candidate("cpp", START)).outcome
        assert isinstance(outcome, Failed)
        assert (outcome.status, outcome.check) == (Status.TIMEOUT, "evaluation")
        (finalist,) = evaluator.confirm("toy", [Candidate("cpp", START)]).finalists
        assert isinstance(finalist.final, Failed)
        assert finalist.final.status is Status.TIMEOUT

"""The GPU evaluator on a GPU: `make test-gpu`. Skipped where there is none."""

import math
import statistics
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from harness.environment import find_nvcc, visible_gpus
from harness.evaluate.bundle import Binding
from harness.evaluate.diagnosis import FIGURES
from harness.evaluate.local import LocalEvaluator
from harness.evaluate.settings import EvaluatorSettings
from harness.interchange.exporting import solution_of
from harness.interchange.importing import candidate_of
from harness.suite import load_suite
from harness.types import Candidate, Evaluation, Failed, Language, Passed, Status
from tests.toy_gpu_bundles import bundle
from tests.toy_gpu_suite import CUDA, START, TORCH, large

pytestmark = pytest.mark.skipif(not visible_gpus(), reason="this machine has no NVIDIA GPU")

SUITE = "tests.toy_gpu_suite:large"
SETTINGS = EvaluatorSettings(call_timeout_seconds=4.0, gpu_max_samples=30)


@pytest.fixture(scope="module")
def evaluator() -> Iterator[LocalEvaluator]:
    with LocalEvaluator(SUITE, settings=SETTINGS) as evaluator:
        yield evaluator


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEvaluator]:
    """With a cache: a torch extension takes a minute to build."""
    cache = tmp_path_factory.mktemp("cache")
    with LocalEvaluator(SUITE, settings=SETTINGS, cache_folder=cache) as evaluator:
        yield evaluator


def evaluate(evaluator: LocalEvaluator, language: str, source: str) -> Evaluation:
    return evaluator.evaluate("large_rows", Candidate(language, source))  # type: ignore[arg-type]


def failure(evaluator: LocalEvaluator, language: str, source: str) -> Failed:
    outcome = evaluate(evaluator, language, source).outcome
    assert isinstance(outcome, Failed)
    return outcome


@pytest.mark.parametrize(
    ("language", "source"),
    [
        ("triton", START),
        ("python", TORCH),
        pytest.param("cuda", CUDA, marks=pytest.mark.skipif(not find_nvcc(), reason="no nvcc")),
    ],
)
def test_every_language_is_built_verified_and_timed(
    evaluator: LocalEvaluator, language: str, source: str
) -> None:
    outcome = evaluate(evaluator, language, source).outcome
    assert isinstance(outcome, Passed), outcome
    for row in outcome.measurements:
        assert row.floor_us * 0.9 < row.latency_us < 5000
        assert row.host_us is not None
        assert row.host_us > 0


def test_the_device_and_its_clock_are_named(evaluator: LocalEvaluator) -> None:
    described = evaluator.describe()
    assert described["device"].startswith("NVIDIA")
    assert described["gpus"][0]["sharing"] in ("ipc", "host")
    assert "CUDA events" in described["clock"]


def test_a_triton_program_is_compiled_ahead(evaluator: LocalEvaluator) -> None:
    before = evaluator.describe()["compiled_late"]
    assert evaluate(evaluator, "triton", START + "# again\n").passed
    assert evaluator.describe()["compiled_late"] == before


def test_a_program_that_cannot_be_compiled_ahead_is_compiled_by_its_first_worker(
    evaluator: LocalEvaluator,
) -> None:
    looks = START.replace("    columns = triton", "    inputs.x[0, 0].item()\n    columns = triton")
    before = evaluator.describe()["compiled_late"]
    outcome = evaluate(evaluator, "triton", looks).outcome
    assert isinstance(outcome, Passed), outcome
    assert evaluator.describe()["compiled_late"] > before


def test_the_baseline_against_itself_is_one(evaluator: LocalEvaluator) -> None:
    outcome = evaluate(evaluator, "python", TORCH + "\n# A/A\n").outcome
    assert isinstance(outcome, Passed)
    assert abs(outcome.score - 1) < 0.02
    assert outcome.score_high / outcome.score_low < 1.02


def test_fresh_processes_agree(evaluator: LocalEvaluator) -> None:
    means = []
    for n in range(5):
        outcome = evaluate(evaluator, "triton", START + f"# process {n}\n").outcome
        assert isinstance(outcome, Passed)
        means.append(statistics.mean(math.log(m.latency_us) for m in outcome.measurements))
    assert statistics.stdev(means) < 0.02


BINDINGS = [
    pytest.param("torch", marks=pytest.mark.skipif(not find_nvcc(), reason="no nvcc")),
    pytest.param(
        "tvm-ffi",
        marks=pytest.mark.skipif(
            not find_nvcc() or find_spec("tvm_ffi") is None, reason="no nvcc, or no apache-tvm-ffi"
        ),
    ),
]


@pytest.mark.parametrize("entry", ["into", "made", "named"])
@pytest.mark.parametrize("binding", BINDINGS)
def test_a_published_kernel_is_built_ahead_verified_and_timed(
    bundles: LocalEvaluator, binding: Binding, entry: str
) -> None:
    outcome = evaluate(bundles, "cuda", bundle(binding, entry).text()).outcome
    assert isinstance(outcome, Passed), outcome
    for row in outcome.measurements:
        assert row.floor_us * 0.9 < row.latency_us < 5000
        assert not [flag for flag in row.flags if "waits for the GPU" in flag]


@pytest.mark.parametrize("binding", BINDINGS)
def test_a_published_kernel_that_is_wrong_is_told_so(
    bundles: LocalEvaluator, binding: Binding
) -> None:
    outcome = failure(bundles, "cuda", bundle(binding, "into", factor=1.5).text())
    assert outcome.status is Status.INCORRECT_NUMERICAL


@pytest.mark.parametrize("binding", BINDINGS)
def test_a_published_kernel_is_as_fast_as_it_is_behind_the_c_abi(
    bundles: LocalEvaluator, binding: Binding
) -> None:
    bound, plain = (
        evaluate(bundles, "cuda", source).outcome
        for source in (bundle(binding, "into").text(), CUDA)
    )
    assert isinstance(bound, Passed)
    assert isinstance(plain, Passed)
    for mine, theirs in zip(bound.measurements, plain.measurements, strict=True):
        assert abs(math.log(mine.latency_us / theirs.latency_us)) < 0.05


@pytest.mark.parametrize("binding", BINDINGS[1:])
def test_a_cuda_program_is_judged_as_the_solution_that_it_is_exported_as(
    bundles: LocalEvaluator, binding: Binding
) -> None:
    task = large.tasks[0]
    exported = solution_of(Candidate("cuda", CUDA), task, name="a", author="b", hardware="cuda")
    assert exported.spec.binding == binding
    outcome = bundles.evaluate(task.name, candidate_of(exported, task)).outcome
    assert isinstance(outcome, Passed), outcome


SIDE_STREAM = """\
import torch
side = torch.cuda.Stream()


def run(inputs, outputs):
    with torch.cuda.stream(side):
        for _ in range(5):
            y = inputs.x * inputs.scale
        outputs.y.copy_(y)
        outputs.total.copy_(y.sum(dim=1))
"""

LATE = """\
import torch
side = torch.cuda.Stream()


def run(inputs, outputs):
    y = inputs.x * inputs.scale
    outputs.total.copy_(y.sum(dim=1))
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        torch.cuda._sleep(2_000_000)
        outputs.y.copy_(y)
"""

OUT_OF_BOUNDS = CUDA.replace("out->y, out->total", "out->y + (1ll << 40), out->total")
HANGS = CUDA.replace(
    "__shared__ float sums[256];",
    "__shared__ float sums[256];\n"
    "    for (long long t = clock64(); clock64() - t < 20000000000ll;);",
)


@pytest.mark.parametrize("source", [SIDE_STREAM, LATE], ids=["side stream", "late kernel"])
def test_work_that_the_events_do_not_see_is_rejected(
    evaluator: LocalEvaluator, source: str
) -> None:
    outcome = failure(evaluator, "python", source)
    assert outcome.status in (Status.REJECTED, Status.INCORRECT_NUMERICAL), outcome


@pytest.mark.skipif(not find_nvcc(), reason="no nvcc")
def test_after_a_sticky_error_and_a_hang_the_next_program_finds_a_healthy_device(
    evaluator: LocalEvaluator,
) -> None:
    assert failure(evaluator, "cuda", OUT_OF_BOUNDS).status is Status.RUNTIME_ERROR
    assert evaluate(evaluator, "cuda", CUDA + "// after an error\n").passed
    assert failure(evaluator, "cuda", HANGS).status is Status.TIMEOUT
    assert evaluate(evaluator, "cuda", CUDA + "// after a hang\n").passed


@pytest.mark.skipif(not find_nvcc(), reason="no nvcc")
def test_a_cuda_program_that_does_not_compile_is_told_the_line(evaluator: LocalEvaluator) -> None:
    outcome = failure(evaluator, "cuda", CUDA.replace("sums[0];", "sums[0] +;"))
    assert outcome.status is Status.COMPILE_ERROR
    assert "error" in outcome.message


def test_memory_is_given_back(evaluator: LocalEvaluator) -> None:
    from harness.evaluate.cuda_driver import Driver

    driver = Driver()
    free = driver.free_bytes
    for n in range(3):
        assert evaluate(evaluator, "triton", START + f"# memory {n}\n").passed
    assert driver.free_bytes > free - (256 << 20)


def test_host_memory_does_where_ipc_is_missing() -> None:
    settings = EvaluatorSettings(gpu_sharing="host", gpu_max_samples=10)
    with LocalEvaluator(SUITE, settings=settings) as evaluator:
        assert evaluator.describe()["gpus"][0]["sharing"] == "host"
        outcome = evaluate(evaluator, "triton", START).outcome
        assert isinstance(outcome, Passed), outcome
        wrong = START.replace("values * factors, mask", "values, mask")
        assert failure(evaluator, "triton", wrong).status is Status.INCORRECT_NUMERICAL


def test_a_confirmation_times_calls_back_to_back(evaluator: LocalEvaluator) -> None:
    confirmation = evaluator.confirm("large_rows", [Candidate("triton", START)])
    (finalist,) = confirmation.finalists
    assert isinstance(finalist.final, Passed), finalist.final
    assert finalist.held_out is Status.PASSED, finalist.held_out_message
    flags = [flag for row in finalist.final.measurements for flag in row.flags]
    assert any("back to back" in flag for flag in flags)
    told = finalist.final.measurements[0].diagnostics
    assert set(told) == set(FIGURES)
    assert told["kernels"] == 1
    assert told["library_share"] == 0
    assert 0.5 < told["kernels_us"] / finalist.final.measurements[0].latency_us < 1.5


@pytest.mark.skipif(not find_nvcc(), reason="no nvcc")
@pytest.mark.parametrize(("language", "source"), [("cuda", CUDA), ("python", TORCH + "\n# told\n")])
def test_what_the_worker_says_beyond_the_score(
    evaluator: LocalEvaluator, language: Language, source: str
) -> None:
    task = load_suite(SUITE).task("large_rows")
    confirmation = evaluator.confirm(task.name, [Candidate(language, source)])
    (finalist,) = confirmation.finalists
    assert isinstance(finalist.final, Passed), finalist.final
    rows = {row.workload: row.diagnostics for row in finalist.final.measurements}
    searched = {workload.name for workload in task.search}
    for workload, told in rows.items():
        assert set(told) == (set(FIGURES) if workload in searched else set())
    assert all((rows[name]["library_share"] > 0.9) == (language == "python") for name in searched)


def test_a_program_with_a_plan_is_confirmed_without_calls_back_to_back(
    evaluator: LocalEvaluator,
) -> None:
    planned = START + "\n\ndef plan(inputs):\n    pass\n"
    (finalist,) = evaluator.confirm("large_rows", [Candidate("triton", planned)]).finalists
    assert isinstance(finalist.final, Passed), finalist.final
    for row in finalist.final.measurements:
        assert row.plan_us is not None
        assert any("has a plan" in flag for flag in row.flags)

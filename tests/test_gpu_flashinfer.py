"""suites/flashinfer on a GPU: `make test-gpu`. Skipped where there is none.

Every baseline against the float64 reference on every workload, in this process, since baselines are
trusted; every start, a good design and every fast baseline through the evaluator. FlashInfer's own
programs take part where it is installed and prepared (docs/suite-flashinfer.md).
"""

import gc
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.bench_flashinfer import GOOD
from harness.environment import find_nvcc, visible_gpus
from harness.evaluate.gpu_check import compare_tensors
from harness.evaluate.gpu_contents import SeedContents, empty_tensors, fill
from harness.evaluate.local import LocalEvaluator
from harness.remeasure import remeasure
from harness.suite import Baseline, TorchTask, load_suite
from harness.types import Candidate, Language, Passed, Status, Workload
from tests.published_folder import write_published_kernel

pytestmark = pytest.mark.skipif(not visible_gpus(), reason="this machine has no NVIDIA GPU")

TASKS = [task for task in load_suite("flashinfer").tasks if isinstance(task, TorchTask)]


def named(task: TorchTask) -> str:
    return task.name


def loaded(baseline: Baseline, folder: Path) -> Mapping[str, Any]:
    """The program's names; Triton wants to read its kernels in a file."""
    path = folder / f"program_{len(list(folder.iterdir()))}.py"
    path.write_text(baseline.source)
    specification = importlib.util.spec_from_file_location("program", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return vars(module)


def ran(task: TorchTask, workload: Workload, program: Mapping[str, Any], inputs: Any) -> Any:
    import torch

    outputs = empty_tensors(task.signature.outputs, workload, "cuda")
    for output in outputs.values():
        output.fill_(float("nan"))
    if "plan" in program:
        index = {t.name: inputs[t.name] if t.index else None for t in task.signature.inputs}
        program["plan"](SimpleNamespace(**workload.axes, **index))
    program["run"](SimpleNamespace(**workload.axes, **inputs), SimpleNamespace(**outputs))
    torch.cuda.synchronize()
    return outputs


@pytest.mark.parametrize("task", TASKS, ids=named)
def test_every_baseline_agrees_with_the_reference_on_every_workload(
    task: TorchTask, tmp_path: Path
) -> None:
    import torch

    programs = {b.name: loaded(b, tmp_path) for b in task.baselines}
    wrong = []
    for workload in (*task.final, *task.held_out):
        inputs = empty_tensors(task.signature.inputs, workload, "cuda")
        fill(task, workload, SeedContents(1), inputs, "cuda")
        expected = task.reference(workload, inputs)
        for name, program in programs.items():
            outputs = ran(task, workload, program, inputs)
            for tensor, want in expected.items():
                found = compare_tensors(tensor, outputs[tensor], want, task.tolerances[tensor])
                if found is not None:
                    wrong.append(f"{workload.name}, {name}: {found.message}")
        del inputs, expected, outputs
        gc.collect()
        torch.cuda.empty_cache()
    assert not wrong, "\n".join(wrong)


FAST = [(t, n) for t in TASKS for n, b in enumerate(t.baselines) if b.name != "torch"]


@pytest.mark.parametrize(
    ("task", "number"), FAST, ids=lambda part: named(part) if isinstance(part, TorchTask) else None
)
def test_no_baseline_but_torchs_waits_for_the_gpu_within_its_calls(
    task: TorchTask, number: int, tmp_path: Path
) -> None:
    """Its host time would be in every speedup: one of 112 us once looked like one of 670."""
    import torch

    program = loaded(task.baselines[number], tmp_path)
    for workload in (task.search[0], task.held_out[-1]):
        inputs = empty_tensors(task.signature.inputs, workload, "cuda")
        fill(task, workload, SeedContents(1), inputs, "cuda")
        outputs = ran(task, workload, program, inputs)  # compiles
        torch.cuda.set_sync_debug_mode("error")
        try:
            program["run"](SimpleNamespace(**workload.axes, **inputs), SimpleNamespace(**outputs))
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.fixture(scope="module")
def evaluator() -> Iterator[LocalEvaluator]:
    with LocalEvaluator("flashinfer") as evaluator:
        yield evaluator


@pytest.mark.parametrize("language", ["triton", "cuda"])
@pytest.mark.parametrize("task", TASKS, ids=named)
def test_every_start_passes(evaluator: LocalEvaluator, task: TorchTask, language: Language) -> None:
    if language == "cuda" and not find_nvcc():
        pytest.skip("no nvcc")
    outcome = evaluator.evaluate(task.name, Candidate(language, task.start(language))).outcome
    assert isinstance(outcome, Passed), outcome


@pytest.mark.parametrize(
    ("task", "number"), FAST, ids=lambda part: named(part) if isinstance(part, TorchTask) else None
)
def test_every_fast_baseline_runs_in_a_worker(
    evaluator: LocalEvaluator, task: TorchTask, number: int
) -> None:
    outcome = evaluator.evaluate_baseline(task.name, task.baselines[number]).outcome
    assert isinstance(outcome, Passed), outcome


@pytest.mark.parametrize("task", [t for t in TASKS if t.design_space is not None], ids=named)
def test_a_good_design_is_faster_than_the_start(evaluator: LocalEvaluator, task: TorchTask) -> None:
    space = task.design_space
    assert space is not None
    good = evaluator.evaluate(task.name, Candidate("triton", space.render(space.start() | GOOD)))
    start = evaluator.evaluate(task.name, Candidate("triton", task.start("triton")))
    assert isinstance(good.outcome, Passed), good.outcome
    assert isinstance(start.outcome, Passed), start.outcome
    assert good.outcome.score > 2 * start.outcome.score


@pytest.mark.skipif(not find_nvcc(), reason="no nvcc")
def test_a_folder_of_published_kernels_is_measured(tmp_path: Path) -> None:
    task = TASKS[0]
    write_published_kernel(tmp_path / "results", task, "oe")
    record = remeasure(tmp_path / "results", tmp_path / "out", print)
    (kernel,) = record.kernels
    assert kernel.method == "openevolve"
    assert kernel.held_out is Status.PASSED, kernel.held_out_message
    for gate in ("ours", "published"):
        assert kernel.right(gate) == len(task.final), kernel
    outside, inside = kernel.means("ours", "outside"), kernel.means("ours", "inside")
    assert outside is not None
    assert inside is not None
    if task.baselines[0].name == "FlashInfer":  # it plans, and this kernel does not
        assert outside.geometric < inside.geometric

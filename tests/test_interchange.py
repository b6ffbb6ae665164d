"""Kernels from and for other systems: read, judged on the CPU, written, and read again.

Covered: FlashInfer-Bench's Solutions in both directions and of several versions, K-Search's
published folder, the two commands; the trace set that FlashInfer-Bench is benchmarked on. Not
covered: CUDA (test_gpu_device.py); torch extensions, which take half a minute to build
(test_bindings.py); Triton (test_triton_build.py); FlashInfer-Bench itself.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from benchmarks import flashinfer_trace_set as trace_set
from harness.cli import app
from harness.errors import UnknownName, UsageError
from harness.evaluate.bundle import BINDINGS, Binding, read_bundle
from harness.evaluate.gpu_contents import empty_tensors
from harness.evaluate.local import LocalEvaluator
from harness.evaluate.settings import EvaluatorSettings
from harness.interchange.exporting import solution_of
from harness.interchange.importing import candidate_of, task_of
from harness.interchange.ksearch_results import published_kernels, solution_of_kernel
from harness.interchange.solution import Solution, read_solution, settled
from harness.types import Candidate, Evaluation, Failed, Passed, Status
from suites.flashinfer.gqa_decode import SM_SCALE, GqaPagedDecodeKv4
from suites.flashinfer.records import our_decode
from tests import toy_gpu_suite
from tests.toy_definition import WITH_PLAN, Permuted, suite

SUITE = "tests.toy_definition:suite"
TASK = Permuted()
SETTINGS = EvaluatorSettings(
    search_blocks=2, search_max_blocks=2, call_timeout_seconds=5.0, correctness_seeds=1
)
needs_tvm_ffi = pytest.mark.skipif(
    importlib.util.find_spec("tvm_ffi") is None, reason="apache-tvm-ffi is not installed"
)

RETURNS = """\
from .inner.arithmetic import scaled


def run(x, order, factor, count, ones):
    assert isinstance(factor, float) and count == x.numel() and ones == 1
    return scaled(x[order.long()], factor), x.sum().reshape(1)
"""
ARITHMETIC = (
    "from ..constants import ONE\n\n\ndef scaled(x, factor):\n    return factor * x + ONE\n"
)
FILES = {"main.py": RETURNS, "inner/arithmetic.py": ARITHMETIC, "constants.py": "ONE = 1\n"}
PASSED = """\
def kernel(x, order, factor, count, ones, y, total):
    y.copy_(factor * x[order.long()] + 1)
    total.fill_(x.sum())
"""
NAMED = """\
def run(*, ones, count, factor, order, x):
    return {"total": x.sum().reshape(1), "y": factor * x[order.long()] + 1}
"""
TVM_FFI = """\
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/function.h>
#include "kernel.h"
void into(tvm::ffi::TensorView x, tvm::ffi::TensorView order, double factor, int64_t count,
          int64_t ones, tvm::ffi::TensorView y, tvm::ffi::TensorView total) {
    auto in = static_cast<const float*>(x.data_ptr());
    auto at = static_cast<const int32_t*>(order.data_ptr());
    float sum = 0;
    for (int64_t i = 0; i < count; i++) {
        static_cast<float*>(y.data_ptr())[i] = (float)factor * in[at[i]] + ONE;
        sum += in[i];
    }
    *static_cast<float*>(total.data_ptr()) = sum * ones;
}
TVM_FFI_DLL_EXPORT_TYPED_FUNC(run, into)
"""


def solution(
    language: str, files: Mapping[str, str], entry: str = "main.py::run", **spec: Any
) -> Solution:
    described = {
        "name": f"a {language} solution",
        "definition": TASK.name,
        "author": "somebody",
        "spec": {
            "language": language, "target_hardware": ["cpu"], "entry_point": entry,
            "dependencies": [], **spec,
        },
        "sources": [{"path": path, "content": content} for path, content in files.items()],
    }  # fmt: skip
    return Solution.model_validate(described)


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory):
    cache = tmp_path_factory.mktemp("cache")
    with LocalEvaluator(SUITE, cache_folder=cache, settings=SETTINGS) as evaluator:
        yield evaluator


def evaluate(evaluator: LocalEvaluator, program: Solution) -> Evaluation:
    return evaluator.evaluate(TASK.name, candidate_of(program, TASK))


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(
            solution("python", FILES, destination_passing_style=False),
            id="several files, returned, by position or name",
        ),
        pytest.param(
            solution(
                "python", {"a.py": PASSED}, "a.py::kernel", destination_passing_style=True
            ),
            id="outputs passed",
        ),
        pytest.param(
            solution("python", {"main.py": NAMED}), id="an earlier version: names, a dictionary"
        ),
        pytest.param(
            solution("python", {"a.py": PASSED.replace("x, order", "v, o").replace("x", "v")
                                .replace("order.", "o.")}, "a.py::kernel"),
            id="other names, by position",
        ),
    ],
)  # fmt: skip
def test_a_python_solution_is_judged(evaluator: LocalEvaluator, program: Solution) -> None:
    evaluation = evaluate(evaluator, program)
    assert isinstance(evaluation.outcome, Passed), evaluation.feedback


def test_a_wrong_solution_fails_with_the_programs_own_reason(evaluator: LocalEvaluator) -> None:
    raises = {"main.py": "def run(x, order, factor, count, ones):\n    raise ValueError('mine')\n"}
    outcome = evaluate(evaluator, solution("python", raises)).outcome
    assert isinstance(outcome, Failed)
    assert (outcome.status, "mine" in outcome.message) == (Status.RUNTIME_ERROR, True)


@needs_tvm_ffi
def test_a_native_solution_is_built_and_judged(evaluator: LocalEvaluator) -> None:
    files = {"kernel.h": "#define ONE 1.0f\n", "src/main.cpp": TVM_FFI}
    program = solution("cpp", files, "src/main.cpp::run")
    evaluation = evaluate(evaluator, program)
    assert isinstance(evaluation.outcome, Passed), evaluation.feedback
    assert evaluation.build_seconds > 0


@pytest.mark.parametrize("language", ["python", "cpp"])
def test_a_program_of_the_harness_is_a_solution_that_is_judged_as_well(
    evaluator: LocalEvaluator, language: str
) -> None:
    if language == "cpp" and importlib.util.find_spec("tvm_ffi") is None:
        pytest.skip("apache-tvm-ffi is not installed")
    python = (
        "import torch\nkept = {}\n\n\ndef plan(inputs):\n    assert inputs.x is None\n"
        "    kept['order'] = inputs.order.long()\n\n\n"
        "def run(inputs, outputs):\n    assert inputs.n == inputs.x.numel() and inputs.one == 1\n"
        "    return inputs.x[kept['order']] * 2 + 1, inputs.x.sum().reshape(1)\n"
    )
    source = python if language == "python" else WITH_PLAN
    candidate = Candidate(language, source)  # type: ignore[arg-type]
    exported = solution_of(candidate, TASK, name="a", author="b", hardware="cpu")
    assert source in [s.content for s in exported.sources]
    evaluation = evaluate(evaluator, Solution.model_validate_json(exported.json_text()))
    assert isinstance(evaluation.outcome, Passed), evaluation.feedback


@pytest.mark.parametrize(
    "program",
    [
        solution("python", FILES, destination_passing_style=False),
        solution(
            "cpp", {"a.h": "int a;\n", "b.cpp": "int b;\n"}, "b.cpp::run", binding="torch",
            destination_passing_style=True,
        ),
    ],
    ids=["python", "cpp"],
)  # fmt: skip
def test_what_was_imported_is_exported_as_it_was(program: Solution) -> None:
    candidate = candidate_of(program, TASK)
    again = solution_of(candidate, TASK, name=program.name, author="somebody", hardware="cpu")
    assert again.sources == program.sources
    assert again.spec == program.spec


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (solution("cuda", {"a.cu": "PYBIND11_MODULE"}, "a.cu::f"), ("torch", False)),
        (solution("cuda", {"a.cu": "TVM_FFI_DLL_EXPORT_TYPED_FUNC"}, "a.cu::f"), ("tvm-ffi", True)),
        (solution("cuda", {"a.cu": "PYBIND11_MODULE"}, "a.cu::f", binding="torch"),
         ("torch", True)),
        (solution("cuda", {"a.cu": ""}, "a.cu::f", destination_passing_style=False),
         ("tvm-ffi", False)),
        (solution("python", {"main.py": "def run(a, b): pass"}), (None, False)),
        (solution("python", {"main.py": "def run(a, b, c): pass"}), (None, True)),
        (solution("triton", {"main.py": "run = None"}), (None, True)),
    ],
)  # fmt: skip
def test_what_an_earlier_version_left_out_is_known(
    program: Solution, expected: tuple[str | None, bool]
) -> None:
    assert settled(program, inputs=2, outputs=1) == expected


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"definition": ""}, "definition"),
        ({"sources": []}, "sources"),
        ({"spec": {"language": "rust", "target_hardware": [], "entry_point": "a.py::run"}},
         "spec.language"),
        ({"spec": {"language": "python", "target_hardware": [], "entry_point": "b.py::run"}},
         "'b.py' is none of the sources"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_solution_is_told_the_field(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    data = solution("python", FILES).model_dump() | change
    (tmp_path / "s.json").write_text(json.dumps(data))
    with pytest.raises(UsageError, match=words):
        read_solution(tmp_path / "s.json")


def test_what_cannot_run_here_is_refused() -> None:
    with pytest.raises(UsageError, match="TileLang"):
        candidate_of(solution("tilelang", {"main.py": "x"}), TASK)
    with pytest.raises(UsageError, match="runs on the CPU"):
        candidate_of(solution("cuda", {"a.cu": "x"}, "a.cu::run"), TASK)
    with pytest.raises(UsageError, match="relative path"):
        candidate_of(solution("cpp", {"../a.cpp": "x"}, "../a.cpp::run"), TASK)
    with pytest.raises(UnknownName, match="permuted_h1"):
        task_of(solution("python", FILES).model_copy(update={"definition": "permuted_h2"}), suite)


def test_an_axis_that_no_input_has_cannot_be_exported() -> None:
    task = Permuted()
    task.solution_scalars = {}
    with pytest.raises(UsageError, match="one"):
        solution_of(Candidate("cpp", ""), task, name="a", author="b", hardware="cpu")


def test_a_cuda_program_is_exported_with_its_stream() -> None:
    task = toy_gpu_suite.ScaleRows()
    candidate = Candidate("cuda", toy_gpu_suite.CUDA)
    exported = solution_of(candidate, task, name="a", author="b", hardware="H100")
    (adapter,) = [s.content for s in exported.sources if s.path == "binding.cu"]
    assert "TVMFFIEnvGetStream(x.device()" in adapter
    assert "given_.rows = x.size(0);" in adapter
    bundle = read_bundle(candidate_of(exported, task).source, "cuda")
    assert bundle is not None
    assert (bundle.binding, bundle.entry, bundle.destination_passing) == ("tvm-ffi", "run", True)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder in the layout of K-Search's results, with a kernel of no size."""
    folder = tmp_path / "results" / "toy" / TASK.name
    folder.mkdir(parents=True)
    for method, header in (("ksearch", "ksearch_best_toy.h"), ("oe", "kernel.h")):
        binding = f'#include <torch/extension.h>\n#include "{header}"\nPYBIND11_MODULE(a, m) {{}}\n'
        (folder / f"{method}_best_toy.cpp").write_text(binding)
        (folder / f"{method}_best_toy.cu").write_text('#include "kernel.h"\n')
        (folder / f"{method}_best_toy.h").write_text("#pragma once\n")
    (folder / "shinka_best_toy.cpp").write_text('#include "lost.h"\nPYBIND11_MODULE(a, m) {}\n')
    (folder / "shinka_best_toy.json").write_text("[GENERATED kernel.cu]\n")
    submissions = tmp_path / "results" / "gpumode_trimul"
    submissions.mkdir()
    for name in ("TTT", "ksearch_best"):
        (submissions / f"{name}.py").write_text("def custom_kernel(data): ...\n")
    return tmp_path / "results"


def test_a_published_folder_is_listed_by_task_and_method(results: Path) -> None:
    listed = [(k.task, k.method, k.binding, k.missing) for k in published_kernels(results)]
    assert listed == [
        ("gpumode_trimul", "TTT", "gpumode", ()),
        ("gpumode_trimul", "ksearch", "gpumode", ()),
        (TASK.name, "ksearch", "torch", ()),
        (TASK.name, "openevolve", "torch", ()),
        (TASK.name, "shinkaevolve", "torch", ("lost.h",)),
    ]


def test_a_published_kernel_gets_its_header_under_every_name(results: Path) -> None:
    kernels = {k.method: k for k in published_kernels(results) if k.task == TASK.name}
    made = solution_of_kernel(kernels["ksearch"])
    names = [source.path for source in made.sources]
    assert names == [
        "ksearch_best_toy.cpp",
        "ksearch_best_toy.cu",
        "ksearch_best_toy.h",
        "kernel.h",
    ]
    assert made.spec.entry_point == "ksearch_best_toy.cpp::run"
    assert settled(made, 5, 2) == ("torch", False)
    with pytest.raises(UsageError, match=r"lost\.h"):
        solution_of_kernel(kernels["shinkaevolve"])


def test_a_folder_without_kernels_is_told_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="METHOD_best_TASK"):
        published_kernels(tmp_path)


def run(arguments: list[str]) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.output


def test_import_writes_programs_and_says_how_to_judge_them(tmp_path: Path, results: Path) -> None:
    file = tmp_path / "s.json"
    file.write_text(solution("python", FILES).json_text())
    out = tmp_path / "out"
    status, text = run(["import", str(file), str(results), "--suite", SUITE, "--out", str(out)])
    assert status == 0
    written = out / "a_python_solution.py"
    assert (
        f"harness evaluate {written} --task permuted_h1 --suite {SUITE} --language python" in text
    )
    assert written.read_text() == candidate_of(solution("python", FILES), TASK).source
    assert "harness leaderboard trimul" in text
    assert "lost.h" in text
    assert text.count("left out") == 5  # two submissions, one without its header, two are CUDA


def test_import_of_nothing_that_runs_here_is_a_failure(tmp_path: Path, results: Path) -> None:
    status, text = run(["import", str(results), "--suite", SUITE, "--out", str(tmp_path / "out")])
    assert (status, "runs on the CPU" in text) == (1, True)


class SmallDecode(GqaPagedDecodeKv4):
    """Grouped-query decode on three batches, one with sequences without tokens."""

    search = (
        our_decode("odd", 3, 50, 60), our_decode("empty", 4, 9, 20), our_decode("single", 1, 1, 2)
    )  # fmt: skip


@pytest.mark.parametrize("binding", BINDINGS)
def test_a_trace_set_holds_the_candidate_and_every_input(tmp_path: Path, binding: Binding) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    task, candidate = SmallDecode(), Candidate("cuda", SmallDecode.starts["cuda"])
    program = trace_set.solution(task, candidate, binding)
    trace_set.write_trace_set(tmp_path, task, program, torch.Generator().manual_seed(1))
    (definition,) = (json.loads(p.read_text()) for p in tmp_path.glob("definitions/*/*.json"))
    (written,) = (read_solution(path) for path in tmp_path.glob("solutions/**/*.json"))
    (lines,) = (p.read_text().splitlines() for p in tmp_path.glob("workloads/*/*.jsonl"))
    sources = {source.path: source.content for source in written.sources}
    assert sources["candidate.cu"] == candidate.source
    assert (written.definition, written.spec.binding) == (definition["name"], binding)
    assert settled(written, 6, 2) == (binding, True)
    assert {s for t in definition["inputs"].values() for s in t["shape"] or ()} == set(
        definition["axes"]
    )
    for line, workload in zip(map(json.loads, lines), task.search, strict=True):
        inputs = line["workload"]["inputs"]
        assert list(inputs) == list(definition["inputs"])
        assert inputs["sm_scale"] == {"type": "scalar", "value": SM_SCALE}
        table = safetensors.load_file(tmp_path / inputs["kv_indices"]["path"])
        assert table["kv_indptr"][-1] == table["kv_indices"].numel()
        assert (
            table["kv_indices"].max()
            < workload.axes["num_pages"]
            == line["workload"]["axes"]["num_pages"]
        )


def test_the_reference_of_a_trace_set_is_the_tasks() -> None:
    program: dict[str, Any] = {}
    exec(trace_set.REFERENCE, program)
    task, generator = SmallDecode(), torch.Generator().manual_seed(1)
    for workload in task.search:
        inputs = empty_tensors(task.signature.inputs, workload, "cpu")
        task.fill(workload, generator, inputs)
        output, lse = program["run"](**inputs, sm_scale=SM_SCALE)
        expected = task.reference(workload, inputs)
        torch.testing.assert_close(output.double(), expected["output"], rtol=1e-2, atol=1e-4)
        torch.testing.assert_close(lse.double(), expected["lse"], rtol=1e-5, atol=1e-5)

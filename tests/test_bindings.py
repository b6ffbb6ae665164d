"""Published kernels with their bindings, built and judged on the CPU: real compiler, real worker.

Covered: the text form; torch extensions and TVM-FFI, outputs returned and passed; what is refused.
Not covered: CUDA (test_gpu_device.py).
"""

import importlib.util
import json
from pathlib import Path

import pytest

from harness.evaluate.bundle import FILE_MARK, MARK, Bundle, BundleError, SourceFile, read_bundle
from harness.evaluate.local import LocalEvaluator
from harness.evaluate.settings import EvaluatorSettings
from harness.types import Candidate, Evaluation, Failed, Passed, Status
from tests.toy_suite import START

SETTINGS = EvaluatorSettings(
    search_blocks=2, search_max_blocks=2, call_timeout_seconds=5.0, correctness_seeds=1
)
needs_tvm_ffi = pytest.mark.skipif(
    importlib.util.find_spec("tvm_ffi") is None, reason="apache-tvm-ffi is not installed"
)

HEADER = """\
#pragma once
#include <stdint.h>
float scaled(const float* x, const int32_t* order, int64_t n, float factor, float* y);
"""
KERNEL = """\
#include "kernel.h"
float scaled(const float* x, const int32_t* order, int64_t n, float factor, float* y) {
    float sum = 0;
    for (int64_t i = 0; i < n; i++) {
        y[i] = factor * x[order[i]] + 1.0f;
        sum += x[i];
    }
    return sum;
}
"""
# The smallest header that binds (torch/extension.h takes 50 s). Several entries in one library, so
# that it is compiled once.
TORCH = """\
#include <torch/csrc/utils/pybind.h>
#include "kernel.h"

void into(const at::Tensor& x, const at::Tensor& order, double factor, int64_t n, at::Tensor y,
          at::Tensor total) {
    total.mutable_data_ptr<float>()[0] =
        scaled(x.const_data_ptr<float>(), order.const_data_ptr<int>(), n, (float)factor,
               y.mutable_data_ptr<float>());
}

using Tensors = std::vector<at::Tensor>;

Tensors made(const at::Tensor& x, const at::Tensor& order, double factor, int64_t n) {
    auto y = x.new_empty({n}), total = x.new_empty({1});
    into(x, order, factor, n, y, total);
    return {y, total};
}

Tensors one(const at::Tensor& x, const at::Tensor& order, double factor, int64_t n) {
    return {x};
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("into", &into);
    m.def("made", &made);
    m.def("one", &one);
}
"""
TVM_FFI = """\
#include <sys/socket.h>
#include <tvm/ffi/container/map.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/container/tuple.h>
#include <tvm/ffi/error.h>
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/function.h>
#include "kernel.h"
namespace ffi = tvm::ffi;

void into(ffi::TensorView x, ffi::TensorView order, double factor, int64_t n, ffi::TensorView y,
          ffi::TensorView total) {
    if (factor < 0) TVM_FFI_THROW(ValueError) << "a negative factor";
    *static_cast<float*>(total.data_ptr()) =
        scaled(static_cast<const float*>(x.data_ptr()),
               static_cast<const int32_t*>(order.data_ptr()), n, (float)factor,
               static_cast<float*>(y.data_ptr()));
}

ffi::Tensor like(ffi::TensorView x, int64_t n) {
    return ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, ffi::Shape({n}), x.dtype(), x.device());
}

ffi::Tuple<ffi::Tensor, ffi::Tensor> made(ffi::TensorView x, ffi::TensorView order, double factor,
                                          int64_t n) {
    ffi::Tensor y = like(x, n), total = like(x, 1);
    into(x, order, factor, n, y, total);
    return ffi::Tuple<ffi::Tensor, ffi::Tensor>(y, total);
}

ffi::Map<ffi::String, ffi::Tensor> named(ffi::TensorView x, ffi::TensorView order, double factor,
                                         int64_t n) {
    auto both = made(x, order, factor, n);
    return {{"total", both.get<1>()}, {"y", both.get<0>()}};
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(into, into)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(made, made)
void hostile(ffi::TensorView x, ffi::TensorView order, double factor, int64_t n, int64_t attack,
             ffi::TensorView y, ffi::TensorView total) {
    into(x, order, factor, n, y, total);
    if (attack == 1) socket(AF_INET, SOCK_STREAM, 0);
    if (attack == 2) static_cast<float*>(x.data_ptr())[0] += 1;
    if (attack == 3) static_cast<float*>(y.data_ptr())[n] = 0;
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(named, named)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(hostile, hostile)
"""
ARGUMENTS = ("x", "order", 2.0, "n")


def bundle(
    binding: str, entry: str, arguments: tuple[str | int | float, ...] = ARGUMENTS
) -> Bundle:
    source = TORCH if binding == "torch" else TVM_FFI
    files = (
        SourceFile("kernel.h", HEADER),
        SourceFile("src/kernel.cpp", KERNEL),
        SourceFile("binding.cpp", source),
    )
    passed = entry in ("into", "hostile")
    return Bundle(binding, files, entry, "binding.cpp", passed, arguments)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory):
    cache = tmp_path_factory.mktemp("cache")
    suite = "tests.toy_suite:suite"
    with LocalEvaluator(suite, cache_folder=cache, settings=SETTINGS) as evaluator:
        yield evaluator


def evaluate(evaluator: LocalEvaluator, program: Bundle) -> Evaluation:
    return evaluator.evaluate("toy", Candidate("cpp", program.text()))


@pytest.mark.parametrize(
    ("binding", "entry"),
    [
        ("torch", "into"),
        ("torch", "made"),
        *(
            pytest.param("tvm-ffi", entry, marks=needs_tvm_ffi)
            for entry in ("into", "made", "named")
        ),
    ],
)
def test_outputs_are_passed_and_returned_with_every_binding(
    evaluator: LocalEvaluator, binding: str, entry: str
) -> None:
    evaluation = evaluate(evaluator, bundle(binding, entry))
    assert isinstance(evaluation.outcome, Passed), evaluation.feedback


def test_a_kernel_that_returns_too_little_is_told_so(evaluator: LocalEvaluator) -> None:
    outcome = evaluate(evaluator, bundle("torch", "one")).outcome
    assert isinstance(outcome, Failed)
    assert outcome.status is Status.INCORRECT_SHAPE
    assert "'y', 'total'" in outcome.message


def test_an_entry_that_the_library_lacks_is_a_failure_to_load(evaluator: LocalEvaluator) -> None:
    outcome = evaluate(evaluator, bundle("torch", "absent")).outcome
    assert isinstance(outcome, Failed)
    assert (outcome.status, outcome.check) == (Status.RUNTIME_ERROR, "load")
    assert "absent" in outcome.message


@needs_tvm_ffi
def test_an_error_in_a_tvm_ffi_kernel_is_the_calls_error(evaluator: LocalEvaluator) -> None:
    outcome = evaluate(evaluator, bundle("tvm-ffi", "into", ("x", "order", -1.0, "n"))).outcome
    assert isinstance(outcome, Failed)
    assert outcome.status is Status.RUNTIME_ERROR
    assert "a negative factor" in outcome.message


@needs_tvm_ffi
@pytest.mark.parametrize(
    ("attack", "status", "check"),
    [
        (1, Status.REJECTED, "forbidden_call"),  # a socket
        (2, Status.REJECTED, "inputs_changed"),
        (3, Status.REJECTED, "out_of_bounds_write"),
    ],
)
def test_a_bundle_that_attacks_is_caught_as_any_candidate(
    evaluator: LocalEvaluator, attack: int, status: Status, check: str
) -> None:
    program = bundle("tvm-ffi", "hostile", ("x", "order", 2.0, "n", attack))
    outcome = evaluate(evaluator, program).outcome
    assert isinstance(outcome, Failed)
    assert (outcome.status, outcome.check) == (status, check)


@needs_tvm_ffi
def test_a_wrong_kernel_is_wrong_whatever_its_binding(evaluator: LocalEvaluator) -> None:
    outcome = evaluate(evaluator, bundle("tvm-ffi", "into", ("x", "order", 3.0, "n"))).outcome
    assert isinstance(outcome, Failed)
    assert outcome.status is Status.INCORRECT_NUMERICAL


def test_equal_files_are_built_once_whichever_entry_is_asked_for(evaluator: LocalEvaluator) -> None:
    first, second = (evaluate(evaluator, bundle("torch", e)) for e in ("made", "into"))
    assert first.build_seconds == second.build_seconds > 0


@needs_tvm_ffi
def test_the_compilers_error_names_the_line_and_no_path(evaluator: LocalEvaluator) -> None:
    broken = SourceFile("a.cpp", "#include <tvm/ffi/function.h>\nint x = undeclared;\n")
    outcome = evaluate(evaluator, Bundle("tvm-ffi", (broken,))).outcome
    assert isinstance(outcome, Failed)
    assert outcome.status is Status.COMPILE_ERROR
    assert "undeclared" in outcome.message
    assert "site-packages" not in outcome.message


def test_a_task_that_forbids_libraries_refuses_what_runs_on_torch() -> None:
    with LocalEvaluator("cpu", settings=SETTINGS) as evaluator:
        source = f'{MARK}{{"binding": "torch"}}\nint x;\n'
        outcome = evaluator.evaluate("softmax", Candidate("cpp", source)).outcome
    assert isinstance(outcome, Failed)
    assert (outcome.status, outcome.check) == (Status.REJECTED, "library")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("{", "no JSON"),
        ('{"binding": "pybind"}', "names no binding"),
        ('{"binding": "torch", "entrypoint": "run"}', "entrypoint"),
        ('{"binding": "torch", "entry": "run()"}', "no name of a function"),
        ('{"binding": "torch", "destination_passing": 1}', "neither true nor false"),
        ('{"binding": "torch", "arguments": ["x", null]}', "names and numbers"),
        ('{"binding": "torch", "arguments": ["x", "unknown"]}', "unknown"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_what_is_wrong_with_a_bundle_is_a_verdict(
    evaluator: LocalEvaluator, head: str, words: str
) -> None:
    outcome = evaluator.evaluate("toy", Candidate("cpp", f"{MARK}{head}\nint x;\n")).outcome
    assert isinstance(outcome, Failed)
    assert (outcome.status, outcome.check) == (Status.COMPILE_ERROR, "bundle")
    assert words in outcome.message


@pytest.mark.parametrize(
    "path", ["../a.cpp", "/a.cpp", "-fplugin=x.cpp", "a/-b.cpp", "a b.cpp", "@a.cpp", ""]
)
def test_a_file_cannot_leave_the_folder_or_be_a_flag(path: str) -> None:
    with pytest.raises(BundleError, match="relative path"):
        SourceFile(path, "")


def test_files_that_no_file_system_holds_are_refused() -> None:
    with pytest.raises(BundleError, match="at most 200"):
        SourceFile("a" * 201 + ".cpp", "")
    with pytest.raises(BundleError, match="folders of others"):
        Bundle("torch", (SourceFile("a", ""), SourceFile("a/b.cpp", "")))


def test_a_text_reads_back_as_the_bundle_it_was_written_from() -> None:
    written = bundle("torch", "made")
    assert read_bundle(written.text(), "cpp") == written
    head = json.loads(written.text().splitlines()[0].removeprefix(MARK))
    assert head["entry"] == "binding.cpp::made"


def test_a_text_without_marks_of_files_is_one_file() -> None:
    found = read_bundle(f'{MARK}{{"binding": "torch"}}\nint x;\n', "cuda")
    assert found is not None
    assert found.files == (SourceFile("candidate.cu", "int x;\n"),)


def test_ordinary_programs_are_no_bundles() -> None:
    assert read_bundle(START, "cpp") is None
    assert read_bundle(f"{MARK}{{}}", "triton") is None


def test_a_file_that_holds_a_mark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="mark"):
        Bundle("torch", (SourceFile("a.cpp", f"{FILE_MARK}b.cpp\n"),))

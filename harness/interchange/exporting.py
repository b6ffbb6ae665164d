"""A candidate of any language as a Solution of FlashInfer-Bench.

What was imported becomes what it was. A program of the harness gets an adapter beside it, in
destination-passing style: `main.py` for Python and Triton, `binding.cpp` or `binding.cu` (TVM-FFI)
for C++ and CUDA behind the plain C ABI. The program itself is carried character by character.

Covered: axes (from the shapes of inputs, or from a scalar), `workspace_bytes` and `plan`, which the
adapter calls within every call: FlashInfer-Bench has neither.
Not covered: compiler flags (FlashInfer-Bench chooses its own); what a Solution's definition says
beyond the task's signature and `solution_scalars`.
"""

from __future__ import annotations

from typing import Literal, cast

from harness.errors import UsageError
from harness.evaluate.bundle import BundleError, read_bundle
from harness.evaluate.header import cpp_header
from harness.interchange.solution import Solution, SolutionLanguage, Source, Specification
from harness.interchange.solution_program import read_program
from harness.suite import Task
from harness.types import Candidate


def solution_of(
    candidate: Candidate, task: Task, *, name: str, author: str, hardware: str
) -> Solution:
    """The Solution. hardware: what it was made for, as FlashInfer-Bench names it. Raises
    UsageError."""
    restored = _imported(candidate)
    if restored is not None:
        specification, sources = restored
    elif candidate.language in ("python", "triton"):
        sources = {"main.py": _python_adapter(task), "candidate.py": candidate.source}
        specification = Specification(
            language=candidate.language,
            target_hardware=[],
            entry_point="main.py::run",
            destination_passing_style=True,
        )
    else:
        language = cast(Literal["cpp", "cuda"], candidate.language)
        suffix = "cu" if language == "cuda" else "cpp"
        sources = {
            f"binding.{suffix}": _native_adapter(task, cuda=language == "cuda"),
            f"candidate.{suffix}": candidate.source,
            "task.h": cpp_header(task.signature, language),
        }
        specification = Specification(
            language=language,
            target_hardware=[],
            entry_point=f"binding.{suffix}::run",
            destination_passing_style=True,
            binding="tvm-ffi",
        )
    return Solution(
        name=name,
        definition=task.name,
        author=author,
        spec=specification.model_copy(update={"target_hardware": [hardware], "dependencies": []}),
        sources=[Source(path=path, content=content) for path, content in sources.items()],
        description=candidate.note or None,
    )


def _imported(candidate: Candidate) -> tuple[Specification, dict[str, str]] | None:
    """What a candidate was before it was imported; None if it was not."""
    language: SolutionLanguage = candidate.language
    program = read_program(candidate.source) if language in ("python", "triton") else None
    if program is not None:
        sources, entry, passed, _ = program
        specification = Specification(
            language=language,
            target_hardware=[],
            entry_point=entry,
            destination_passing_style=passed,
        )
        return specification, sources
    try:
        bundle = read_bundle(candidate.source, candidate.language)
    except BundleError as error:
        raise UsageError(f"The candidate is no bundle that can be exported: {error}.") from error
    if bundle is None:
        return None
    compiled = [file.path for file in bundle.files if file.compiled]
    specification = Specification(
        language=language,
        target_hardware=[],
        entry_point=f"{bundle.entry_file or compiled[0]}::{bundle.entry}",
        destination_passing_style=bundle.destination_passing,
        binding=bundle.binding,
    )
    return specification, {file.path: file.content for file in bundle.files}


def axis_values(task: Task, size: str) -> dict[str, str]:
    """The expression for every axis. size: of a tensor's dimension, e.g. "{}.shape[{}]". Raises
    UsageError."""
    values: dict[str, str] = {}
    for scalar, value in task.solution_scalars.items():
        if isinstance(value, str):
            values[value] = scalar
    for tensor in task.signature.inputs:
        for place, name in enumerate(tensor.shape):
            if isinstance(name, str):
                values.setdefault(name, size.format(tensor.name, place))
    missing = [axis.name for axis in task.signature.axes if axis.name not in values]
    if missing:
        raise UsageError(
            f"The axes {missing} of {task.name} are neither the size of an input nor one of its "
            "solution_scalars, so a Solution cannot know them."
        )
    return {axis.name: values[axis.name] for axis in task.signature.axes}


def _python_adapter(task: Task) -> str:
    signature = task.signature
    inputs = [t.name for t in signature.inputs]
    outputs = [t.name for t in signature.outputs]
    axes = [f"{name}={value}" for name, value in axis_values(task, "{}.shape[{}]").items()]
    given = ", ".join([*axes, *(f"{name}={name}" for name in inputs)])
    planned = ", ".join(
        [*axes, *(f"{t.name}={t.name if t.index else None}" for t in signature.inputs)]
    )
    written = ", ".join(f"{name}={name}" for name in outputs)
    parameters = ", ".join([*inputs, *task.solution_scalars, *outputs])
    return f'''\
"""Calls a program of the kernel-search harness, run(inputs, outputs), as a Solution."""

from types import SimpleNamespace

from . import candidate

_OUTPUTS = {outputs!r}


def run({parameters}):
    if hasattr(candidate, "plan"):
        candidate.plan(SimpleNamespace({planned}))
    outputs = SimpleNamespace({written})
    result = candidate.run(SimpleNamespace({given}), outputs)
    if result is None:
        return
    if isinstance(result, dict):
        result = [result[name] for name in _OUTPUTS]
    elif not isinstance(result, (tuple, list)):
        result = [result]
    for name, value in zip(_OUTPUTS, result, strict=True):
        getattr(outputs, name).copy_(value)
'''


def _native_adapter(task: Task, *, cuda: bool) -> str:
    # Its own names end in _, so that no tensor's is one of them.
    signature, scalars = task.signature, task.solution_scalars
    first = signature.inputs[0].name
    parameters = [f"ffi::TensorView {t.name}" for t in signature.inputs]
    for name, value in scalars.items():
        parameters.append(f"{'double' if isinstance(value, float) else 'int64_t'} {name}")
    parameters += [f"ffi::TensorView {t.name}" for t in signature.outputs]
    axes = [
        f"    given_.{name} = {value};" for name, value in axis_values(task, "{}.size({})").items()
    ]

    def pointer(record: str, name: str) -> str:
        return f"    {record}.{name} = static_cast<decltype({record}.{name})>({name}.data_ptr());"

    index = [pointer("given_", t.name) for t in signature.inputs if t.index]
    others = [pointer("given_", t.name) for t in signature.inputs if not t.index]
    outputs = [pointer("written_", t.name) for t in signature.outputs]
    clear = "memset(memory_, 0, size_);"
    stream = "nullptr"
    if cuda:
        clear = "cudaMemsetAsync(memory_, 0, size_, static_cast<cudaStream_t>(stream_));"
        stream = f"TVMFFIEnvGetStream({first}.device().device_type, {first}.device().device_id)"
    lines = [
        "// Calls a program of the kernel-search harness (plain C ABI, task.h) as a Solution.",
        "#include <string.h>",
        "#include <tvm/ffi/container/tensor.h>",
        "#include <tvm/ffi/error.h>",
        "#include <tvm/ffi/extra/c_env_api.h>",
        "#include <tvm/ffi/function.h>",
        *(["#include <cuda_runtime.h>"] if cuda else []),
        '#include "task.h"',
        "",
        "namespace ffi = tvm::ffi;",
        'extern "C" __attribute__((weak)) size_t workspace_bytes(const Inputs*);',
        'extern "C" __attribute__((weak)) int plan(const Inputs*, void*);',
        "",
        f"void adapted({', '.join(parameters)}) {{",
        "    Inputs given_{};",
        "    Outputs written_{};",
        f"    void* stream_ = {stream};",
        *axes,
        *index,
        "    void* memory_ = nullptr;",
        "    ffi::Optional<ffi::Tensor> workspace_;",
        "    if (workspace_bytes != nullptr) {",
        "        size_t size_ = workspace_bytes(&given_);",
        "        if (size_ > 0) {",
        "            workspace_ = ffi::Tensor::FromEnvAlloc(",
        "                TVMFFIEnvTensorAlloc, ffi::Shape({static_cast<int64_t>(size_)}),",
        f"                DLDataType{{kDLUInt, 8, 1}}, {first}.device());",
        "            memory_ = workspace_.value().data_ptr();",
        f"            {clear}",
        "        }",
        "    }",
        "    if (plan != nullptr) {",
        "        int code_ = plan(&given_, memory_);",
        '        if (code_ != 0) TVM_FFI_THROW(RuntimeError) << "plan returned " << code_;',
        "    }",
        *others,
        *outputs,
        "    int code_ = run(&given_, &written_, memory_, stream_);",
        '    if (code_ != 0) TVM_FFI_THROW(RuntimeError) << "run returned " << code_;',
        "}",
        "",
        "TVM_FFI_DLL_EXPORT_TYPED_FUNC(run, adapted)",
    ]
    return "\n".join(lines) + "\n"

"""The C ABI of a task: the header `task.h` that its candidates include, generated from its
signature.

Covered: the Inputs and Outputs structs and the prototypes of `run`, `plan` and `workspace_bytes`.
A CUDA candidate gets the same header with device pointers, and the 16-bit and 8-bit types of CUDA's
own headers.
Not covered: 8-bit types but e4m3 (no task has them yet).
"""

from __future__ import annotations

from typing import Literal

from harness.suite import Signature, Tensor

ABI_VERSION = 1

_C_TYPES = {
    "float32": "float", "float64": "double", "int32": "int32_t", "int64": "int64_t",
    "float16": "__half", "bfloat16": "__nv_bfloat16", "float8_e4m3fn": "__nv_fp8_e4m3",
}  # fmt: skip
_CUDA_HEADERS = {
    "float16": "#include <cuda_fp16.h>", "bfloat16": "#include <cuda_bf16.h>",
    "float8_e4m3fn": "#include <cuda_fp8.h>",
}  # fmt: skip


def cpp_header(signature: Signature, language: Literal["cpp", "cuda"] = "cpp") -> str:
    """The text of `task.h`: axes first as int64_t, then one pointer per tensor, in signature
    order."""
    dtypes = {tensor.dtype for tensor in (*signature.inputs, *signature.outputs)}
    where, alignment, stream = "", 64, "`stream` is null on a CPU"
    if language == "cuda":
        where, alignment = "in device memory, ", 256
        stream = "launch on\n// `stream` (a cudaStream_t; null is the default one)"
    lines = [
        "#pragma once",
        "#include <stddef.h>",
        "#include <stdint.h>",
        *(text for dtype, text in _CUDA_HEADERS.items() if dtype in dtypes),
        f"#define TASK_ABI_VERSION {ABI_VERSION}",
        "",
        f"// All tensors are {where}row-major, contiguous and {alignment}-byte aligned; none "
        "overlaps another.",
        "struct Inputs {",
        *(f"    int64_t {axis.name};  // {axis.doc}" for axis in signature.axes),
        *(f"    const {_field(tensor)}" for tensor in signature.inputs),
        "};",
        "",
        "struct Outputs {",
        *(f"    {_field(tensor)}" for tensor in signature.outputs),
        "};",
        "",
        "// Required. Writes every element of every output, returns 0; anything else is an error.",
        f"// `workspace` holds workspace_bytes(...) bytes (or is null); {stream}.",
        'extern "C" int run(const Inputs* inputs, const Outputs* outputs, void* workspace,',
        "                   void* stream);",
        "",
        "// Optional. Called once per workload with only the axes and index tensors set.",
        'extern "C" size_t workspace_bytes(const Inputs* inputs);',
    ]
    if any(tensor.index for tensor in signature.inputs):
        names = ", ".join(tensor.name for tensor in signature.inputs if tensor.index)
        lines += [
            "",
            f"// Optional. Called before each run, untimed, with only the axes and {names} set;",
            "// the other pointers are null. May prepare the workspace.",
            'extern "C" int plan(const Inputs* inputs, void* workspace);',
        ]
    return "\n".join(lines) + "\n"


def _field(tensor: Tensor) -> str:
    shape = ", ".join(str(size) for size in tensor.shape)
    return f"{_C_TYPES[tensor.dtype]}* {tensor.name};  // [{shape}] {tensor.doc}"


PYTHON_INTERFACE = """\
Define `run(inputs, outputs)`. `inputs` and `outputs` are namespaces of torch tensors on the
{where}; the axes are integers in `inputs`. Either write every element of the outputs in place, or
return the output tensor (a tuple or a dict of them if there are several). Optional: `plan(inputs)`,
called before each run, untimed, with only the axes and the index tensors set.
"""
_TRITON_INTERFACE = """
The program is one Python file with @triton.jit kernels, launched as kernel[grid](...). They are
compiled ahead of the call, by running `run` on tensors without contents: do not branch on values of
tensors, and choose tile sizes from the axes. What `run` allocates, it allocates in every call.
"""


def python_interface(signature: Signature, where: str = "CPU", *, triton: bool = False) -> str:
    """The interface text of the python and triton languages: names, dtypes and shapes of every
    tensor. where: "CPU" or "GPU"."""
    rows = [f"axis {axis.name}: {axis.doc}" for axis in signature.axes]
    for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
        for tensor in tensors:
            shape = ", ".join(str(size) for size in tensor.shape)
            rows.append(f"{kind} {tensor.name}: {tensor.dtype} [{shape}] {tensor.doc}")
    text = PYTHON_INTERFACE.format(where=where) + (_TRITON_INTERFACE if triton else "")
    return text + "\n" + "\n".join(rows) + "\n"

"""The C ABI of a task: the header `task.h` that its candidates include, generated from its
signature.

Covered: the Inputs and Outputs structs and the prototypes of `run`, `plan` and `workspace_bytes`.
Not covered: half-precision types (no task of the CPU suite has them).
"""

from __future__ import annotations

from harness.suite import Signature, Tensor

ABI_VERSION = 1

_C_TYPES = {"float32": "float", "float64": "double", "int32": "int32_t", "int64": "int64_t"}


def cpp_header(signature: Signature) -> str:
    """The text of `task.h`: axes first as int64_t, then one pointer per tensor, in signature
    order."""
    lines = [
        "#pragma once",
        "#include <stddef.h>",
        "#include <stdint.h>",
        f"#define TASK_ABI_VERSION {ABI_VERSION}",
        "",
        "// All tensors are row-major, contiguous and 64-byte aligned; none overlaps another.",
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
        "// `workspace` holds workspace_bytes(...) bytes (or is null); `stream` is null on a CPU.",
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
Define `run(inputs, outputs)`. `inputs` and `outputs` are namespaces of torch tensors on the CPU;
the axes are integers in `inputs`. Either write every element of the outputs in place, or return the
output tensor (a tuple or a dict of them if there are several). Optional: `plan(inputs)`, called
before each run, untimed, with only the axes and the index tensors set.
"""


def python_interface(signature: Signature) -> str:
    """The interface text of the python language: names, dtypes and shapes of every tensor."""
    rows = [f"axis {axis.name}: {axis.doc}" for axis in signature.axes]
    for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
        for tensor in tensors:
            shape = ", ".join(str(size) for size in tensor.shape)
            rows.append(f"{kind} {tensor.name}: {tensor.dtype} [{shape}] {tensor.doc}")
    return PYTHON_INTERFACE + "\n" + "\n".join(rows) + "\n"

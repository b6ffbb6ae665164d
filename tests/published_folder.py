"""A folder in the layout of K-Search's `results`, whose kernels are a suite's CUDA starts behind a
torch binding that returns its outputs. Not covered: kernels that anybody published."""

from __future__ import annotations

from pathlib import Path

from harness.evaluate.header import cpp_header
from harness.interchange.exporting import axis_values
from harness.suite import Task, Tensor

_TYPES = {"bfloat16": "torch::kBFloat16", "float32": "torch::kFloat32"}


def write_published_kernel(folder: Path, task: Task, method: str) -> None:
    """Write METHOD_best_start of `task`, whose axes are all sizes of its inputs and whose start
    needs no workspace."""
    here = folder / "operation" / task.name
    here.mkdir(parents=True, exist_ok=True)
    stem = f"{method}_best_start"
    (here / f"{stem}.h").write_text(cpp_header(task.signature, "cuda"))
    source = task.start("cuda").replace('#include "task.h"', '#include "kernel.h"')
    (here / f"{stem}.cu").write_text(source)
    (here / f"{stem}.cpp").write_text(_binding(task))


def _binding(task: Task) -> str:
    inputs, outputs = task.signature.inputs, task.signature.outputs
    parameters = [f"torch::Tensor {tensor.name}" for tensor in inputs]
    parameters += [f"double {name}" for name in task.solution_scalars]
    sizes = axis_values(task, "{}.size({})")
    lines = [
        "#include <torch/extension.h>",
        "#include <ATen/cuda/CUDAContext.h>",
        '#include "kernel.h"',
        "",
        f"std::vector<torch::Tensor> returned({', '.join(parameters)}) {{",
        "    Inputs in;",
        "    Outputs out;",
        *(f"    in.{axis} = {size};" for axis, size in sizes.items()),
        *(_pointer("in", tensor.name) for tensor in inputs),
    ]
    for tensor in outputs:
        lines.append(
            f"    auto {tensor.name} = torch::empty({_shape(tensor, sizes)}, "
            f"{inputs[0].name}.options().dtype({_TYPES[tensor.dtype]}));"
        )
        lines.append(_pointer("out", tensor.name))
    lines += [
        "    int code = run(&in, &out, nullptr, at::cuda::getCurrentCUDAStream().stream());",
        '    TORCH_CHECK(code == 0, "run returned ", code);',
        f"    return {{{', '.join(tensor.name for tensor in outputs)}}};",
        "}",
        "",
        'PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("run", &returned); }',
    ]
    return "\n".join(lines) + "\n"


def _pointer(record: str, name: str) -> str:
    return f"    {record}.{name} = static_cast<decltype({record}.{name})>({name}.data_ptr());"


def _shape(tensor: Tensor, sizes: dict[str, str]) -> str:
    return f"{{{', '.join(sizes.get(str(axis), str(axis)) for axis in tensor.shape)}}}"

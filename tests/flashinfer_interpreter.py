"""Runs Triton programs of suites/flashinfer in Triton's interpreter, in a process of its own.

    TRITON_INTERPRET=1 python -m tests.flashinfer_interpreter FOLDER < jobs

A job is [task, workload, source]; printed is a list of verdicts by the tasks' own tolerances.

Covered: two things that the interpreter cannot do are put in its way: with numpy 2.4 it cannot loop
over a range whose end was loaded, and it multiplies the bit patterns of bfloat16 matrices, so
programs are run with float16 in bfloat16's place.
Not covered: bfloat16 products; pipelining; warps.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from triton.runtime import interpreter

from harness.evaluate.gpu_check import compare_tensors
from harness.suite import TorchTask
from tests.conformance_torch_suite import Tensors, allocate, filled
from tests.toy_flashinfer import suite

_patch = interpreter._patch_lang_tensor


def _patch_with_index(tensor: Any, scope: Any) -> None:
    _patch(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))


def loaded(source: str, path: Path) -> ModuleType:
    path.write_text(source.replace("bfloat16", "float16"))
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def correct(task: TorchTask, name: str, source: str, path: Path) -> bool:
    workload = task.workloads[name]
    inputs = filled(task, workload, 1)
    expected = task.reference(workload, inputs)
    results: Tensors = allocate(task.signature.outputs, workload)
    for tensor in results.values():
        tensor.fill_(float("nan"))
    before = {name: tensor.clone() for name, tensor in inputs.items()}
    loaded(source, path).run(SimpleNamespace(**workload.axes, **inputs), SimpleNamespace(**results))
    same = (
        torch.equal(a.view(torch.uint8), before[n].view(torch.uint8)) for n, a in inputs.items()
    )
    assert all(same)
    tolerances = task.tolerances
    return all(compare_tensors(n, results[n], expected[n], tolerances[n]) is None for n in expected)


def main() -> None:
    interpreter._patch_lang_tensor = _patch_with_index
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    verdicts = []
    for number, (name, workload, source) in enumerate(json.load(sys.stdin)):
        task = suite.task(name)
        assert isinstance(task, TorchTask)
        verdicts.append(correct(task, workload, source, folder / f"program_{number}.py"))
    print(json.dumps(verdicts))


if __name__ == "__main__":
    main()

"""Compiles FlashInfer's kernels, once, on a machine with a GPU.

    python -m suites.flashinfer.prepare

FlashInfer compiles a kernel when it is first planned, with nvcc and ninja, in the user's home; a
worker in its sandbox has neither. So the baselines are planned here once, outside, and the
libraries are copied to where FlashInfer looks for compiled ones first, beside the package.

Covered: the kernels that the suite's baselines plan. Not covered: installing FlashInfer.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness.errors import EnvironmentMissing
from harness.suite import TorchTask
from suites.flashinfer.flashinfer_package import INSTALL, installed_version


def plan_once(task: TorchTask, source: str) -> None:
    """Plan and run a baseline on the task's smallest workload, in this process."""
    import torch

    from harness.evaluate.gpu_contents import SeedContents, empty_tensors, fill

    sizes = {w.name: sum(t.bytes(w.axes) for t in task.signature.inputs) for w in task.held_out}
    workload = min(task.held_out, key=lambda w: sizes[w.name])
    inputs = empty_tensors(task.signature.inputs, workload, "cuda")
    fill(task, workload, SeedContents(0), inputs, "cuda")
    outputs = empty_tensors(task.signature.outputs, workload, "cuda")
    program: dict[str, Any] = {}
    exec(compile(source, task.name, "exec"), program)
    program["plan"](SimpleNamespace(**workload.axes, **inputs))
    program["run"](SimpleNamespace(**workload.axes, **inputs), SimpleNamespace(**outputs))
    torch.cuda.synchronize()


def main() -> int:
    """Compile, copy, and say what was copied; the exit status."""
    if installed_version() is None:
        raise EnvironmentMissing(f"FlashInfer is not installed. {INSTALL}.")
    # Before FlashInfer is imported: compile, and in the user's home.
    os.environ["FLASHINFER_DISABLE_JIT"] = ""
    os.environ["FLASHINFER_WORKSPACE_BASE"] = str(Path.home())
    from flashinfer.jit.core import jit_spec_registry

    from suites.flashinfer import suite

    for task in suite.tasks:
        for baseline in task.baselines:
            if baseline.name.startswith("FlashInfer") and isinstance(task, TorchTask):
                print(f"{task.name}: {baseline.name}", flush=True)
                plan_once(task, baseline.source)
    for name, specification in jit_spec_registry.get_all_specs().items():
        built, target = Path(specification.jit_library_path), Path(specification.aot_path)
        if built.exists() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(built, target)
            print(f"copied {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

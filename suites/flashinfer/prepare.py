"""Compiles FlashInfer's kernels, once, on a machine with a GPU.

    python -m suites.flashinfer.prepare

FlashInfer compiles a kernel when it is first planned, with nvcc and ninja, in the user's home; a
worker in its sandbox has neither. So the baselines are planned here once, outside, and the
libraries are copied to where FlashInfer looks for compiled ones first, beside the package. Names
there say neither version nor GPU, so what was copied for others is dropped first.

Covered: the kernels that the suite's baselines plan. Not covered: installing FlashInfer.
"""

from __future__ import annotations

import importlib.util
import json
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


def drop_stale(marker: Path, identity: list[str]) -> list[str]:
    """Remove the libraries that were copied for another version or GPU; the names of those that
    stay. marker: the file that keeps what was copied, beside them."""
    if not marker.exists():
        return []
    known = json.loads(marker.read_text(encoding="utf-8"))
    copied: list[str] = known["copied"]
    if known["identity"] == identity:
        return copied
    for name in copied:
        (marker.parent / name / f"{name}.so").unlink(missing_ok=True)
    marker.unlink()
    return []


def main() -> int:
    """Compile, copy, and say what was copied; the exit status."""
    version, package = installed_version(), importlib.util.find_spec("flashinfer")
    if version is None or package is None or package.origin is None:
        raise EnvironmentMissing(f"FlashInfer is not installed. {INSTALL}.")
    import torch

    marker = Path(package.origin).parent / "data" / "aot" / "harness_prepared.json"
    identity = [version, str(torch.version.cuda), str(torch.cuda.get_device_capability())]
    copied = drop_stale(marker, identity)
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
            copied.append(name)
            print(f"copied {name}")
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps({"identity": identity, "copied": copied}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

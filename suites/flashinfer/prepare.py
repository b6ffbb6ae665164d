"""Compiles FlashInfer's kernels, once, on a machine with a GPU.

    python -m suites.flashinfer.prepare           attention, about a minute
    python -m suites.flashinfer.prepare --moe     and the MoE, on Hopper: some minutes more

FlashInfer compiles a kernel when it is first planned, with nvcc and ninja, in the user's home; a
worker in its sandbox has neither. So the baselines are planned here once, outside, and the
libraries are copied to where FlashInfer looks for compiled ones first, beside the package. What was
prepared for another version or GPU is dropped first (prepared.py).

Covered: the kernels that the suite's baselines use; the MoE's only when asked for.
Not covered: installing FlashInfer; how the MoE is compiled (prepare_moe.py).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import EnvironmentMissing
from harness.suite import TorchTask
from suites.flashinfer import moe_cutlass, prepared
from suites.flashinfer.flashinfer_package import (
    INSTALL,
    INSTALL_MOE,
    compiled_folder,
    installed_version,
)
from suites.flashinfer.prepare_moe import (
    build_library,
    compile_kernels,
    cuda_home,
    load_program,
    require_cuda,
    require_hopper,
    run_once,
    set_compiler,
)


def attention_baselines(tasks: Sequence[object]) -> list[tuple[TorchTask, str, str]]:
    """Those that are planned by FlashInfer: task, the baseline's name, its program."""
    return [
        (task, baseline.name, baseline.source)
        for task in tasks
        if isinstance(task, TorchTask)
        for baseline in task.baselines
        if baseline.name.startswith("FlashInfer") and baseline.name != moe_cutlass.NAME
    ]


def plan_once(task: TorchTask, source: str) -> None:
    """Plan and run a baseline on the task's smallest workload, in this process."""
    sizes = {w.name: sum(t.bytes(w.axes) for t in task.signature.inputs) for w in task.held_out}
    workload = min(task.held_out, key=lambda w: sizes[w.name])
    program: dict[str, Any] = {}
    exec(compile(source, task.name, "exec"), program)
    run_once(task, workload, program)


def prepare_attention(folder: Path, known: prepared.Prepared) -> prepared.Prepared:
    """Plan every attention baseline and copy what that compiled. folder: data/aot."""
    from flashinfer.jit.core import jit_spec_registry

    from suites.flashinfer import suite

    for task, name, source in attention_baselines(suite.tasks):
        print(f"{task.name}: {name}", flush=True)
        plan_once(task, source)
    for name, specification in jit_spec_registry.get_all_specs().items():
        built, target = Path(specification.jit_library_path), Path(specification.aot_path)
        if built.exists() and not target.exists():
            known = prepared.keep(folder, known, name, built, target)
            print(f"copied {name}", flush=True)
    return known


def prepare_moe(folder: Path, known: prepared.Prepared, home: Path) -> prepared.Prepared:
    """Build the MoE's library where it is not there, and have its kernels compiled. folder:
    data/aot. home: CUDA's folder."""
    from suites.flashinfer.moe import MoeSpec

    target = prepared.library(folder, prepared.MOE)
    if prepared.MOE not in known.copied or not target.exists():
        print(f"{prepared.MODULE}: {len(moe_cutlass.SOURCES)} sources", flush=True)
        known = prepared.keep(folder, known, prepared.MOE, build_library(home), target)
        print(f"copied {prepared.MODULE}", flush=True)
    task = MoeSpec()
    print(f"{task.name}: {moe_cutlass.NAME}", flush=True)
    with tempfile.TemporaryDirectory() as place:
        program = load_program(moe_cutlass.CUTLASS, Path(place))
        names = compile_kernels(task, program, folder, run_once)
    known = replace(known, cubins=names)
    prepared.write(folder, known)
    return known


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile, copy, and say what was copied; the exit status. Raises EnvironmentMissing."""
    parser = argparse.ArgumentParser(
        prog="python -m suites.flashinfer.prepare",
        description="Compiles FlashInfer's kernels, once, as this suite's baselines.",
    )
    parser.add_argument(
        "--moe",
        action="store_true",
        help="also FlashInfer's CUTLASS MoE, on Hopper with CUDA 12.8 or later: minutes",
    )
    moe: bool = parser.parse_args(arguments).moe
    version, folder = installed_version(), compiled_folder()
    if version is None or folder is None:
        raise EnvironmentMissing(f"FlashInfer is not installed. {INSTALL_MOE if moe else INSTALL}.")
    import torch

    if not torch.cuda.is_available():
        raise EnvironmentMissing("No GPU is visible to torch, and FlashInfer's kernels run on one.")
    device = torch.cuda.get_device_properties(0)
    capability = torch.cuda.get_device_capability()
    home: Path | None = None
    if moe:
        require_hopper(capability, device.name)
        home = cuda_home()
        require_cuda(home)
        set_compiler(home, folder)
    identity = (
        version,
        str(torch.version.cuda),
        str(capability),
        f"{device.multi_processor_count} multiprocessors",  # DeepGEMM's kernels depend on it
    )
    known = prepared.drop_stale(folder, identity)
    # Before FlashInfer is imported: compile, and in the user's home.
    os.environ["FLASHINFER_DISABLE_JIT"] = ""
    os.environ["FLASHINFER_WORKSPACE_BASE"] = str(Path.home())
    known = prepare_attention(folder, known)
    if home is not None:
        prepare_moe(folder, known, home)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EnvironmentMissing as error:
        sys.exit(str(error))

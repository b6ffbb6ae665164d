"""Compiles FlashInfer's MoE for Hopper: its library, and the kernels that it would compile itself.

`python -m suites.flashinfer.prepare --moe` does this after the attention kernels:

1. the library, by ninja and with FlashInfer's own flags, from those of its sources that the
   baseline calls. What the others define stays undefined and is bound only when it is called, so
   this library serves the baseline alone and lies where nothing else looks;
2. the baseline on every workload, outside of the sandbox, where DeepGEMM compiles a kernel for each
   kind of size that it meets, one at a time.

Both go on where they were interrupted. Headers that CUDA's folder lacks (a compiler without
cuBLAS's or NVRTC's) are taken from NVIDIA's wheels, which torch brings.

Covered: SM90, nvcc 12.8 or later. Not covered: versions of FlashInfer whose sources have other
names; libraries to link with (libcudart, libnvrtc) that CUDA's folder lacks.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness.environment import find_nvcc
from harness.errors import EnvironmentMissing
from harness.suite import TorchTask
from harness.types import Workload
from suites.flashinfer import prepared
from suites.flashinfer.flashinfer_package import INSTALL_MOE
from suites.flashinfer.moe_cutlass import SOURCES

CAPABILITY = (9, 0)
LEAST_CUDA = (12, 8)  # before that, FlashInfer leaves block scales out
HEADERS = ("cublasLt.h", "cublas_v2.h", "curand_kernel.h", "nvrtc.h")
Run = Callable[[TorchTask, Workload, Mapping[str, Any]], None]


def require_hopper(capability: tuple[int, int], device: str) -> None:
    """Raises EnvironmentMissing where this GPU cannot have the MoE. device: its name."""
    if capability != CAPABILITY:
        raise EnvironmentMissing(
            "FlashInfer's CUTLASS MoE with block scales needs an NVIDIA Hopper (compute capability "
            f"9.0); this GPU is a {device} ({capability[0]}.{capability[1]}). Leave out --moe: the "
            "MoE's score is then relative to this project's Triton program."
        )


def cuda_home() -> Path:
    """CUDA's folder: CUDA_HOME, or where nvcc lies. Raises EnvironmentMissing."""
    nvcc = Path(find_nvcc() or "nvcc").resolve()
    named = os.environ.get("CUDA_HOME")
    for home in (Path(named),) if named else (nvcc.parents[1], Path("/usr/local/cuda")):
        if (home / "bin" / "nvcc").exists() and (home / "include" / "cuda_runtime.h").exists():
            return home
    raise EnvironmentMissing(
        f"CUDA's folder was not found from {named or nvcc}: it has bin/nvcc and "
        "include/cuda_runtime.h. Set CUDA_HOME to it."
    )


def require_cuda(home: Path) -> None:
    """Raises EnvironmentMissing where the compiler in CUDA's folder is too old, or does not run."""
    nvcc = home / "bin" / "nvcc"
    done = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"release (\d+)\.(\d+)", done.stdout)
    if found is None or (int(found[1]), int(found[2])) < LEAST_CUDA:
        has = f"of CUDA {found[1]}.{found[2]}" if found else f"of no known version: {done.stderr}"
        raise EnvironmentMissing(
            "FlashInfer's CUTLASS MoE with block scales needs CUDA 12.8 or later; "
            f"{nvcc} is {has}. Install a later CUDA toolkit, and put its nvcc first in PATH or set "
            "CUDA_HOME to it."
        )


def extra_headers(home: Path, wheels: Sequence[Path]) -> list[Path]:
    """Folders with the headers that CUDA's own lacks. wheels: the package `nvidia`, whose parts
    have an `include` each (cu13/include, cublas/include). Raises EnvironmentMissing."""
    own = (home / "include", home / "targets" / "x86_64-linux" / "include")
    missing = [name for name in HEADERS if not any((folder / name).exists() for folder in own)]
    others = [folder for wheel in wheels for folder in sorted(wheel.glob("*/include"))]
    found = {n: next((f for f in others if (f / n).exists()), None) for n in missing}
    absent = [name for name, folder in found.items() if folder is None]
    if absent:
        raise EnvironmentMissing(
            f"CUDA's headers {', '.join(absent)} are neither in {home}/include nor in NVIDIA's "
            "wheels beside torch. Install the whole CUDA toolkit, or torch from a wheel with CUDA."
        )
    return list(dict.fromkeys(folder for folder in found.values() if folder is not None))


def nvidia_wheels() -> list[Path]:
    """The folders of the namespace package `nvidia`."""
    specification = importlib.util.find_spec("nvidia")
    places = specification.submodule_search_locations if specification else None
    return [Path(place) for place in places or ()]


def chosen_sources(sources: Sequence[Path]) -> list[Path]:
    """Those that the baseline calls, in SOURCES' order. Raises EnvironmentMissing."""
    by_name = {path.name: path for path in sources}
    unknown = [name for name in SOURCES if name not in by_name]
    if unknown:
        raise EnvironmentMissing(
            f"This FlashInfer builds its MoE from other sources: {', '.join(unknown)} are not "
            f"among them. {INSTALL_MOE}."
        )
    return [by_name[name] for name in SOURCES]


def build_library(home: Path) -> Path:
    """FlashInfer's library with part of its sources. Its folder has a name of its own, so that
    FlashInfer takes it for no library of this user's. Raises EnvironmentMissing."""
    from flashinfer.jit.fused_moe import gen_cutlass_fused_moe_sm90_module

    whole = gen_cutlass_fused_moe_sm90_module()
    headers = [f"-isystem {folder}" for folder in extra_headers(home, nvidia_wheels())]
    part = dataclasses.replace(
        whole,
        name=f"{prepared.MODULE}_of_{len(SOURCES)}_sources",
        sources=chosen_sources(whole.sources),
        extra_cuda_cflags=[*(whole.extra_cuda_cflags or ()), *headers],
        extra_cflags=[*(whole.extra_cflags or ()), *headers],
        extra_ldflags=[*(whole.extra_ldflags or ()), "-Wl,-z,lazy"],
    )
    part.write_ninja()
    run_ninja(Path(part.build_dir), Path(part.ninja_path))
    return Path(part.jit_library_path)


def run_ninja(folder: Path, file: Path) -> None:
    """Build, with a line for each thing that is done. Raises EnvironmentMissing with the end of
    what it said where it fails."""
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    ninja = shutil.which("ninja", path=places)
    if ninja is None:
        raise EnvironmentMissing("ninja is not installed. pip install ninja.")
    jobs = os.environ.get("MAX_JOBS", "")
    command = [ninja, "-C", str(folder), "-f", str(file), *(("-j", jobs) if jobs else ())]
    said: list[str] = []
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"NINJA_STATUS": "[%f/%t after %es] "},
    ) as run:
        for line in run.stdout or ():
            status, bracket, rest = line.partition("] ")
            if status.startswith("[") and bracket and rest.split():
                print(f"{status}] {Path(rest.split()[-1]).name}", flush=True)
            else:
                said.append(line)
    if run.returncode:
        raise EnvironmentMissing(
            f"FlashInfer's MoE did not compile, in {folder}. The end of what ninja said:\n"
            + "".join(said)[-4000:]
        )


def load_program(source: str, folder: Path) -> dict[str, Any]:
    """The program's names; Triton wants to read its kernels in a file."""
    path = folder / "prepared_program.py"
    path.write_text(source, encoding="utf-8")
    specification = importlib.util.spec_from_file_location(path.stem, path)
    if specification is None or specification.loader is None:
        raise EnvironmentMissing(f"{path} cannot be loaded.")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return vars(module)


def compile_kernels(
    task: TorchTask, program: Mapping[str, Any], folder: Path, run: Run
) -> tuple[str, ...]:
    """Run the program on every workload of the task, small ones first, so that every kernel that it
    asks for is compiled; their names. folder: data/aot. Raises EnvironmentMissing."""
    workloads = sorted(task.workloads.values(), key=lambda w: w.axes["seq_len"])
    for number, workload in enumerate(workloads, 1):
        run(task, workload, program)
        there = len(prepared.cubins(folder))
        print(f"[{number}/{len(workloads)}] {workload.name}: {there} kernels", flush=True)
    names = prepared.cubins(folder)
    if not names:
        raise EnvironmentMissing(
            f"The MoE ran and left no kernel in {folder / prepared.KERNELS}. Is DeepGEMM switched "
            "off, by TRTLLM_DG_ENABLED?"
        )
    return names


def set_compiler(home: Path, folder: Path) -> None:
    """Where DeepGEMM finds its kernels and compiles new ones; it reads this when it is loaded."""
    os.environ["CUDA_HOME"] = str(home)
    os.environ["TRTLLM_DG_NVCC_COMPILER"] = str(home / "bin" / "nvcc")
    os.environ["TRTLLM_DG_CACHE_DIR"] = str(folder / prepared.KERNELS)


def run_once(task: TorchTask, workload: Workload, program: Mapping[str, Any]) -> None:
    """Plan, where the program does, and run it on fresh inputs of the workload."""
    import torch

    from harness.evaluate.gpu_contents import SeedContents, empty_tensors, fill

    inputs = empty_tensors(task.signature.inputs, workload, "cuda")
    fill(task, workload, SeedContents(0), inputs, "cuda")
    outputs = empty_tensors(task.signature.outputs, workload, "cuda")
    if "plan" in program:
        program["plan"](SimpleNamespace(**workload.axes, **inputs))
    program["run"](SimpleNamespace(**workload.axes, **inputs), SimpleNamespace(**outputs))
    torch.cuda.synchronize()

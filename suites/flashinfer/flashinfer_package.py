"""FlashInfer as a baseline: whether it is installed, and the head of every program that calls it.

With FlashInfer a task's score is relative to it, without to torch; the choice is made when the
suite is loaded, the baseline's name says which, and a task's notes say how to get the other.
FlashInfer compiles its kernels when they are first planned, which a worker in its sandbox cannot:
`python -m suites.flashinfer.prepare` does it once, where FlashInfer looks for compiled ones, and
with --moe it compiles the MoE for Hopper, too, which is a baseline only then.

Covered: the version that is installed; whether its MoE is compiled; the order of baselines; the
head of programs.
Not covered: other versions than the pinned one (they may work, and the baseline's version tells).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from pathlib import Path

from harness.suite import Baseline
from suites.flashinfer import prepared

PINNED = "0.6.4"
REQUIREMENT = f"flashinfer-python=={PINNED}"
NEEDS = (
    "certifi==2026.10.19.post1",
    "charset-normalizer==3.5.3",
    "click==8.5.1",
    "einops==0.8.2",
    "idna==3.20",
    "ninja==1.13.2",
    "nvidia-cudnn-frontend==1.32.0",
    "nvidia-cutlass-dsl==4.8.1",
    "nvidia-ml-py==13.615.71",
    "packaging==26.4",
    "protobuf==7.36.2",
    "requests==2.34.2",
    "tabulate==0.10.0",
    "tqdm==4.70.1",
    "urllib3==2.8.0",
)
"""What it and its needs ask for on Linux with Python 3.12, as pip resolved it on 2026-11-27, for an
image that is to be the same next year. Left out are torch, numpy and TVM-FFI, which every image has
(harness/evaluate/modal/pins.py), and CUDA's Python bindings, whose version torch determines."""
INSTALL = f"pip install '{REQUIREMENT}', then python -m suites.flashinfer.prepare"
INSTALL_MOE = f"{INSTALL} --moe, on Hopper"

# FlashInfer asks for the user's home and makes folders below its workspace when it is imported; a
# worker has only this one.
HEAD = """\
import os
import tempfile

os.environ.setdefault("HOME", tempfile.gettempdir())
os.environ.setdefault("FLASHINFER_WORKSPACE_BASE", tempfile.gettempdir())
os.environ.setdefault("FLASHINFER_DISABLE_JIT", "1")

import torch
import flashinfer
"""


def installed_version() -> str | None:
    """The version of FlashInfer that Python finds here; None where there is none. Nothing is
    imported."""
    if importlib.util.find_spec("flashinfer") is None:
        return None
    try:
        return importlib.metadata.version("flashinfer-python")
    except importlib.metadata.PackageNotFoundError:
        return None


def compiled_folder() -> Path | None:
    """Where FlashInfer, as Python finds it here, looks for compiled libraries; None without it."""
    specification = importlib.util.find_spec("flashinfer")
    if specification is None or specification.origin is None:
        return None
    return Path(specification.origin).parent / "data" / "aot"


def moe_is_ready() -> bool:
    """Whether FlashInfer's MoE for Hopper can run where nothing can be compiled: the library and
    every kernel that `prepare --moe` found to be asked for. Files only."""
    version, folder = installed_version(), compiled_folder()
    return version is not None and folder is not None and prepared.moe_is_complete(folder, version)


def ordered(flashinfer: Mapping[str, str], torch: Baseline) -> tuple[Baseline, ...]:
    """A task's baselines. flashinfer: programs by name, the score's first; left out where it is
    not installed, for they could not run."""
    version = installed_version()
    if version is None:
        return (torch,)
    return (*(Baseline(name, version, source) for name, source in flashinfer.items()), torch)


def baseline_note() -> dict[str, str]:
    """What a manifest says of the choice."""
    version = installed_version()
    if version is None:
        return {"baseline": f"torch, since FlashInfer is not installed ({INSTALL})"}
    return {"baseline": f"FlashInfer {version}"}

"""What a result depends on besides the code: the machine, the packages, the git commit.

Covered: the machine fingerprint (CPU model, its instruction-set flags as a hash, cores allowed,
memory, kernel, GPU and driver where there is one, compiler, Python), the versions of the packages
that decide a time or a number, and the commit of this checkout. Not covered: anything that names
a person or one boot of a machine (no host name, no user, no boot id), and anything that changes
while a machine runs (load, temperature, free memory).

Standard library only, and no import of torch: versions come from package metadata. Two
fingerprints are equal exactly when times measured under them may share a cache and a table.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path

from harness.types import JsonObject, canonical_json, content_hash

COMPILERS = ("g++", "clang++")  # looked for in this order

PACKAGES = (
    "kernel-search-harness", "torch", "triton", "numpy", "scipy", "pandas", "matplotlib",
    "pydantic", "typer", "rich", "jinja2", "openai", "httpx", "apache-tvm-ffi",
)  # fmt: skip


def fingerprint() -> JsonObject:
    """This machine, for manifests and cache keys. Plain JSON; computed once per process.

    Keys: system, architecture, kernel, cpu, cpu_flags (16 hex digits over the sorted flags),
    cores (that this process may use), memory_gib (rounded), gpus [{name, driver, memory_mib}],
    compiler (first line of its --version, or null), python, torch, triton, numpy (versions or
    null).
    """
    return dict(_fingerprint())


@functools.cache
def _fingerprint() -> JsonObject:
    model, flags = _cpu()
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "cpu": model,
        "cpu_flags": flags,
        "cores": cores(),
        "memory_gib": _memory_gib(),
        "gpus": _gpus(),
        "compiler": compiler_version(),
        "python": platform.python_version(),
        "torch": _version("torch"),
        "triton": _version("triton"),
        "numpy": _version("numpy"),
    }


def fingerprint_id() -> str:
    """16 hex digits that stand for the whole fingerprint in a cache key."""
    return content_hash(canonical_json(fingerprint()))


def cpu_fingerprint() -> str:
    """16 hex digits of what decides the code that -march=native makes: architecture, CPU model and
    its instruction-set flags."""
    return content_hash(canonical_json([platform.machine(), *_cpu()]))


def packages() -> dict[str, str | None]:
    """Versions of the packages a result may depend on; None where one is not installed."""
    return {name: _version(name) for name in PACKAGES}


def git_state(folder: Path | None = None) -> JsonObject:
    """{commit, dirty} of the checkout that holds `folder` (this package by default).

    Both are None outside a checkout or without git. "dirty" counts changed tracked files only: run
    folders and notes beside the code do not change a result.
    """
    where = folder or Path(__file__).resolve().parent
    commit = _output(["git", "-C", str(where), "rev-parse", "HEAD"])
    if commit is None:
        return {"commit": None, "dirty": None}
    changes = _output(["git", "-C", str(where), "status", "--porcelain", "--untracked-files=no"])
    return {"commit": commit, "dirty": bool(changes)}


def cores() -> int:
    """CPU cores that this process may use: affinity, not what the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def find_compiler() -> str | None:
    """The path of the first C++ compiler of COMPILERS, or None if there is none."""
    return next(filter(None, map(shutil.which, COMPILERS)), None)


def compiler_version() -> str | None:
    """The first line of the compiler's --version, or None where there is no compiler."""
    path = find_compiler()
    text = _output([path, "--version"]) if path else None
    return text.splitlines()[0] if text else None


def find_nvcc() -> str | None:
    """CUDA's compiler: from PATH, or where the toolkit installs itself."""
    usual = Path("/usr/local/cuda/bin/nvcc")
    return shutil.which("nvcc") or (str(usual) if usual.exists() else None)


@functools.cache
def nvcc_version() -> str | None:
    """The last line of nvcc --version, or None where there is no nvcc."""
    path = find_nvcc()
    text = _output([path, "--version"]) if path else None
    return text.splitlines()[-1] if text else None


def visible_gpus() -> list[JsonObject]:
    """The GPUs that this process may use: those of the fingerprint with their index, less what
    CUDA_VISIBLE_DEVICES leaves out. [{index, name, driver, memory_mib}]."""
    found = [{**gpu, "index": str(i)} for i, gpu in enumerate(fingerprint()["gpus"])]
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return found
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    by_index = {gpu["index"]: gpu for gpu in found}
    return [by_index.get(n, {**found[0], "index": n}) for n in names if found]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu() -> tuple[str, str]:
    """(model name, hash of the sorted instruction-set flags). On aarch64 /proc/cpuinfo names no
    model: implementer and part numbers stand for it."""
    fields: dict[str, str] = {}
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or "unknown", ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = fields.get("flags") or fields.get("Features") or ""
    parts = [fields[k] for k in ("CPU implementer", "CPU part", "CPU variant") if k in fields]
    model = fields.get("model name") or " ".join(["ARM", *parts] if parts else ["unknown"])
    return model, content_hash(" ".join(sorted(flags.split())))


def _memory_gib() -> int | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (ValueError, OSError):
        return None


def _gpus() -> list[JsonObject]:
    """NVIDIA GPUs by nvidia-smi; an empty list where there are none."""
    if shutil.which("nvidia-smi") is None:
        return []
    text = _output(
        [
            "nvidia-smi",
            "--query-gpu=name,driver_version,memory.total",
            "--format=csv,noheader,nounits",
        ]
    )
    rows = [[part.strip() for part in line.split(",")] for line in (text or "").splitlines()]
    return [
        {"name": name, "driver": driver, "memory_mib": int(memory) if memory.isdigit() else None}
        for name, driver, memory in (row for row in rows if len(row) == 3)
    ]


def _output(command: list[str]) -> str | None:
    """The command's standard output, or None when it cannot run, fails or takes over 10 s."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None

"""Which libraries a candidate loaded, read from outside of its process.

Covered: shared objects that are mapped into a worker or one of its children and are neither part of
its warm parent, nor of the C and C++ run-time, nor the candidate itself; on a GPU, where torch and
Triton load much by themselves, those that are called like a library of kernels.
Not covered: code that a candidate brings along in its own source or maps without a file; what torch
itself calls (cuBLAS), which is among the parent's.
"""

from __future__ import annotations

import re
from pathlib import Path

from harness.errors import InfraError

_RUNTIME = re.compile(
    r"(ld-linux.*|lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s|gomp|omp|iomp5|atomic|mvec))\.so[\d.]*$"
)
_CANDIDATE = "candidate.so"
_KERNELS = re.compile(
    r"flashinfer|flash_attn|cutlass|cudnn|cublas|cusparse|cusolver|cufft|deep_gemm|xformers|vllm"
    r"|transformer_engine|nvinfer|tensorrt|libtorch|_C\.cpython"
)


def foreign_libraries(worker_pid: int, parent_pid: int) -> list[str]:
    """File names, sorted. Raises InfraError if the process cannot be looked at."""
    known = _mapped(parent_pid)
    found: set[str] = set()
    for pid in _tree(worker_pid):
        found |= _mapped(pid) - known
    names = {Path(path).name for path in found}
    return sorted(n for n in names if n != _CANDIDATE and not _RUNTIME.match(n))


def kernel_libraries(worker_pid: int, parent_pid: int) -> list[str]:
    """Of what a worker on a GPU has loaded itself, the libraries of kernels, by their paths (a
    library that FlashInfer compiles lies in a folder of that name). File names, sorted. Raises
    InfraError."""
    found = _mapped(worker_pid) - _mapped(parent_pid)
    names = {Path(path).name for path in found if _KERNELS.search(path)}
    return sorted(names - {_CANDIDATE})


def _mapped(pid: int) -> set[str]:
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError as error:
        raise InfraError(f"Cannot see what process {pid} has loaded: {error.strerror}.") from error
    paths = {line.split(maxsplit=5)[5] for line in lines if len(line.split(maxsplit=5)) == 6}
    return {path for path in paths if ".so" in Path(path).name}


def _tree(pid: int) -> list[int]:
    """The process and all of its descendants that still run."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue  # it ended between the two looks
            parent = int(stat.rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        current = queue.pop()
        found.append(current)
        queue += parents.get(current, [])
    return found

"""The folder `results` in which K-Search's authors published kernels, listed and imported.

    OP_TYPE/DEFINITION/METHOD_best_TASK.cpp    PYBIND11_MODULE: a torch extension
                                       .cu     its kernels
                                       .h      what both include, under this name or as kernel.h
    gpumode_trimul/NAME.py                     a submission in GPUMode's format

METHOD is ksearch, oe or openevolve, shinka. Seen in the public repository caoshiyi/K-Search in
November 2026. Files called .json there are no JSON but texts of a kernel, and other files are none
of a kernel; neither is listed.

Covered: which kernels there are, and each flashinfer one as a Solution. Not covered: submissions
(`harness leaderboard trimul` takes them); results that its tool writes into folders of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import UsageError
from harness.interchange.solution import Solution, Source, Specification

METHODS = {"ksearch": "ksearch", "oe": "openevolve", "openevolve": "openevolve", "shinka": (
    "shinkaevolve"
)}  # fmt: skip
_NAME = re.compile(r"(?P<method>[a-z]+)_best(_\w+)?")
_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
_SUBMISSIONS = "gpumode_trimul"


@dataclass(frozen=True)
class PublishedKernel:
    """One kernel. task: the definition's name. method: as the harness names it, else as the file
    does. binding: "gpumode" for a submission. missing: headers that its files include and that were
    not published."""

    task: str
    method: str
    binding: Literal["torch", "tvm-ffi", "gpumode"]
    files: tuple[Path, ...]
    missing: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.method}_{self.task}"


def published_kernels(folder: Path) -> tuple[PublishedKernel, ...]:
    """The kernels below a folder, by task and method. Raises UsageError if there is none."""
    found = []
    for path in sorted(folder.rglob("*.cpp")):
        match = _NAME.fullmatch(path.stem)
        if match is not None:
            method = match["method"]
            found.append(_kernel(path, METHODS.get(method, method)))
    for path in sorted(folder.rglob(f"{_SUBMISSIONS}/*.py")):
        match = _NAME.fullmatch(path.stem)
        method = METHODS.get(match["method"], match["method"]) if match else path.stem
        found.append(PublishedKernel(_SUBMISSIONS, method, "gpumode", (path,)))
    if not found:
        raise UsageError(
            f"There is no published kernel below {folder}. Expected K-Search's folder results: "
            "OP_TYPE/DEFINITION/METHOD_best_TASK.cpp with .cu and .h, or gpumode_trimul/NAME.py."
        )
    return tuple(sorted(found, key=lambda kernel: (kernel.task, kernel.method)))


def solution_of_kernel(kernel: PublishedKernel) -> Solution:
    """The Solution that a kernel is. Raises UsageError for a submission, and where a header is
    missing."""
    if kernel.binding == "gpumode":
        raise UsageError(
            f"{kernel.files[0].name} is a submission in GPUMode's format: harness leaderboard "
            f"trimul {kernel.files[0]}"
        )
    if kernel.missing:
        raise UsageError(
            f"{kernel.files[0].name} includes {', '.join(kernel.missing)}, which was not published "
            "with it."
        )
    sources = [Source(path=path.name, content=_text(path)) for path in kernel.files]
    header = next((s for s in sources if s.path.endswith(".h")), None)
    for name in sorted(_included(kernel.files) - {s.path for s in sources}):
        assert header is not None  # else it were missing
        sources.append(Source(path=name, content=header.content))
    return Solution(
        name=kernel.name,
        definition=kernel.task,
        author=kernel.method,
        description="published by the authors of K-Search (arXiv 2602.19128)",
        spec=Specification(
            language="cuda",
            target_hardware=["cuda"],
            entry_point=f"{kernel.files[0].name}::run",
            dependencies=[],
            destination_passing_style=False,
            binding=kernel.binding,
        ),
        sources=sources,
    )


def _kernel(path: Path, method: str) -> PublishedKernel:
    beside = (path.with_suffix(suffix) for suffix in (".cu", ".h"))
    files = (path, *(file for file in beside if file.exists()))
    binding: Literal["torch", "tvm-ffi"] = (
        "tvm-ffi" if "TVM_FFI_DLL_EXPORT" in "".join(map(_text, files)) else "torch"
    )
    wanted = _included(files) - {file.name for file in files}
    has_header = files[-1].suffix == ".h"
    missing = () if has_header and wanted <= {"kernel.h"} else tuple(sorted(wanted))
    return PublishedKernel(path.parent.name, method, binding, files, missing)


def _included(files: tuple[Path, ...]) -> set[str]:
    """Headers that are included in quotation marks, by their own name, but for torch's."""
    named = {name for file in files for name in _INCLUDE.findall(_text(file))}
    return {name for name in named if "/" not in name}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"Cannot read {path}: {error}.") from error

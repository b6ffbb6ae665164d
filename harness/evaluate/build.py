"""Builds C++ and CUDA candidates in the sandbox; equal content is built once.

Key of a built library: files, flags, versions of the compiler and of what it is bound with, CPU.
The builder runs in processes of its own, sees no key and no project, and can write its job folder
only.

Covered: languages cpp (g++ or clang++) and cuda (nvcc), programs of several files, time-outs,
output that is no ordinary file, readable errors.
Not covered: Triton (triton_build.py); the flags of published kernels' bindings (bindings.py).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.environment import (
    compiler_version,
    cpu_fingerprint,
    find_compiler,
    find_nvcc,
    nvcc_version,
)
from harness.errors import EnvironmentMissing, InfraError
from harness.evaluate import machine
from harness.evaluate.cache import write_whole
from harness.evaluate.launcher import Limits, WarmParent
from harness.evaluate.settings import EvaluatorSettings
from harness.evaluate.threads import worker_environment
from harness.types import JsonObject, canonical_json, content_hash

FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")
MAX_LIBRARY_BYTES = 64 << 20
_BUNDLE_FILE_BYTES = 1 << 30  # torch's headers preprocessed: 10 MB a file, several at a time
_LIBRARY = "candidate.so"
_ERROR_LINES = 12


@dataclass(frozen=True)
class Built:
    """A shared library, or an archive of kernels. seconds: what building it took when it was built.
    missed: workloads or kernels of a Triton program that could not be compiled ahead."""

    code: bytes
    seconds: float
    missed: int = 0


@dataclass(frozen=True)
class BuildFailure:
    """Why there is no library. message: the first useful lines, without paths."""

    message: str
    timed_out: bool
    seconds: float


def compiler() -> str:
    """The C++ compiler's path. Raises EnvironmentMissing with how to get one."""
    path = find_compiler()
    if path is None:
        raise EnvironmentMissing(
            "No C++ compiler was found. Install g++ 11 or later (Debian, Ubuntu: apt-get install "
            "g++; Fedora: dnf install gcc-c++), or use the shipped Dockerfile."
        )
    return path


@dataclass(frozen=True)
class Toolchain:
    """How a library is built. command: compiler and flags. source: the file's name. readable:
    folders that the sandbox must show beside the system's. libraries: flags that come after the
    sources."""

    command: tuple[str, ...]
    source: str
    version: str
    readable: tuple[Path, ...] = ()
    libraries: tuple[str, ...] = ()

    @property
    def cuda(self) -> bool:
        return self.source.endswith(".cu")


def cpp_toolchain() -> Toolchain:
    """The C++ compiler. Raises EnvironmentMissing."""
    return Toolchain((compiler(), *FLAGS), "candidate.cpp", str(compiler_version()))


def cuda_toolchain(capability: int) -> Toolchain:
    """nvcc, for one architecture: the device's own with its special instructions where it has any
    (90: sm_90a). Raises EnvironmentMissing."""
    nvcc = find_nvcc()
    if nvcc is None:
        raise EnvironmentMissing(
            "No nvcc was found, so CUDA candidates cannot be built. Install the CUDA toolkit of "
            "your driver's version, or put its bin folder into PATH; Triton needs none."
        )
    architecture = f"{capability}a" if capability >= 90 else str(capability)
    flags = (
        "-std=c++17", "-O3", "--shared", "-Xcompiler", "-fPIC", "-cudart", "static",
        f"-gencode=arch=compute_{architecture},code=sm_{architecture}",
    )  # fmt: skip
    home = Path(os.path.realpath(nvcc)).parents[1]
    return Toolchain((nvcc, *flags), "candidate.cu", nvcc_version() or "unknown", (home,))


@dataclass(frozen=True)
class _Room:
    """How long a build may take, and how large a file and the temporary folder may get."""

    seconds: float
    file_bytes: int


class Builder:
    """Builds with one warm parent, several at a time. `folder` keeps what was built, if given."""

    def __init__(
        self,
        parent: WarmParent,
        folder: Path | None,
        settings: EvaluatorSettings,
        toolchain: Toolchain | None = None,
    ) -> None:
        self._parent = parent
        self._store = BuildStore(folder, ".so")
        self._settings = settings
        self.toolchain = toolchain or cpp_toolchain()

    def build(self, source: str, header: str) -> Built | BuildFailure:
        """The library of a source. A failure is a result; raises InfraError for our own faults."""
        tools = self.toolchain
        files = {tools.source: source, "task.h": header}
        room = _Room(self._settings.build_timeout_seconds, MAX_LIBRARY_BYTES)
        return self._build(tools, files, [tools.source], room)

    def build_files(
        self, tools: Toolchain, files: Mapping[str, str], compiled: Sequence[str]
    ) -> Built | BuildFailure:
        """The library of a published kernel's files. compiled: those that the compiler is given.
        As `build`, with more time and space."""
        room = _Room(self._settings.bundle_build_seconds, _BUNDLE_FILE_BYTES)
        return self._build(tools, files, compiled, room)

    def _build(
        self, tools: Toolchain, files: Mapping[str, str], compiled: Sequence[str], room: _Room
    ) -> Built | BuildFailure:
        flags = [*tools.command[1:], *tools.libraries]
        # A GPU's library may be built on one machine and run on another.
        host = cpu_fingerprint() if "-march=native" in tools.command else ""
        parts = [dict(files), list(compiled), flags, tools.version, host]
        return self._store.get_or_make(parts, lambda: self._compile(tools, files, compiled, room))

    def _compile(
        self, tools: Toolchain, files: Mapping[str, str], compiled: Sequence[str], room: _Room
    ) -> Built | BuildFailure:
        folder = Path(tempfile.mkdtemp(prefix="harness-build-"))
        started = time.perf_counter()
        try:
            for name, content in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(content, encoding="utf-8")
            result = self._parent.run_command(
                [*tools.command, "-o", _LIBRARY, *compiled, *tools.libraries],
                job_folder=folder,
                limits=Limits(
                    pids=32,
                    memory_bytes=self._settings.build_memory_bytes,
                    file_bytes=room.file_bytes,
                    cpu_seconds=int(room.seconds) + 1,
                    open_files=256,
                ),
                environment=worker_environment(1),
                timeout_seconds=room.seconds,
                readable=tools.readable,
            )
            seconds = time.perf_counter() - started
            if result.timed_out:
                return BuildFailure("the compiler did not finish in time", True, seconds)
            if result.returncode != 0:
                return BuildFailure(useful_lines(result.stderr), False, seconds)
            return Built(_read_library(folder / _LIBRARY), seconds)
        except OSError as error:
            raise building_failed(error) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class BuildStore:
    """Keeps what was built, by content. folder: None keeps nothing. suffix: of what was built."""

    def __init__(self, folder: Path | None, suffix: str) -> None:
        self._folder = folder
        self._suffix = suffix

    def get_or_make(
        self, parts: Sequence[object], make: Callable[[], Built | BuildFailure]
    ) -> Built | BuildFailure:
        """What was built of these parts (JSON), or is built now and kept; a time-out is not."""
        key = content_hash(canonical_json(list(parts)))
        stored = self._load(key)
        if stored is not None:
            return stored
        with machine.busy():
            result = make()
        if not (isinstance(result, BuildFailure) and result.timed_out):
            self._store(key, result)
        return result

    def _load(self, key: str) -> Built | BuildFailure | None:
        if self._folder is None:
            return None
        try:
            record = json.loads((self._folder / f"{key}.json").read_text())
            if record["failure"] is not None:
                return BuildFailure(record["failure"], False, record["seconds"])
            code = (self._folder / f"{key}{self._suffix}").read_bytes()
            return Built(code, record["seconds"], record.get("missed", 0))
        except (OSError, ValueError, KeyError):
            return None  # not there, or torn by a kill: build it again

    def _store(self, key: str, result: Built | BuildFailure) -> None:
        if self._folder is None:
            return
        record: JsonObject = {"failure": None, "seconds": result.seconds, "missed": 0}
        if isinstance(result, Built):
            write_whole(self._folder / f"{key}{self._suffix}", result.code)
            record["missed"] = result.missed
        else:
            record["failure"] = result.message
        write_whole(self._folder / f"{key}.json", json.dumps(record).encode())


def building_failed(error: OSError) -> InfraError:
    """A build that this machine did not let happen."""
    return InfraError(
        f"Building failed on this machine's side: {error}. Check free space in "
        f"{tempfile.gettempdir()}."
    )


def useful_lines(stderr: str) -> str:
    """The lines of a compiler's output that say what is wrong, bounded, without paths or
    colours."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", stderr)
    text = re.sub(r"(?:/[\w.+-]+)+/(?=[\w.+-]+)", "", text)
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    errors = [i for i, line in enumerate(lines) if "error" in line or "undefined reference" in line]
    kept: list[str] = []
    for i in errors:
        for line in lines[i : i + 2]:  # the message and the source line below it
            if line not in kept:
                kept.append(line[:200])
    return "\n".join((kept or lines)[:_ERROR_LINES]) or "the compiler failed without a message"


def _read_library(path: Path) -> bytes:
    """What the compiler wrote, unless it is something else than an ordinary file (a link out)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InfraError("The compiler left something else than an ordinary file.")
        return file.read(MAX_LIBRARY_BYTES)

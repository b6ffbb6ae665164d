"""What a side of a measurement is made of: a program, a role, buffers, calls.

Covered: the records that the judge, its benches and its sides share, and the archive of kernels
that Triton compiled, which goes from the worker that compiles to the one that is timed.
Not covered: what a side does with them (`side.py`).
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.evaluate.channel import WorkerTimes
from harness.evaluate.launcher import GpuUse, WorkerExit
from harness.suite import Signature
from harness.types import JsonObject, JsonScalar, Language, Status, Workload

if TYPE_CHECKING:
    from harness.evaluate.gpu_gate import Gate

CODE_FILE: Mapping[str, str] = {
    "cpp": "candidate.so", "cuda": "candidate.so",
    "python": "candidate.py", "triton": "candidate.py",
}  # fmt: skip
KERNEL_CACHE = "kernels"  # in the job folder: what Triton compiled
MAX_KERNEL_BYTES = 256 << 20

# One call's inputs, as the device's bench makes them (bench.py): arrays, or a seed.
Contents = Any


_ERROR_CLASSES = {"shape": Status.INCORRECT_SHAPE, "dtype": Status.INCORRECT_DTYPE}


class CandidateFailure(Exception):
    """The program under measurement broke. The judge turns it into a verdict."""

    def __init__(
        self,
        status: Status,
        check: str,
        message: str,
        evidence: Mapping[str, JsonScalar] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.check = check
        self.message = message
        self.evidence = dict(evidence or {})
        self.workload: str | None = None  # where the judge knows a better one than its stage's


@dataclass(frozen=True)
class Clocks:
    """One call by every clock, in nanoseconds. latency_ns: the one that the score is taken from.
    wall_ns: the judge's. worker: the worker's. plan_ns: the plan call by the judge's, if any.
    prepare_ns, queued: of a call behind a gate (gpu_gate.py), how long the judge took to prepare it
    meanwhile, and whether it was queued in time."""

    latency_ns: int
    wall_ns: int
    worker: WorkerTimes
    plan_ns: int | None = None
    prepare_ns: int = 0
    queued: bool = True


# By workload, the calls of a candidate and of the baseline beside it.
Timed = Mapping[Workload, tuple[Sequence[Clocks], Sequence[Clocks]]]


@dataclass(frozen=True)
class Call:
    """One finished call. contents: its inputs. outputs: private copies."""

    contents: Contents
    outputs: Mapping[str, Any]
    clocks: Clocks


@dataclass(frozen=True)
class Batch:
    """Calls back to back, timed as one."""

    calls: Sequence[Call]
    clocks: Clocks


@dataclass(frozen=True)
class Program:
    """What a side runs. code: the shared library (cpp, cuda) or the source (python, triton), as
    bytes. kernels: a tar file of what was compiled ahead (triton; the library of a bundle, whose
    language is python); complete: it is all that the search workloads need. submission: it is
    inspected, not scored (inspected_side.py). baseline: one of the task's, trusted: its calls are
    not looked at, and on a GPU it may compile at any time."""

    language: Language
    code: bytes
    trusted: bool = False
    kernels: bytes = b""
    complete: bool = False
    submission: bool = False
    baseline: bool = False


class Ring(Protocol):
    """The buffers that a worker sees (`memory.py` on a CPU, `gpu_memory.py` on a GPU)."""

    slots: int

    @property
    def gate(self) -> Gate | None:
        """What calls wait behind for their inputs, if anything."""
        ...

    @property
    def descriptors(self) -> list[int]: ...

    def bind(self, workload: Workload, slots: int | None = None) -> JsonObject:
        """Shape the slots for a workload (`slots` of them, where the ring can have as many); the
        message by which the worker does the same."""
        ...

    def release(self) -> JsonObject | None:
        """Give up what was made for the workload; the message that tells the worker, if any."""
        ...

    def freed(self) -> None:
        """The worker has let go of what it held before the last message."""
        ...

    def write(self, slot: int, contents: Contents, *, index: bool | None = None) -> None: ...

    def stage(self, slot: int, contents: Contents, *, index: bool | None = None) -> None:
        """Make contents that `put` will copy into a slot: all of them, or only those that are (not)
        index metadata."""
        ...

    def put(self) -> None:
        """Copy what was staged, at once; on a GPU this is queued only."""
        ...

    def poison_inputs(self, slot: int) -> None: ...

    def poison_outputs(self, slot: int) -> None: ...

    def unwritten_output(self, slot: int) -> str | None: ...

    def outputs(self, slot: int) -> Mapping[str, Any]: ...

    def changed_input(self, slot: int, contents: Contents) -> str | None: ...

    def changed_output(self, slot: int, outputs: Mapping[str, Any]) -> str | None: ...

    def broken_guard(self) -> str | None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Role:
    """How a side's worker is started. gpu: what it makes ready there. compiles: it may start
    compilers and write its job folder, as Triton does where nothing was compiled ahead; a
    candidate's is then never timed."""

    gpu: GpuUse = ""
    compiles: bool = False


ON_THE_CPU = Role()


def death(status: WorkerExit | None) -> CandidateFailure:
    """How a worker ended, as a failure. status: None if it has not."""
    if status is None:
        return CandidateFailure(Status.RUNTIME_ERROR, "exit", "the program closed its channel")
    if status.signal == "SIGSYS":
        return CandidateFailure(
            Status.REJECTED,
            "forbidden_call",
            "the program made a system call that no kernel needs (a new process, a socket, "
            "another process's memory, ...)",
            {"signal": status.signal},
        )
    if status.signal is not None:
        return CandidateFailure(
            Status.RUNTIME_ERROR,
            "signal",
            f"the program was ended by {status.signal}",
            {"signal": status.signal},
        )
    return CandidateFailure(
        Status.RUNTIME_ERROR,
        "exit",
        f"the program ended its process with exit status {status.code}",
        {"exit_status": status.code},
    )


def told_failure(
    answer: JsonObject, check: str, default: str, evidence: Mapping[str, JsonScalar] | None = None
) -> CandidateFailure:
    """What a worker's answer says went wrong. default: where it says nothing."""
    status = _ERROR_CLASSES.get(str(answer.get("error_class")), Status.RUNTIME_ERROR)
    return CandidateFailure(status, check, told_text(answer, default), evidence)


def told_text(answer: JsonObject, default: str) -> str:
    """A worker's message, bounded, without half characters and control characters."""
    value = answer.get("message")
    if not isinstance(value, str) or not value:
        return default
    whole = value[:2000].encode("utf-8", "replace").decode("utf-8")
    return "".join(c for c in whole if c in "\n\t" or c.isprintable())


def signature_json(signature: Signature) -> JsonObject:
    tensors = {
        kind: [
            {"name": t.name, "dtype": t.dtype, "shape": list(t.shape), "index": t.index}
            for t in group
        ]
        for kind, group in (("inputs", signature.inputs), ("outputs", signature.outputs))
    }
    return {"axes": [axis.name for axis in signature.axes], **tensors}


def gpu_environment() -> dict[str, str]:
    """What a worker on a GPU, or with torch, sees besides. CUDA_VISIBLE_DEVICES is the judge's: one
    device."""
    variables = (
        "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "LD_LIBRARY_PATH", "TRITON_INTERPRET",
    )  # fmt: skip
    inherited = {name: os.environ[name] for name in variables if name in os.environ}
    inherited |= {"OMP_PROC_BIND": "false"}
    # Relative, since an archive of compiled kernels holds these paths and folders differ.
    caches = {"TRITON_CACHE_DIR": KERNEL_CACHE, "TORCHINDUCTOR_CACHE_DIR": KERNEL_CACHE}
    # torch.compile asks for its user's name, and would start compilers side by side.
    compiles = {"LOGNAME": "candidate", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    return {**inherited, **caches, **compiles, "TRITON_STORE_BINARY_ONLY": "1"}


def parent_environment() -> dict[str, str]:
    """What a warm parent needs when it imports triton. Nothing is bound to a core: compilers and
    the driver's threads would all share the first one."""
    names = ("LD_LIBRARY_PATH", "TRITON_INTERPRET")
    inherited = {name: os.environ[name] for name in names if name in os.environ}
    return inherited | {"OMP_PROC_BIND": "false"}


def pack(folder: Path) -> bytes:
    """A tar file of the ordinary files below a folder that untrusted code wrote, b"" for none."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    if not files:
        return b""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in files:
            record = tarfile.TarInfo(path.relative_to(folder).as_posix())
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
                record.size = os.fstat(file.fileno()).st_size
                if buffer.tell() + record.size > MAX_KERNEL_BYTES:
                    break
                archive.addfile(record, file)
    return buffer.getvalue()


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """A tar file of contents by name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            record = tarfile.TarInfo(name)
            record.size = len(content)
            archive.addfile(record, io.BytesIO(content))
    return buffer.getvalue()


def unpack(archive: bytes, folder: Path) -> None:
    """The inverse of `pack`; paths that lead out of the folder are refused (tarfile's data
    filter)."""
    if archive:
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(folder, filter="data")

"""The warm parent: a small exec'ed process that forks one supervisor per worker or command.

Started by `launcher.py` as `python -I -B -X utf8 -c BOOTSTRAP`, with a scrubbed environment. It
holds no key, seed or lock. It imports what it is told to preload, never runs an op
(after one, a forked child hung in its first parallel op; a CUDA context does not survive a fork),
and has one thread, asserted before every fork. A
request comes over a Unix socket as one JSON message with descriptors; the answer is {"ok": true} or
{"ok": false, "message"}. Everything later goes between the launcher and the supervisor.

Covered: it ends when its owner's socket closes or the thread that started it ends; the supervisors
below get SIGTERM then, and end what is below them.
Not covered: isolation (`sandbox.py`), the processes' lives (`supervisor.py`).
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import NoReturn

# Imported here so that a forked worker, which cannot read this folder any more, has them.
from harness.evaluate import cpp_program, gpu_worker, linux, python_program, triton_ahead  # noqa: F401
from harness.evaluate.channel import WorkerEnd
from harness.evaluate.sandbox import Limits, Sandbox
from harness.evaluate.supervisor import Program, supervise
from harness.evaluate.worker import HostMachine, Machine, Worker
from harness.types import JsonObject

MAXIMUM_REQUEST_BYTES = 128 << 10
MAXIMUM_DESCRIPTORS = 240  # the kernel carries 253 in one message

_FIRST_DESCRIPTOR = 3  # inside: 0 is null, 1 and 2 are the output
_PRELOADED = {
    "none": (),
    "build": (),
    "torch": ("torch",),
    "triton": ("torch", "triton"),
    "triton-build": ("torch", "triton"),
}
# Builds run beside calls that are being timed, whose judge must not wait for a core.
_BUILDS_GIVE_WAY = 10
_STANDARD = ("encodings.idna", "linecache", "traceback", "inspect", "tempfile", "random")


def main() -> NoReturn:
    """Arguments: the control socket's descriptor, the owner's process id, what to preload."""
    control = socket.socket(fileno=int(sys.argv[1]))
    owner, preload = int(sys.argv[2]), sys.argv[3]
    linux.die_with_parent()
    if os.getppid() != owner:
        sys.exit(1)  # the owner ended before the line above
    linux.set_dumpable(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the owner decides what a Ctrl-C means
    for name in (*_STANDARD, *_PRELOADED[preload]):
        importlib.import_module(name)
    if preload in ("build", "triton-build"):
        os.nice(_BUILDS_GIVE_WAY)
    if "torch" in _PRELOADED[preload]:
        _prepare_tvm_ffi()
    if "triton" in preload:
        triton_ahead.warm_up(compiles=preload == "triton-build")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors need no reaping
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page it looks at
    control.send(json.dumps({"ok": True, "threads": linux.thread_count()}).encode())
    while True:
        data, descriptors, _, _ = socket.recv_fds(
            control, MAXIMUM_REQUEST_BYTES, MAXIMUM_DESCRIPTORS + 2
        )
        if not data:
            sys.exit(0)
        try:
            answer = _start(json.loads(data), descriptors, control)
        except OSError as error:
            answer = {"ok": False, "message": f"fork: {error}"}
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(json.dumps(answer).encode())


def _prepare_tvm_ffi() -> None:
    """Import TVM-FFI where it is installed, for kernels that are bound with it (bundle.py). The
    variable keeps it from asking torch for a GPU, and from building an exchange of tensors for a
    torch that has none (before 2.10)."""
    if importlib.util.find_spec("tvm_ffi") is not None:
        os.environ["TVM_FFI_DISABLE_TORCH_C_DLPACK"] = "1"
        importlib.import_module("tvm_ffi")


def _start(request: JsonObject, descriptors: list[int], control: socket.socket) -> JsonObject:
    threads = linux.thread_count()
    if threads != 1:
        return {"ok": False, "message": f"the warm parent has {threads} threads, expected 1"}
    if os.fork() == 0:
        control.close()
        _become_supervisor(request, descriptors)
    return {"ok": True}


def _become_supervisor(request: JsonObject, descriptors: list[int]) -> NoReturn:
    described = request["sandbox"]
    sandbox = Sandbox(
        **described
        | {
            "limits": Limits(**described["limits"]),
            "readable": tuple(described["readable"]),
            "hidden": tuple(described["hidden"]),
        }
    )
    argv: list[str] | None = request["argv"]
    environment: dict[str, str] = request["environment"]
    control = socket.socket(fileno=descriptors[0])
    if argv is None:
        worker = _WorkerStart(environment, len(descriptors) - 1, request["gpu"])
        mapped = _mapped_bytes()
        supervise(
            sandbox, worker.run, descriptors[1:], control, mapped, True, prepare=worker.prepare
        )
    supervise(sandbox, _command_program(argv, environment), descriptors[1:], control, 0, False)


def _mapped_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


class _WorkerStart:
    """A worker's first steps: of `count` descriptors the first two are its channel, the others its
    memory. gpu: "" for a CPU worker, "driver", "torch" for one that runs torch on the GPU, or
    "profiler" for one that is diagnosed, too."""

    def __init__(self, environment: dict[str, str], count: int, gpu: str) -> None:
        self._environment = environment
        self._memory = range(_FIRST_DESCRIPTOR + 2, _FIRST_DESCRIPTOR + count)
        self._gpu = gpu
        self._machine: Machine | None = None

    def prepare(self) -> None:
        """Inside the sandbox, before the filter. Raises OSError."""
        os.environ.clear()
        os.environ.update(self._environment)
        sys.argv[:] = [""]
        sys.orig_argv[:] = [""]
        if self._gpu:
            self._machine = gpu_worker.GpuMachine(self._memory, self._gpu)
        else:
            self._machine = HostMachine(self._memory)

    def run(self, ready: Callable[[], None]) -> None:
        ready()
        assert self._machine is not None
        Worker(WorkerEnd(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + 1), self._machine).serve()


def _command_program(argv: list[str], environment: dict[str, str]) -> Program:
    def program(ready: object) -> None:
        os.environ.clear()
        os.environ.update(environment)
        os.execvp(argv[0], argv)

    return program

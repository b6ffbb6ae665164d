"""The warm parent: a small exec'ed process that forks one supervisor per worker or command.

Started by `launcher.py` as `python -I -B -X utf8 -c BOOTSTRAP`, with a scrubbed environment. It
holds no key, seed or lock. With preload "torch" it imports torch, never runs an op (after one, a
forked child hung in its first parallel op), and has one thread, asserted before every fork. A
request comes over a Unix socket as one JSON message with descriptors; the answer is {"ok": true} or
{"ok": false, "message"}. Everything later goes between the launcher and the supervisor.

Covered: it ends when its owner's socket closes or the thread that started it ends; the supervisors
below get SIGTERM then, and end what is below them.
Not covered: isolation (`sandbox.py`), the processes' lives (`supervisor.py`).
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys
from typing import NoReturn

# Imported here so that a forked worker, which cannot read this folder any more, has them.
from harness.evaluate import cpp_program, linux, python_program  # noqa: F401
from harness.evaluate.channel import WorkerEnd
from harness.evaluate.sandbox import Limits, Sandbox
from harness.evaluate.supervisor import Program, supervise
from harness.evaluate.worker import Worker
from harness.types import JsonObject

MAXIMUM_REQUEST_BYTES = 128 << 10
MAXIMUM_DESCRIPTORS = 240  # the kernel carries 253 in one message

_FIRST_DESCRIPTOR = 3  # inside: 0 is null, 1 and 2 are the output
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
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors need no reaping
    for name in (*_STANDARD, *(() if preload == "none" else (preload,))):
        importlib.import_module(name)
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
    program = (
        _worker_program(environment, len(descriptors) - 1)
        if argv is None
        else _command_program(argv, environment)
    )
    supervise(
        sandbox,
        program,
        descriptors[1:],
        socket.socket(fileno=descriptors[0]),
        mapped_bytes=_mapped_bytes() if argv is None else 0,
        merge_output=argv is None,
    )


def _mapped_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _worker_program(environment: dict[str, str], count: int) -> Program:
    """A worker: of `count` descriptors the first two are its channel, the others its memory."""

    def program(ready: object) -> None:
        os.environ.clear()
        os.environ.update(environment)
        sys.argv[:] = [""]
        sys.orig_argv[:] = [""]
        assert callable(ready)
        ready()
        memory = range(_FIRST_DESCRIPTOR + 2, _FIRST_DESCRIPTOR + count)
        Worker(WorkerEnd(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + 1), memory).serve()

    return program


def _command_program(argv: list[str], environment: dict[str, str]) -> Program:
    def program(ready: object) -> None:
        os.environ.clear()
        os.environ.update(environment)
        os.execvp(argv[0], argv)

    return program

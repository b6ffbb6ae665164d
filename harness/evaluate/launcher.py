"""The trusted side of isolation: starts warm parents, workers and sandboxed commands.

    with WarmParent("none", probe()) as parent:
        worker = parent.start_worker(job_folder=..., descriptors=[...], limits=..., environment=...)
        result = parent.run_command(["g++", ...], job_folder=..., ...)

A job folder is the sandbox's current folder, writable for a command and read-only for a worker; use
names relative to it. As root its files change owner (command) or become readable (worker).

Covered: requests from several threads at once; the kernel ends a child when the *thread* that made
it ends, so a warm parent is made by a thread of its own that lives as long as this object. Whoever
kills the owner with SIGKILL finds nothing left within 2 s.
Not covered: deciding whether a machine without isolation may run a candidate (`trusted`).
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import harness
from harness.errors import EnvironmentMissing, InfraError
from harness.evaluate.channel import Channel
from harness.evaluate.confinement import can_change_user
from harness.evaluate.process import (
    ANSWER_SECONDS,
    Supervision,
    WorkerExit,
    WorkerProcess,
    ending,
)
from harness.evaluate.sandbox import Isolation, Limits, Sandbox
from harness.evaluate.threads import openmp_environment
from harness.types import JsonObject

__all__ = ["CommandResult", "Limits", "WarmParent", "WorkerExit", "WorkerProcess"]

Preload = Literal["none", "torch", "triton", "build", "triton-build"]
GpuUse = Literal["", "driver", "torch", "profiler"]

MAXIMUM_DESCRIPTORS = 236
_START_SECONDS = 120.0  # importing torch from a cold disk
_END_SECONDS = 5.0
_PACKAGES = ("harness", "methods", "suites", "reports")
_BOOTSTRAP = (
    "import sys; sys.path.append(sys.argv.pop()); from harness.evaluate.parent import main; main()"
)


@dataclass(frozen=True)
class CommandResult:
    """A finished command. returncode: its exit status, None if a signal ended it. signal: that
    signal's name. stdout, stderr: the first and last 32 KiB of each. timed_out: it was killed."""

    returncode: int | None
    signal: str | None
    stdout: str
    stderr: str
    timed_out: bool


class WarmParent:
    """A warm parent process and what it has started. Thread-safe; a context manager.

    It imports what it preloads beside its owner, which may make several: whatever is started waits
    for that first, and raises InfraError if it cannot be started or does not answer.
    """

    def __init__(
        self, preload: Preload, isolation: Isolation, environment: Mapping[str, str] | None = None
    ) -> None:
        self.preload = preload
        self._imports = preload not in ("none", "build")  # packages of this Python's environment
        self._environment = environment or {}
        self.isolation = isolation
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._closing = threading.Event()
        started = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._thread = threading.Thread(
            target=self._own, args=(theirs, started), name="warm-parent", daemon=True
        )
        self._thread.start()
        started.wait()
        theirs.close()
        self._ready = False
        self._problem: InfraError | None = None  # why it never was

    def wait(self) -> None:
        """Return once it can start something. Raises InfraError."""
        with self._lock:
            self._wait()

    def _wait(self) -> None:
        if self._problem is not None:
            raise self._problem
        if self._ready:
            return
        try:
            answer = self._receive(_START_SECONDS)
            if answer.get("threads") != 1:
                raise InfraError(
                    f"The warm parent ({self.preload}) has {answer.get('threads')} threads after "
                    "its imports, expected 1: a fork would be unsafe. Which import started one?"
                )
        except InfraError as error:
            self._problem = error
            raise
        self._ready = True

    def _own(self, theirs: socket.socket, started: threading.Event) -> None:
        """The thread that makes the process, and stays until it may end."""
        root = Path(harness.__file__).resolve().parents[1]
        site = [] if self._imports else ["-S"]
        arguments = [str(theirs.fileno()), str(os.getpid()), self.preload, str(root)]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-B", *site, "-X", "utf8", "-c", _BOOTSTRAP, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                env=_parent_environment() | dict(self._environment) | self._binding(),
                pass_fds=[theirs.fileno()],
                cwd="/",
            )
        except OSError as error:
            self._errors.write(str(error).encode())
        finally:
            started.set()
        self._closing.wait()

    def _binding(self) -> dict[str, str]:
        """OpenMP binds its threads where the filter lets a worker set their affinity: where no
        process outside could be meant (confinement.py)."""
        way = self.isolation.way
        if way == "namespaces" or (way != "none" and can_change_user()):
            return {}
        return {"OMP_PROC_BIND": "false"}

    @property
    def pid(self) -> int:
        """The warm parent's process id."""
        assert self._process is not None  # __init__ has waited for its start
        return self._process.pid

    def __enter__(self) -> WarmParent:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the warm parent and everything that it started."""
        self._control.close()
        if self._process is not None:
            if not self._ready:
                self._process.kill()  # nothing was started, and it would import on
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._closing.set()
        self._thread.join()
        self._errors.close()

    def start_worker(
        self,
        *,
        job_folder: Path,
        descriptors: Sequence[int],
        limits: Limits,
        environment: Mapping[str, str],
        trusted: bool = False,
        attacks_kill: bool = False,
        job_writable: bool = False,
        gpu: GpuUse = "",
    ) -> WorkerProcess:
        """Fork a worker. descriptors: memory files, sealed against shrinking, that it may map.
        attacks_kill: system calls that no kernel needs end it with SIGSYS, instead of failing.
        gpu: what it makes ready on the GPU, if anything.

        A trusted worker gets the same sandbox, so that both sides are timed alike; it may also be
        started where there is none. Raises EnvironmentMissing for an untrusted one there,
        ValueError for bad descriptors, InfraError if the sandbox cannot be entered.
        """
        if self.isolation.way == "none" and not trusted:
            raise EnvironmentMissing(
                "This machine cannot isolate untrusted code: "
                f"{'; '.join(self.isolation.details)}. Use Linux 6.2 or later or allow user "
                "namespaces, or pass --trust-candidates if you wrote the candidates yourself."
            )
        if len(descriptors) > MAXIMUM_DESCRIPTORS:
            raise ValueError(f"{len(descriptors)} descriptors, at most {MAXIMUM_DESCRIPTORS}")
        for descriptor in descriptors:
            if not fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
                raise ValueError(
                    f"descriptor {descriptor} is not sealed against shrinking: "
                    "a worker could kill its judge by truncating it"
                )
        requests, replies = os.pipe(), os.pipe()  # (reading, writing)
        channel = Channel(replies[0], requests[1])
        with ExitStack() as undo, ExitStack() as passed_on:
            undo.callback(channel.close)
            passed_on.callback(os.close, replies[1])
            passed_on.callback(os.close, requests[0])
            supervision = self._start(
                None,
                Sandbox(
                    self.isolation.way,
                    str(job_folder),
                    job_writable=job_writable,
                    limits=limits,
                    hidden=_hidden(),
                    python=self._imports,
                    attacks_kill=attacks_kill,
                    gpu=bool(gpu),
                ),
                {n: self._binding().get(n, value) for n, value in environment.items()},
                [requests[0], replies[1], *descriptors],
                gpu,
            )
            undo.pop_all()
        return WorkerProcess(supervision, channel)

    def run_command(
        self,
        argv: Sequence[str],
        *,
        job_folder: Path,
        limits: Limits,
        environment: Mapping[str, str],
        timeout_seconds: float,
        readable: Sequence[Path] = (),
    ) -> CommandResult:
        """Run a command to its end in a sandbox, or kill it after `timeout_seconds`.

        readable: folders beside the system's, e.g. of a compiler that lives elsewhere. Way "none"
        runs it under limits only. Raises InfraError if it cannot be started.
        """
        environment = {"TMPDIR": "/tmp" if self.isolation.way == "namespaces" else "."} | dict(
            environment
        )
        supervision = self._start(
            list(argv),
            Sandbox(
                self.isolation.way,
                str(job_folder),
                job_writable=True,
                limits=limits,
                readable=tuple(os.path.realpath(p) for p in readable),
                hidden=_hidden(),
            ),
            environment,
            [],
        )
        try:
            event = supervision.wait_for("exit", timeout_seconds)
            timed_out = event is None
            if event is None:
                event = supervision.output()
        finally:
            supervision.close()
        ended = ending(event["status"]) if not timed_out else WorkerExit(None, "SIGKILL")
        stdout, stderr = str(event.get("stdout", "")), str(event.get("stderr", ""))
        return CommandResult(ended.code, ended.signal, stdout, stderr, timed_out)

    def _start(
        self,
        argv: list[str] | None,
        sandbox: Sandbox,
        environment: Mapping[str, str],
        descriptors: Sequence[int],
        gpu: GpuUse = "",
    ) -> Supervision:
        request = {
            "argv": argv,
            "gpu": gpu,
            "sandbox": dataclasses.asdict(sandbox),
            "environment": dict(environment),
        }
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs, ExitStack() as undo:
            undo.callback(ours.close)
            with self._lock:
                self._wait()
                try:
                    socket.send_fds(
                        self._control,
                        [json.dumps(request).encode()],
                        [theirs.fileno(), *descriptors],
                    )
                except OSError as error:
                    raise self._gone(error) from error
                answer = self._receive(ANSWER_SECONDS)
            if answer.get("ok") is not True:
                raise InfraError(f"The warm parent could not start it: {answer.get('message')}.")
            undo.pop_all()
        return Supervision(ours)

    def _receive(self, seconds: float) -> JsonObject:
        try:
            self._control.settimeout(seconds)
            data = self._control.recv(1 << 16)
        except OSError as error:  # also a time-out
            raise self._gone(error) from error
        if not data:
            raise self._gone(None)
        answer: JsonObject = json.loads(data)
        return answer

    def _gone(self, error: OSError | None) -> InfraError:
        lines: list[str] = []
        if not self._errors.closed:
            self._errors.seek(0)
            lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        reason = lines[-1] if lines else str(error or "it closed its socket")
        return InfraError(
            f"The warm parent ({self.preload}) does not answer: {reason}. Is there memory left?"
        )


def _parent_environment() -> dict[str, str]:
    """Read by the libraries that torch loads, once, at import. Their own pools start with one
    thread; OpenMP's is made by the worker."""
    return {
        "LANG": "C.UTF-8",
        "PATH": "/usr/bin:/bin",
        "HOME": "/tmp",
        **openmp_environment(len(os.sched_getaffinity(0))),
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }


def _hidden() -> tuple[str, ...]:
    """The home folder, and this project: its checkout, or its packages among installed ones."""
    root = os.path.realpath(Path(harness.__file__).parents[1])
    prefixes = {os.path.realpath(p) for p in (sys.prefix, sys.base_prefix)}
    if any(root.startswith(prefix + "/") for prefix in prefixes):
        project = [os.path.join(root, name) for name in _PACKAGES]
    else:
        project = [root]
    home = os.path.realpath(os.path.expanduser("~"))
    return tuple(p for p in (home, *project) if p != "/")

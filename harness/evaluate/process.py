"""The launcher's handles of what runs in sandboxes: a supervisor's socket, a worker.

Covered: events in order, output and end of a worker, stopping and resuming its kill group, ending
it so that nothing is left. Not covered: starting one (`launcher.py`); the supervisor's own side
(`supervisor.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InfraError
from harness.evaluate.channel import Channel
from harness.types import JsonObject

ANSWER_SECONDS = 30.0
_END_SECONDS = 5.0
_AT_REST = "TtXZ"  # stopped, traced, dead
_PROCESS_CPU_CLOCK = 2  # CPUCLOCK_SCHED of a whole process (linux/posix-timers.h)


@dataclass(frozen=True)
class WorkerExit:
    """How a worker ended: with an exit status (`code`) or by a signal (its name, e.g.
    "SIGSEGV")."""

    code: int | None
    signal: str | None


class Supervision:
    """The launcher's end of one supervisor (`supervisor.py`)."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lock = threading.Lock()
        self._buffer = b""
        self._closed = False
        self.exit: JsonObject | None = None

    def wait_for(self, name: str, timeout_seconds: float) -> JsonObject | None:
        """The next event called `name`, or None if there is none in time. Raises InfraError if the
        sandbox failed or the supervisor is gone."""
        deadline = time.monotonic() + timeout_seconds
        with self._lock:
            while True:
                if name == "exit" and self.exit is not None:
                    return self.exit
                if self._closed:
                    return None
                event = self._next(deadline)
                if event is None:
                    return None
                if event["event"] == "failed":
                    raise InfraError(f"The sandbox could not be entered: {event['message']}.")
                if event["event"] == "exit":
                    self.exit = event
                if event["event"] == name:
                    return event
                if event["event"] == "exit" and name == "started":
                    raise InfraError("The worker ended before it was ready.")

    def _next(self, deadline: float) -> JsonObject | None:
        while b"\n" not in self._buffer:
            left = max(deadline - time.monotonic(), 0.0)
            if not select.select([self._control], [], [], left)[0]:
                return None
            data = self._control.recv(1 << 16)
            if not data:
                raise InfraError("A supervisor has ended without a word; was it killed?")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        event: JsonObject = json.loads(line)
        return event

    def output(self) -> JsonObject:
        """What has been printed so far: {"stdout", "stderr"}."""
        if self.exit is not None:
            return self.exit
        self._control.sendall(b"o")
        event = self.wait_for("output", _END_SECONDS)
        if event is None:
            raise InfraError("A supervisor does not answer.")
        return event

    def close(self) -> None:
        """Let go: everything inside is killed, and gone when this returns."""
        with self._lock:
            self._control.shutdown(socket.SHUT_WR)
            deadline = time.monotonic() + _END_SECONDS
            with contextlib.suppress(InfraError):  # the end of file that is waited for
                while (event := self._next(deadline)) is not None:
                    if event["event"] == "exit":
                        self.exit = event
            self._closed = True
            self._control.close()


class WorkerProcess:
    """A running worker. pid: the leader of its kill group, as seen from outside."""

    def __init__(self, supervision: Supervision, channel: Channel) -> None:
        self.channel = channel
        self._supervision = supervision
        self._closed = False
        with contextlib.ExitStack() as undo:
            undo.callback(supervision.close)
            undo.callback(channel.close)
            event = supervision.wait_for("started", ANSWER_SECONDS)
            if event is None:
                raise InfraError(f"A worker was not ready within {ANSWER_SECONDS:g} s.")
            undo.pop_all()
        self.pid = int(event["pid"])
        self._program = _program_below(self.pid)

    def stop(self) -> None:
        """Stop every process and thread of the group. One system call; does not wait."""
        self._signal(signal.SIGSTOP)

    def wait_stopped(self, timeout_seconds: float) -> bool:
        """Whether every thread of the worker has come to a stop within the time given.

        A signal that stops is only asked for by `stop`: a thread acts on it when it next runs, and
        one that keeps sending SIGCONT, or starves the others, never does. A thread whose state says
        stopped may still be on its way off the core (for long, where a hypervisor takes the core at
        that moment), so the CPU clock must stand still too.
        """
        deadline = time.monotonic() + timeout_seconds
        before = -1
        while True:
            used = self.cpu_ns() if self._all_stopped() else -1
            if used >= 0 and used == before:
                return True
            if time.monotonic() >= deadline:
                return False
            before = used
            time.sleep(0.00003)

    def cpu_ns(self) -> int:
        """CPU time that the worker's threads have used so far, by the kernel's per-process clock;
        while they are stopped it stands still. 0 once the worker is gone."""
        try:
            return time.clock_gettime_ns((~self._program << 3) | _PROCESS_CPU_CLOCK)
        except OSError:
            return 0

    def _all_stopped(self) -> bool:
        try:
            tasks = os.listdir(f"/proc/{self._program}/task")
            return all(_state(self._program, task) in _AT_REST for task in tasks)
        except OSError:
            return True  # it has ended, which the next request will find

    def resume(self) -> None:
        """Let the group go on. One system call; does not wait."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        # The supervisor leaves the leader unreaped until kill(), so the id is still this group's.
        if not self._closed:
            os.killpg(self.pid, number)

    def output(self) -> str:
        """What the worker has printed, stdout and stderr in one: its first and last 32 KiB."""
        return str(self._supervision.output()["stdout"])

    def exit_status(self, timeout_seconds: float = 0.0) -> WorkerExit | None:
        """How the worker itself ended (not the init above it), or None if it still runs."""
        event = self._supervision.wait_for("exit", timeout_seconds)
        return None if event is None else ending(event["status"])

    def kill(self) -> None:
        """End the worker and everything that it has started; gone when this returns. May be
        repeated."""
        if self._closed:
            return
        self._closed = True
        self.channel.close()
        self._supervision.close()


def _program_below(leader: int) -> int:
    """The process that runs the untrusted code: the leader's only child (the leader is then the
    sandbox's init), or the leader itself where it has none."""
    try:
        children = Path(f"/proc/{leader}/task/{leader}/children").read_text(encoding="ascii")
    except OSError:
        return leader
    return int(children.split()[0]) if children.split() else leader


def _state(process: int, task: str) -> str:
    """A thread's state letter; a thread that has just ended counts as dead. By plain system calls:
    a process with a GPU has a dozen threads, and is looked at after every call."""
    try:
        descriptor = os.open(f"/proc/{process}/task/{task}/stat", os.O_RDONLY)
        try:
            data = os.read(descriptor, 512)
        finally:
            os.close(descriptor)
    except OSError:
        return "X"
    return chr(data[data.rindex(b")") + 2])


def ending(status: int) -> WorkerExit:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return WorkerExit(None, signal.Signals(number).name)
        except ValueError:  # a real-time signal
            return WorkerExit(None, f"signal {number}")
    return WorkerExit(os.WEXITSTATUS(status), None)

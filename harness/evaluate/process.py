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

from harness.errors import InfraError
from harness.evaluate.channel import Channel
from harness.types import JsonObject

ANSWER_SECONDS = 30.0
_END_SECONDS = 5.0


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
        try:
            event = supervision.wait_for("started", ANSWER_SECONDS)
            if event is None:
                raise InfraError(f"A worker was not ready within {ANSWER_SECONDS:g} s.")
        except BaseException:
            self.channel.close()
            supervision.close()
            raise
        self.pid = int(event["pid"])

    def stop(self) -> None:
        """Stop every process and thread of the group. One system call; does not wait."""
        self._signal(signal.SIGSTOP)

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


def ending(status: int) -> WorkerExit:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return WorkerExit(None, signal.Signals(number).name)
        except ValueError:  # a real-time signal
            return WorkerExit(None, f"signal {number}")
    return WorkerExit(os.WEXITSTATUS(status), None)

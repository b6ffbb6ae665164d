"""The trusted process above one sandbox: starts it, keeps its output, tells its end, ends it.

    warm parent ── supervisor ── init (process 1 of the namespaces) ── worker or command ── ...
                        └─────── worker or command (ways "landlock" and "none") ── ...

The process below the supervisor leads the kill group: stopping, resuming and killing the group
reaches everything inside, since nothing inside can leave it (the filter denies setsid and setpgid).
The supervisor stays outside the group, so that it acts while the group is stopped. It leaves the
dead leader unreaped until the launcher has let go, so that a group id that the launcher signals is
never another's.

Covered: the owner's end (its socket closes, or the warm parent ends) kills everything inside; the
end of the worker or command itself (not of the init in between) is reported; output is drained as
it comes and bounded: the first and the last half of OUTPUT_BYTES are kept.
Not covered: a supervisor killed with SIGKILL by somebody else in way "landlock": processes that the
worker had started may then live on until their limits end them.

Talks JSON lines with `launcher.py` over a socket: {"event": "started" | "failed" | "output" |
"exit"}.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from harness.evaluate import linux
from harness.evaluate.confinement import Confinement
from harness.evaluate.sandbox import Sandbox

OUTPUT_BYTES = 64 << 10  # kept of each stream

_READY, _FAILED, _ENDED = b"R", b"F", b"X"
_HIGH_DESCRIPTOR = 300  # above every final place, below the usual soft limit of 1024

# What runs in the sandbox. A worker calls its argument when it is ready, before untrusted code is
# loaded; a command never does.
Program = Callable[[Callable[[], None]], None]


class BoundedOutput:
    """The first and last bytes of a stream, at most OUTPUT_BYTES."""

    def __init__(self) -> None:
        self._head, self._tail, self._dropped = bytearray(), bytearray(), 0

    def add(self, data: bytes) -> None:
        half = OUTPUT_BYTES // 2
        room = half - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        excess = len(self._tail) - half
        if excess > 0:
            del self._tail[:excess]
            self._dropped += excess

    def text(self) -> str:
        gap = f"\n[{self._dropped} bytes left out]\n".encode() if self._dropped else b""
        return (bytes(self._head) + gap + bytes(self._tail)).decode("utf-8", "replace")


def supervise(
    sandbox: Sandbox,
    program: Program,
    descriptors: Sequence[int],
    control: socket.socket,
    mapped_bytes: int,
    merge_output: bool,
    prepare: Callable[[], None] = lambda: None,
) -> NoReturn:
    """The life of a supervisor; the calling process (a fresh fork) becomes it and ends with it.

    descriptors: become 3, 4, ... inside. merge_output: one stream for stdout and stderr. prepare:
    trusted steps inside the sandbox, before the filter (a GPU's driver opens sockets).
    """
    os.setpgid(0, 0)  # out of the harness's group: a Ctrl-C there must not come here first
    linux.die_with_parent(signal.SIGTERM)
    linux.set_dumpable(False)
    linux.become_subreaper()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    streams = [os.pipe()] if merge_output else [os.pipe(), os.pipe()]
    status_read, status_write = os.pipe()
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    confinement = Confinement(sandbox)
    try:
        confinement.prepare()
    except (OSError, ValueError) as error:
        _send(control, {"event": "failed", "message": f"sandbox: {error}"})
        os._exit(1)
    leader = os.fork()
    if leader == 0:
        outputs = [streams[0][1], streams[-1][1]]
        start = _Start(confinement, program, prepare, mapped_bytes)
        _lead(start, [null, *outputs, *descriptors], status_write)
    signal.signal(signal.SIGTERM, lambda *_: _end(leader))
    for descriptor in (status_write, null, *descriptors, *(write for _, write in streams)):
        os.close(descriptor)
    _Watch(leader, control, status_read, [read for read, _ in streams]).run()
    _end(leader)


def _end(leader: int) -> NoReturn:
    """Kill the group and whatever else came to this process as an orphan, reap it, and end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for kill in (os.killpg, os.kill):  # the second: the leader may not have made its group yet
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(leader, signal.SIGKILL)
    while True:
        with contextlib.suppress(OSError):
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
            for child in map(int, children.split()):  # unreaped, so the number is still theirs
                os.kill(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            os._exit(0)


def _send(control: socket.socket, event: Mapping[str, str | int]) -> None:
    with contextlib.suppress(OSError):  # the launcher is gone: its end of file follows
        control.sendall(json.dumps(event).encode() + b"\n")


class _Watch:
    """Waits for the launcher's word, output, and the leader's end, until the launcher lets go."""

    def __init__(
        self, leader: int, control: socket.socket, status: int, streams: Sequence[int]
    ) -> None:
        self._leader, self._control, self._status = leader, control, status
        self._outputs = {stream: BoundedOutput() for stream in streams}
        self._messages = b""
        self._started = False

    def run(self) -> None:
        poll = select.poll()
        ended = os.pidfd_open(self._leader)
        poll.register(self._control, select.POLLIN)
        for descriptor in (self._status, ended, *self._outputs):
            os.set_blocking(descriptor, False)
            poll.register(descriptor, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in poll.poll()]
            for descriptor in ready:
                if descriptor in self._outputs:
                    if not self._drain(descriptor):
                        poll.unregister(descriptor)
                elif descriptor == self._status:
                    data = os.read(self._status, 4096)
                    self._messages += data
                    if not data:
                        poll.unregister(self._status)
                    self._announce()
            if self._control.fileno() in ready:
                if not self._control.recv(64):
                    return
                _send(self._control, {"event": "output", **self._texts()})
            if ended in ready:
                poll.unregister(ended)
                self._report_end()

    def _drain(self, stream: int) -> bool:
        try:
            data = os.read(stream, OUTPUT_BYTES)
        except BlockingIOError:
            return True
        self._outputs[stream].add(data)
        return bool(data)

    def _texts(self) -> dict[str, str | int]:
        return dict(
            zip(("stdout", "stderr"), (o.text() for o in self._outputs.values()), strict=False)
        )

    def _announce(self) -> None:
        if self._started or not self._messages.startswith(_READY):
            return
        self._started = True
        _send(self._control, {"event": "started", "pid": self._leader})

    def _report_end(self) -> None:
        """Called when the leader is dead; with namespaces everything inside is, too."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._leader, signal.SIGKILL)  # what the leader left behind, without an init
        with contextlib.suppress(BlockingIOError):
            self._messages += os.read(self._status, 4096)
        self._announce()
        for stream in self._outputs:
            while select.select([stream], [], [], 0)[0] and self._drain(stream):
                pass
        if self._messages.startswith(_FAILED):
            message = self._messages[1:].decode("utf-8", "replace")
            _send(self._control, {"event": "failed", "message": message})
            return
        position = self._messages.find(_ENDED)
        if position >= 0:
            (status,) = struct.unpack_from("<i", self._messages, position + 1)
        else:  # no init, or an init killed from outside
            result = os.waitid(os.P_PID, self._leader, os.WEXITED | os.WNOWAIT)
            assert result is not None
            killed = result.si_code != os.CLD_EXITED
            status = result.si_status if killed else result.si_status << 8
        _send(self._control, {"event": "exit", "status": status, **self._texts()})


@dataclass(frozen=True)
class _Start:
    """What is to run, and in what."""

    confinement: Confinement
    program: Program
    prepare: Callable[[], None]
    mapped_bytes: int


def _lead(start: _Start, descriptors: Sequence[int], status: int) -> NoReturn:
    """The first process below the supervisor: leads the group, enters the sandbox."""
    confinement = start.confinement
    try:
        os.setpgid(0, 0)
        linux.die_with_parent()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        confinement.enter_root()
        linux.die_with_parent()  # taking another user cleared it
        if not confinement.has_init:
            _run(start, descriptors, status)
        worker = os.fork()
        if worker == 0:
            _run(start, descriptors, status)
    except (OSError, ValueError, KeyError) as error:
        _fail(status, error)
    os.dup2(status, 0)
    linux.close_from(1)
    while True:
        child, code = os.wait()
        if child == worker:
            os.write(0, _ENDED + struct.pack("<i", code))
            os._exit(0)  # the kernel kills whatever is left in the namespace


def _run(start: _Start, descriptors: Sequence[int], status: int) -> NoReturn:
    """The process that runs the program, from its descriptors to its end."""
    try:
        raised = [
            fcntl.fcntl(d, fcntl.F_DUPFD_CLOEXEC, _HIGH_DESCRIPTOR) for d in (*descriptors, status)
        ]
        last = len(raised) - 1
        for place, descriptor in enumerate(raised):
            os.dup2(descriptor, place, inheritable=place < last)
        linux.close_from(last + 1)
        status = last
        for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # Python ignores or catches these
        start.prepare()
        start.confinement.seal(start.mapped_bytes)
    except (OSError, ValueError, KeyError) as error:
        _fail(status, error)

    def ready() -> None:
        os.write(status, _READY)  # ends with SIGPIPE if the supervisor is gone
        os.close(status)  # untrusted code never holds it

    try:
        start.program(ready)
    except OSError as error:  # a command that cannot be started
        _fail(status, error)
    os._exit(0)


def _fail(status: int, error: Exception) -> NoReturn:
    with contextlib.suppress(OSError):
        os.write(status, _FAILED + f"{type(error).__name__}: {error}".encode()[:2000])
    os._exit(1)

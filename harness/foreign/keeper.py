"""The process above one foreign program: starts it, tells its end, leaves nothing of it behind.

Runs in a process of its own, between the harness and the program:

    harness ── keeper (subreaper) ── program (leads a session and a process group) ── ...

Its standard input is the harness's hold on it: when that closes, by intention or because the
harness was killed, everything below the keeper is killed, and the keeper ends. Whatever the program
starts, in its process group or outside, has the keeper as its nearest living ancestor, so a walk
over /proc finds it. The dead leader is not reaped before the harness lets go, so that a group id
that the harness signals is never another's.

Covered: programs that die, hang, fork, daemonise. A program with more than MAXIMUM_PROCESSES
processes and threads below it is ended. Not covered: a keeper that is itself killed with SIGKILL
(its program then ends with it, what the program had started does not); memory and disk.

Writes JSON lines to a descriptor: {"event": "started" | "failed" | "exit"}. Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.evaluate import linux

MAXIMUM_PROCESSES = 1000  # of one program; OpenEvolve and ShinkaEvolve have below 50
FILE_BYTES = 4 << 30  # the largest file that a program may write

_CHECK_SECONDS = 1.0


def main() -> None:
    """`keeper.py STATUS_DESCRIPTOR COMMAND...`"""
    status, command = int(sys.argv[1]), sys.argv[2:]
    linux.become_subreaper()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a terminal's signals are the harness's to handle
    try:
        child = _start(command, status)
    except OSError as error:
        reason = error.strerror or str(error)
        _say(status, {"event": "failed", "message": f"{command[0]}: {reason}"})
        return
    _say(status, {"event": "started", "pid": child.pid})
    try:
        _watch(status, child.pid)
    finally:
        end_everything(os.getpid())


def _start(command: Sequence[str], status: int) -> subprocess.Popen[bytes]:
    """The program. The caller keeps the object: dropped, it would reap a program that has ended,
    and nobody would hear of the end."""

    # The keeper has one thread and no locks: code between fork and exec is safe here.
    def become() -> None:
        linux.die_with_parent(signal.SIGKILL)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        most = FILE_BYTES if hard == resource.RLIM_INFINITY else min(FILE_BYTES, hard)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        os.close(status)

    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=become,  # noqa: PLW1509 - one thread
    )


def _watch(status: int, child: int) -> None:
    """Until the harness lets go. Tells the program's end once."""
    ended = os.pidfd_open(child)
    waiting = [0, ended]
    while True:
        ready, _, _ = select.select(waiting, [], [], _CHECK_SECONDS)
        if 0 in ready and not os.read(0, 4096):
            return
        if ended in ready:
            _say(status, _exit_of(child) | {"event": "exit"})
            waiting = [0]
        elif _load() > MAXIMUM_PROCESSES and _tasks_below(os.getpid()) > MAXIMUM_PROCESSES:
            end_everything(os.getpid())
            words = f"it started more than {MAXIMUM_PROCESSES} processes and threads"
            _say(status, {"event": "exit", "code": None, "signal": "SIGKILL", "why": words})
            waiting = [0]


def _exit_of(child: int) -> dict[str, int | str | None]:
    """How the leader ended; it stays unreaped."""
    info = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    if info is None:
        return {"code": None, "signal": None}
    if info.si_code == os.CLD_EXITED:
        return {"code": info.si_status, "signal": None}
    return {"code": None, "signal": signal.Signals(info.si_status).name}


def _load() -> int:
    """Processes and threads of the whole machine: one short read, so that it disturbs nobody."""
    text = Path("/proc/loadavg").read_text(encoding="ascii")
    return int(text.split()[3].partition("/")[2])


def _tasks_below(root: int) -> int:
    count = 0
    for pid in below(root):
        with contextlib.suppress(OSError):
            count += len(os.listdir(f"/proc/{pid}/task"))
    return count


def below(root: int) -> list[int]:
    """Process ids of everything below `root`, zombies included."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{name}/stat").read_text(encoding="ascii", errors="replace")
                parent = int(stat.rpartition(") ")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    left = [root]
    while left:
        below_it = children.get(left.pop(), [])
        found += below_it
        left += below_it
    return found


def end_everything(root: int) -> None:
    """Kill and reap everything below this process. Stops it first, so that nothing forks while the
    rest is being killed."""
    while pids := below(root):
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        time.sleep(0.002)


def _say(status: int, event: Mapping[str, object]) -> None:
    with contextlib.suppress(OSError):  # the harness is gone: the end of its hold follows
        os.write(status, json.dumps(event).encode() + b"\n")

"""What confines untrusted code: the two ways, the limits, and the order in which they are entered.

Way "namespaces": own PID, mount, network, IPC and UTS namespaces with a minimal root
(`minimal_root.py`). As root they are made as root, and then an unprivileged user, unique to the
sandbox, is taken: a root process is exempt from RLIMIT_NPROC and may write root-owned sysctls. As a
normal user a user namespace is made too, with only the own user mapped.
Way "landlock": an allow list of readable paths, only the job folder writable, no TCP, no signals
out (`landlock.py`); as root the unique user is taken too.
Way "container", by request only, as root in a container that holds no key, has no network and ends
with the request (harness/evaluate/modal): the unique user without either of the above, so that the
container keeps the outside out, and the user the judge. Files that everybody may read can be read.
All: a seccomp filter (`seccomp.py`), rlimits, no capabilities, no new privileges, no descriptor
but those given, a scrubbed environment. Way "none" keeps the filter, where there is one, and the
limits.

Covered: other processes' environments and memory, files outside, networks, sockets, signals, escape
from the kill group, fork bombs, memory and file sizes per process, CPU seconds per process.
Not covered: memory over all processes of a sandbox together (at most pids x memory_bytes), the
number of files that a build writes, side channels of shared hardware, defects of the kernel. In way
"landlock" the names (not the contents) of processes and files outside can still be seen by stat.
As root in way "landlock" a Python in a folder that only root may enter cannot be read after the
change of user: modules that the warm parent has not imported are missing there.

The steps into a sandbox are `confinement.py`; which process takes them is `supervisor.py`.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import InfraError
from harness.evaluate import landlock
from harness.types import JsonObject

Way = Literal["namespaces", "landlock", "container", "none"]


@dataclass(frozen=True)
class Limits:
    """pids: processes and threads at once, the first included (bounds OpenMP's threads too).
    memory_bytes: address space of each process (of a worker: beyond what its warm parent had
    mapped; with a GPU, whose driver reserves far more than it uses: writable private memory).
    file_bytes: size of any one file, and of the private /tmp. cpu_seconds, open_files: per process.
    """

    pids: int = 64
    memory_bytes: int = 8 << 30
    file_bytes: int = 256 << 20
    cpu_seconds: int = 600
    open_files: int = 256


@dataclass(frozen=True)
class Isolation:
    """How this machine can confine a process. way: the one in force. details: what a reader of the
    report should know. landlock_abi: 0 where there is none. can_hide_keys: whether a confined
    process, of the same user and as root, cannot read the harness's environment, memory or files.
    """

    way: Way
    details: tuple[str, ...]
    landlock_abi: int
    can_hide_keys: bool


@dataclass(frozen=True)
class Sandbox:
    """One sandbox to enter. readable: real paths beside the system's folders. hidden: real paths
    that stay unreadable although they lie below a readable one. python: Python's own folders are
    readable. attacks_kill: system calls that no kernel needs end the process (SIGSYS). gpu: the
    NVIDIA device nodes are there."""

    way: Way
    job_folder: str
    job_writable: bool
    limits: Limits
    readable: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    python: bool = False
    attacks_kill: bool = False
    gpu: bool = False

    def all_readable(self) -> tuple[str, ...]:
        """`readable`, with Python's folders where asked for."""
        prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix} if self.python else set()
        return tuple(sorted({os.path.realpath(p) for p in (*self.readable, *prefixes)}))


def isolation_to_json(isolation: Isolation) -> JsonObject:
    """Raw JSON of an isolation."""
    return dataclasses.asdict(isolation) | {"details": list(isolation.details)}


def isolation_from_json(data: JsonObject) -> Isolation:
    """The inverse of `isolation_to_json`. Raises KeyError on anything else."""
    return Isolation(
        data["way"], tuple(data["details"]), data["landlock_abi"], data["can_hide_keys"]
    )


@functools.cache
def probe(force: Way | None = None) -> Isolation:
    """The best way that works on this machine (or `force`, if that works), tried on a command.

    It counts as working only if the command could not read this process' environment. Takes about
    0.2 s once. Raises InfraError if not even a process can be started.
    """
    abi = landlock.abi()
    details: list[str] = []
    for way in ("namespaces", "landlock", "none") if force is None else (force, "none"):
        isolation = Isolation(way, tuple(details), abi, way != "none")
        if way == "none":
            return isolation
        problem = _try(isolation)
        if problem is None:
            return isolation
        details.append(f"{way}: {problem}")
    raise AssertionError("the last way is always returned")


def _try(isolation: Isolation) -> str | None:
    """What is wrong with a way, or None."""
    from harness.evaluate.launcher import WarmParent  # it imports this module's records

    secret = f"/proc/{os.getpid()}/environ"
    with tempfile.TemporaryDirectory(prefix="harness-probe-") as folder:
        try:
            with WarmParent("none", isolation) as parent:
                result = parent.run_command(
                    ["/bin/sh", "-c", f"echo probe > written && ! cat {secret}"],
                    job_folder=Path(folder),
                    limits=Limits(),
                    environment={"PATH": "/usr/bin:/bin"},
                    timeout_seconds=20.0,
                )
        except InfraError as error:
            return str(error)
        if result.returncode != 0 or not (Path(folder) / "written").exists():
            return f"a command in it ended with {result.returncode}: {result.stderr[-200:]}"
    return None

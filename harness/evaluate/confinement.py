"""The steps into a sandbox, each in the process that takes it (see `supervisor.py`).

Covered: users, the job folder's permissions, namespaces, the order in which privileges go, limits.
Not covered: what the ways mean and what they leave open (`sandbox.py`).

Nothing here may be called in the harness itself: the forked children of `parent.py` call it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import stat
from collections.abc import Iterator

from harness.evaluate import landlock, linux, minimal_root, seccomp
from harness.evaluate.sandbox import Sandbox

# systemd's allocation leaves 1879048192 to 2147483646 unused; below 2^16 (containers that map no
# more) 60578 to 61183.
_USERS = (1879048192, 4194304)  # first, how many: one for every possible process id
_FEW_USERS = (60578, 600)


def can_change_user() -> bool:
    """Whether this process is root with a user to spare (a container may map root alone)."""
    return os.geteuid() == 0 and _spare_user(1) is not None


def _spare_user(pid: int) -> int | None:
    with open("/proc/self/uid_map", encoding="ascii") as lines:
        ranges = [(int(first), int(count)) for first, _, count in map(str.split, lines)]
    for start, count in (_USERS, _FEW_USERS):
        user = start + pid % count
        if any(first <= user < first + many for first, many in ranges):
            return user
    return None


class Confinement:
    """The steps into one sandbox, in order, each in the process that its name says.

    1. `prepare` (supervisor): the user, the job folder's permissions, the namespaces.
    2. `enter_root` (first process inside): root, user, capabilities.
    3. `seal` (the process that runs the untrusted code): limits, Landlock, filter.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.user: int | None = None
        self._base_processes = 0

    @property
    def has_init(self) -> bool:
        """Whether a process of ours is process 1 of the sandbox."""
        return self.sandbox.way == "namespaces"

    def prepare(self) -> None:
        """Take the namespaces (for children). Raises OSError."""
        sandbox = self.sandbox
        if can_change_user() and sandbox.way != "none":
            self.user = _spare_user(os.getpid())
            self._open_job_folder()
        elif not (self.has_init and _limits_count_per_namespace()):
            self._base_processes = _processes_of(os.geteuid())
        if not self.has_init:
            return
        flags = linux.CLONE_NEWPID | linux.CLONE_NEWNS | linux.CLONE_NEWNET
        flags |= linux.CLONE_NEWIPC | linux.CLONE_NEWUTS
        if self.user is not None:
            linux.unshare(flags)
            return
        user, group = os.geteuid(), os.getegid()
        linux.set_dumpable(True)  # an undumpable process may not write its own uid_map
        linux.unshare(linux.CLONE_NEWUSER | flags)
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
        linux.set_dumpable(False)

    def _open_job_folder(self) -> None:
        folder = self.sandbox.job_folder
        assert self.user is not None
        paths = [folder]
        for parent, folders, files in os.walk(folder):
            paths += [os.path.join(parent, name) for name in (*folders, *files)]
        for path in paths:
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                continue
            if self.sandbox.job_writable:
                os.chown(path, self.user, self.user)
            elif path == folder:  # for this sandbox alone, where others see the folder
                os.chown(path, -1, self.user)
                os.chmod(path, 0o750)
            else:  # not owned: an owner could change modes
                os.chmod(path, stat.S_IMODE(mode) | (0o005 if stat.S_ISDIR(mode) else 0o004))

    def enter_root(self) -> None:
        """Give up the outside and every privilege, for good. Raises OSError."""
        sandbox = self.sandbox
        if self.has_init:
            minimal_root.enter(
                job_folder=sandbox.job_folder,
                job_writable=sandbox.job_writable,
                readable=sandbox.all_readable(),
                hidden=sandbox.hidden,
                temporary_bytes=sandbox.limits.file_bytes,
                devices=sandbox_devices(sandbox),
            )
        else:
            os.chdir(sandbox.job_folder)
        if sandbox.way == "landlock":
            linux.forbid_new_privileges()
            landlock.restrict(self._rules())  # as root still: it must see the folders it allows
        if sandbox.way != "none":
            linux.drop_bounding_capabilities()
            if self.user is not None:
                linux.become_user(self.user)
            linux.drop_capabilities()
        linux.forbid_new_privileges()
        linux.set_dumpable(False)

    def _rules(self) -> Iterator[tuple[str, int]]:
        sandbox = self.sandbox
        system = (*minimal_root.SYSTEM_FOLDERS, *minimal_root.SYSTEM_FILES)
        for path in sorted({os.path.realpath(p) for p in system} | set(sandbox.all_readable())):
            yield from landlock.without(path, sandbox.hidden)
        for path in sandbox_devices(sandbox):
            yield path, landlock.WRITE
        rights = landlock.WRITE if sandbox.job_writable else landlock.READ
        yield os.path.realpath(sandbox.job_folder), rights

    def seal(self, mapped_bytes: int) -> None:
        """The limits and the filter. mapped_bytes: address space that does not count. Raises
        OSError."""
        limits = self.sandbox.limits
        pids = limits.pids + self._base_processes + (1 if self.has_init else 0)
        cpu = limits.cpu_seconds
        memory = (resource.RLIMIT_AS, mapped_bytes + limits.memory_bytes, None)
        if self.sandbox.gpu:
            memory = (resource.RLIMIT_DATA, mapped_bytes + limits.memory_bytes, None)
        for kind, soft, hard in (
            (resource.RLIMIT_CORE, 0, 0),
            (resource.RLIMIT_NPROC, pids, pids),
            memory,
            (resource.RLIMIT_FSIZE, limits.file_bytes, None),
            (resource.RLIMIT_NOFILE, limits.open_files, None),
            (resource.RLIMIT_CPU, cpu, cpu + 1),
        ):
            _limit(kind, soft, soft if hard is None else hard)
        confined = self.has_init or self.user is not None
        with contextlib.suppress(OSError, KeyError) if self.sandbox.way == "none" else _nothing():
            seccomp.install(
                shared_processes=not self.has_init,
                signals_confined=confined or landlock.confines_signals(landlock.abi()),
                own_pid=os.getpid(),
                own_user=self.user is not None,
                attacks_kill=self.sandbox.attacks_kill,
            )


def sandbox_devices(sandbox: Sandbox) -> tuple[str, ...]:
    """The device nodes that exist in a sandbox."""
    return minimal_root.DEVICES + (minimal_root.gpu_devices() if sandbox.gpu else ())


@contextlib.contextmanager
def _nothing() -> Iterator[None]:
    yield


def _limit(kind: int, soft: int, hard: int) -> None:
    ceiling = resource.getrlimit(kind)[1]
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(kind, (soft, hard))


def _limits_count_per_namespace() -> bool:
    """From Linux 5.14 on RLIMIT_NPROC counts within the user namespace."""
    major, minor = (int(p) for p in platform.release().split("-")[0].split(".")[:2])
    return (major, minor) >= (5, 14)


def _processes_of(user: int) -> int:
    """Threads of all processes of a user now: where RLIMIT_NPROC counts them all, they come on
    top."""
    total = 0
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{name}/status", encoding="utf-8") as file:
            fields = dict(line.split(":", 1) for line in file)
            if int(fields["Uid"].split()[0]) == user:
                total += int(fields["Threads"])
    return total

"""Thin bindings to the Linux calls that Python 3.11 lacks; each raises OSError when the kernel says
no.

Covered: mount family, namespaces, process attributes (prctl), capabilities, closing descriptors,
the number of this process' threads. Covered machines: x86-64 and aarch64.
Not covered: policy. Who calls what, and in which order, is `sandbox.py` and `supervisor.py`.

Standard library and ctypes only. Sources: the kernel's uapi headers and man pages (2).
"""

from __future__ import annotations

import ctypes
import os
import signal

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 1, 2, 4, 8

_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_SYS_MOUNT_SETATTR = 442
_SYS_CLOSE_RANGE = 436

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def system_call(
    number: int, what: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char]
) -> int:
    """A raw system call. `what` names it in the OSError."""
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(int(_libc.syscall(ctypes.c_long(number), *words)), what)


def machine() -> str:
    """The machine's architecture, e.g. "x86_64"."""
    return os.uname().machine


def unshare(flags: int) -> None:
    """Leave the namespaces named by CLONE_NEW* flags."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """mount(2)."""
    result = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode() if options else None,
    )
    _checked(result, f"mount {kind or 'bind'} on {target}")


def set_mount_attributes(target: str, attributes: int, *, recursive: bool) -> None:
    """Add MOUNT_ATTR_* to a mount (and to those below it); Linux 5.12 or newer."""
    record = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    system_call(
        _SYS_MOUNT_SETATTR,
        f"mount_setattr {target}",
        _AT_FDCWD,
        target.encode(),
        _AT_RECURSIVE if recursive else 0,
        bytes(record),
        ctypes.sizeof(record),
    )


def pivot_root_here() -> None:
    """Make the current folder (a mount point) the root, and drop the old root."""
    system_call(_SYS_PIVOT_ROOT[machine()], "pivot_root", b".", b".")
    _checked(_libc.umount2(b".", ctypes.c_int(MNT_DETACH)), "umount2")
    os.chdir("/")


def _prctl(option: int, what: str, *arguments: int) -> int:
    padded = [ctypes.c_ulong(a) for a in (*arguments, 0, 0, 0, 0)[:4]]
    return _checked(_libc.prctl(ctypes.c_int(option), *padded), what)


def die_with_parent(signal_number: int = signal.SIGKILL) -> None:
    """Get `signal_number` when the *thread* that created this process ends. A change of user clears
    it."""
    _prctl(_PR_SET_PDEATHSIG, "PR_SET_PDEATHSIG", signal_number)


def set_dumpable(dumpable: bool) -> None:
    """Whether processes of the same user may read this one's memory and environment."""
    _prctl(_PR_SET_DUMPABLE, "PR_SET_DUMPABLE", int(dumpable))


def become_subreaper() -> None:
    """Orphans below this process become its children."""
    _prctl(_PR_SET_CHILD_SUBREAPER, "PR_SET_CHILD_SUBREAPER", 1)


def forbid_new_privileges() -> None:
    """Set-user-id programs lose their effect, for good; seccomp and Landlock require it."""
    _prctl(_PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS", 1)


def set_system_call_filter(record: bytes) -> None:
    """Install a seccomp filter. record: a struct sock_fprog."""
    buffer = ctypes.create_string_buffer(record, len(record))
    address = ctypes.addressof(buffer)
    _prctl(_PR_SET_SECCOMP, "PR_SET_SECCOMP", _SECCOMP_MODE_FILTER, address)


def become_user(user: int) -> None:
    """As root: become `user` with the group of the same number and no other group, for good."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def drop_bounding_capabilities() -> None:
    """Empty the bounding set: no program that is started from here can gain a capability."""
    for capability in range(64):
        try:
            _prctl(_PR_CAPBSET_DROP, "PR_CAPBSET_DROP", capability)
        except OSError:
            return  # the first number beyond the kernel's last one, or no right to drop


def drop_capabilities() -> None:
    """Give up every capability of this process, ambient ones too."""
    _prctl(_PR_CAP_AMBIENT, "PR_CAP_AMBIENT", _PR_CAP_AMBIENT_CLEAR_ALL)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _checked(_libc.capset(header, nothing), "capset")


def close_from(first: int) -> None:
    """Close every descriptor from `first` on."""
    try:
        system_call(_SYS_CLOSE_RANGE, "close_range", first, 0xFFFFFFFF, 0)
    except OSError:
        os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def thread_count() -> int:
    """Threads of this process, by /proc."""
    return len(os.listdir("/proc/self/task"))

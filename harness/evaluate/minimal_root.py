"""The file system of the sandbox's first way: a tmpfs with little in it, made the root.

Covered: read-only system folders (links stay links), the readable paths asked for, null, zero and
urandom, an own /proc with /proc/sys read-only, a bounded /tmp, the job folder at /job. Hidden paths
that lie below a readable one are covered by an empty folder. Nothing else exists: no home, no
project, no /sys, no sockets.
GPU nodes on request; the driver finds its device through them and /proc.
Not covered: kernels before Linux 5.12, which cannot make a tree of mounts
read-only in one call.

Runs inside fresh mount and PID namespaces, before privileges are dropped.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Sequence

from harness.evaluate import linux

SYSTEM_FOLDERS = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin")
# The dynamic linker's cache, and the links behind names such as c++.
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
JOB = "/job"

_BUILD_AT = "/tmp"  # exists everywhere; what it held is reached through descriptors opened before
_READ_ONLY = linux.MOUNT_ATTR_RDONLY | linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV


def enter(
    *,
    job_folder: str,
    job_writable: bool,
    readable: Sequence[str],
    hidden: Sequence[str],
    temporary_bytes: int,
    devices: Sequence[str] = DEVICES,
) -> None:
    """Build the root and make it this process' root and current folder /job. Raises OSError.

    readable, hidden: absolute real paths. devices: nodes of /dev.
    """
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    wanted = [p for p in (*SYSTEM_FOLDERS, *SYSTEM_FILES) if os.path.lexists(p)]
    links = {p: os.readlink(p) for p in wanted if os.path.islink(p)}
    folders = [p for p in wanted if p not in links]
    for path in sorted(readable):
        if os.path.exists(path) and not any(_within(path, f) for f in folders):
            folders.append(path)
    sources = {p: os.open(p, os.O_PATH | os.O_CLOEXEC) for p in (*folders, *devices)}
    job = os.open(job_folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    covered = [h for h in hidden if os.path.isdir(h) and any(_within(h, f) for f in folders)]
    shown_again = {
        p: os.open(p, os.O_PATH | os.O_CLOEXEC)
        for p in sorted(readable)
        if any(_within(p, h) and p != h for h in covered)
    }

    tmpfs = linux.MS_NOSUID | linux.MS_NODEV
    linux.mount("tmpfs", _BUILD_AT, "tmpfs", tmpfs, "size=1m,mode=755")
    # Before the folders are bound: a Python may live below /tmp, as in a clone that is tried there.
    os.makedirs(_BUILD_AT + "/tmp", mode=0o755)
    options = f"size={temporary_bytes},mode=1777"
    linux.mount("tmpfs", _BUILD_AT + "/tmp", "tmpfs", tmpfs, options)
    for path, descriptor in sources.items():
        _bind(descriptor, _BUILD_AT + path, device=path in devices)
    for path in covered:
        linux.mount("tmpfs", _BUILD_AT + path, "tmpfs", tmpfs, "size=1m,mode=755")
        for inner, descriptor in shown_again.items():
            if _within(inner, path):
                _bind(descriptor, _BUILD_AT + inner, device=False)
        linux.set_mount_attributes(_BUILD_AT + path, _READ_ONLY, recursive=False)
    for path, target in links.items():
        os.symlink(target, _BUILD_AT + path)
    for name in ("/proc", JOB):
        os.makedirs(_BUILD_AT + name, mode=0o755, exist_ok=True)
    linux.mount(f"/proc/self/fd/{job}", _BUILD_AT + JOB, None, linux.MS_BIND)
    linux.set_mount_attributes(
        _BUILD_AT + JOB,
        linux.MOUNT_ATTR_NOSUID
        | linux.MOUNT_ATTR_NODEV
        | (0 if job_writable else linux.MOUNT_ATTR_RDONLY),
        recursive=True,
    )
    _mount_proc(_BUILD_AT + "/proc")
    for descriptor in (job, *sources.values(), *shown_again.values()):
        os.close(descriptor)
    os.chdir(_BUILD_AT)
    linux.pivot_root_here()
    linux.set_mount_attributes("/", linux.MOUNT_ATTR_RDONLY, recursive=False)
    os.chdir(JOB)


def gpu_devices() -> tuple[str, ...]:
    """The nodes that NVIDIA's driver needs, where there are any."""
    found = sorted(glob.glob("/dev/nvidia*"))
    return tuple(path for path in found if stat.S_ISCHR(os.stat(path).st_mode))


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _bind(descriptor: int, target: str, *, device: bool) -> None:
    source = f"/proc/self/fd/{descriptor}"
    if os.path.isdir(source):
        os.makedirs(target, mode=0o755, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    linux.mount(source, target, None, linux.MS_BIND | linux.MS_REC)
    if device:
        attributes = linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NOEXEC
    else:
        attributes = _READ_ONLY
    linux.set_mount_attributes(target, attributes, recursive=True)


def _mount_proc(target: str) -> None:
    flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    try:
        linux.mount("proc", target, "proc", flags)
    except PermissionError:
        return  # a container that masks parts of /proc forbids it; CPU workers do without
    sys_folder = target + "/sys"
    linux.mount(sys_folder, sys_folder, None, linux.MS_BIND | linux.MS_REC)
    linux.set_mount_attributes(sys_folder, linux.MOUNT_ATTR_RDONLY, recursive=True)

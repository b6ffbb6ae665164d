"""Landlock: what a process may read and write, by an allow list; the sandbox's second way.

Covered: reading, executing and writing files and folders, truncation, device ioctls (ABI 5), TCP
(ABI 4), and, from ABI 6, signals and abstract Unix sockets to anything outside the domain.
Not covered by Landlock itself: modes, owners and times of files, path-based Unix sockets, other
processes' limits (`seccomp.py` denies those); ABI 1 and 2 are not used, since a file could still be
truncated there.

Source: Documentation/userspace-api/landlock.rst and uapi/linux/landlock.h.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable, Iterator

from harness.evaluate import linux

MINIMUM_ABI = 3  # Linux 6.2: truncation is governed

_SYS_CREATE_RULESET, _SYS_ADD_RULE, _SYS_RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_MAKE_FIFO, _MAKE_SYM, _REFER, _TRUNCATE, _IOCTL_DEV = 1 << 10, 1 << 12, 1 << 13, 1 << 14, 1 << 15
_ALL_OF_ABI_3 = (1 << 15) - 1

READ = _EXECUTE | _READ_FILE | _READ_DIR
WRITE = (
    READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_FIFO | _MAKE_SYM
    | _REFER | _TRUNCATE
)  # fmt: skip
_ON_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
LIST_ONLY = _READ_DIR

_BOTH_TCP = 3
_ABSTRACT_SOCKETS_AND_SIGNALS = 3


def abi() -> int:
    """The kernel's Landlock ABI, 0 where there is none."""
    try:
        return linux.system_call(_SYS_CREATE_RULESET, "landlock", 0, 0, _VERSION_FLAG)
    except OSError:
        return 0


def confines_signals(version: int) -> bool:
    """Whether a domain of this ABI cannot signal processes outside it."""
    return version >= 6


def without(path: str, hidden: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Rules (path, rights) that make `path` readable except for the hidden paths below it.

    Landlock's rules only add, so a folder above a hidden path is listed and its other entries are
    allowed one by one.
    """
    below = [h for h in hidden if h == path or h.startswith(path.rstrip("/") + "/")]
    if path in below:
        return
    if not below:
        yield path, READ
        return
    yield path, LIST_ONLY
    for entry in sorted(os.listdir(path)):
        yield from without(os.path.join(path, entry), below)


def restrict(rules: Iterable[tuple[str, int]]) -> None:
    """Confine this process and everything it starts to `rules`, for good. Paths that do not exist
    are skipped, and a link is never followed: give real paths.

    Needs no_new_privs. Raises OSError where the kernel's ABI is below MINIMUM_ABI.
    """
    version = abi()
    if version < MINIMUM_ABI:
        raise OSError(f"Landlock ABI {version} is below {MINIMUM_ABI} (Linux 6.2)")
    handled = _ALL_OF_ABI_3 | (_IOCTL_DEV if version >= 5 else 0)
    attributes = struct.pack("<Q", handled)
    if version >= 4:
        attributes += struct.pack("<Q", _BOTH_TCP)
    if confines_signals(version):
        attributes += struct.pack("<Q", _ABSTRACT_SOCKETS_AND_SIGNALS)
    ruleset = linux.system_call(
        _SYS_CREATE_RULESET, "landlock_create_ruleset", attributes, len(attributes), 0
    )
    try:
        for path, rights in rules:
            _allow(ruleset, path, rights & handled)
        linux.system_call(_SYS_RESTRICT_SELF, "landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _ON_A_FILE
        if rights:
            rule = struct.pack("<Qi", rights, descriptor)
            linux.system_call(
                _SYS_ADD_RULE, f"landlock rule {path}", ruleset, _RULE_PATH_BENEATH, rule, 0
            )
    finally:
        os.close(descriptor)

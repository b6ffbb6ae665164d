"""The system calls that untrusted code may not make: a seccomp filter with its own small assembler.

A deny list, since compilers and torch run under it; denied calls fail with EPERM. Calls newer than
the newest one considered here fail with ENOSYS, as on an older kernel; so does clone3, whose flags
a filter cannot read, and the C library then uses clone. Calls by another architecture's numbers
(32-bit on a 64-bit kernel, x32) kill the process; so do, on request, calls that are attacks.

Covered: sockets of any family, tracing and other processes' memory, leaving the process group, new
namespaces and mounts, keys, bpf, performance counters, io_uring, userfaultfd, kernel modules,
clocks, memory that no limit counts (memfd, System V and POSIX queues), signals sent through fcntl
and ioctl owners. With `shared_processes` (no PID namespace: other processes can be named) also
limits, priorities and affinity of others, path-based changes of modes, owners and times, which
Landlock does not govern, and, unless Landlock confines signals, every signal but one that a process
sends itself.
Not covered: reading and writing files, bounding resources (namespaces or Landlock, and rlimits).
"""

from __future__ import annotations

import ctypes
import errno
import struct

from harness.evaluate import linux

# name -> number on (x86_64, aarch64); None where the architecture has no such call.
_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "bind": (49, 200),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "clone": (56, 220),
    "fork": (57, None),
    "vfork": (58, None),
    "clone3": (435, 435),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "userfaultfd": (323, 282),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "lookup_dcookie": (212, 18),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "process_mrelease": (448, 448),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "setpriority": (141, 140),
    "timer_create": (222, 107),
    "ioprio_set": (251, 30),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122),
    "prlimit64": (302, 261),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "chmod": (90, None),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "truncate": (76, 45),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "personality": (135, 92),
}
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column, AUDIT_ARCH_*
_NEWEST_CALL = 462  # mseal, Linux 6.10: the last call that was considered
_X32_BIT = 0x40000000

_SHARED_ONLY = (
    "chmod", "fchmodat", "fchmodat2", "chown", "lchown", "fchownat", "utime", "utimes",
    "futimesat", "utimensat", "setxattr", "lsetxattr", "removexattr", "lremovexattr",
    "truncate", "setpriority", "ioprio_set",
    "sched_setscheduler", "sched_setparam", "sched_setattr", "migrate_pages", "move_pages",
)  # fmt: skip
# No honest kernel makes these: where attacks are fatal, they end the process with SIGSYS, which
# leaves evidence, while a call that only fails lets an attack pass unseen.
_ATTACKS = (
    "socket", "connect", "bind", "ptrace", "process_vm_readv", "process_vm_writev", "setsid",
    "setpgid", "unshare", "setns", "mount", "umount2", "pivot_root", "chroot", "add_key",
    "request_key", "keyctl", "bpf", "perf_event_open", "io_uring_setup", "userfaultfd",
    "kexec_load", "kexec_file_load", "reboot", "init_module", "finit_module", "delete_module",
    "settimeofday", "clock_settime", "sethostname", "pidfd_getfd", "pidfd_send_signal", "kcmp",
    "open_by_handle_at", "fanotify_init", "swapon", "acct", "iopl", "ioperm",
    "sched_setscheduler", "sched_setattr", "sched_setparam", "setpriority", "timer_create",
    "rt_sigqueueinfo", "rt_tgsigqueueinfo",
)  # fmt: skip
_SIGNAL_ARGUMENT = {"kill": 1, "tkill": 1, "tgkill": 2}  # which argument is the signal
_SIGCONT = 18  # would undo the judge's stop
_FORKS = ("fork", "vfork")  # and clone without CLONE_THREAD
_THREAD = 0x00010000  # CLONE_THREAD
_SIGNALS = ("kill", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
_BY_ARGUMENT = (
    "clone", "clone3", "fcntl", "ioctl", "prlimit64", "sched_setaffinity", "tgkill",
)  # fmt: skip

_NEW_NAMESPACES = (
    0x7E020000  # CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET
)
_OWNER_COMMANDS = (8, 15)  # F_SETOWN, F_SETOWN_EX: with F_SETSIG they deliver any signal anywhere
_OWNER_REQUESTS = (0x8901, 0x8902, 0x5412)  # FIOSETOWN, SIOCSPGRP, TIOCSTI

_LOAD, _EQUAL, _GREATER, _GREATER_EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x25, 0x35, 0x45, 0x06
_NR_OFFSET, _ARCHITECTURE_OFFSET, _ARGUMENTS_OFFSET = 0, 4, 16
_ALLOW, _KILL = 0x7FFF0000, 0x80000000


def _errno(number: int) -> int:
    return 0x00050000 | number


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, operand)


def _load_argument(index: int) -> bytes:
    # The low half: every argument tested here is a 32-bit int, or has its flags there.
    return _instruction(_LOAD, _ARGUMENTS_OFFSET + 8 * index)


def _when(number: int, body: list[bytes]) -> list[bytes]:
    """`body` for this call; it must end in a return."""
    return [_instruction(_EQUAL, number, 0, len(body)), *body]


def assemble(
    machine: str,
    *,
    shared_processes: bool,
    signals_confined: bool,
    own_pid: int,
    own_user: bool = False,
    attacks_kill: bool = False,
) -> bytes:
    """The filter's program for `machine` ("x86_64" or "aarch64"; KeyError otherwise).

    own_pid: the process that may signal itself where signals are not confined otherwise. own_user:
    no process outside has this user, so that the kernel protects their affinity, and OpenMP may
    bind its threads.
    attacks_kill: calls that no kernel needs, and new processes, end the process with SIGSYS.
    """
    column, architecture = _ARCHITECTURES[machine]
    deny, allow = _instruction(_RETURN, _errno(errno.EPERM)), _instruction(_RETURN, _ALLOW)
    absent = _instruction(_RETURN, _errno(errno.ENOSYS))
    kill = _instruction(_RETURN, _KILL)
    attack = kill if attacks_kill else deny
    program = [
        _instruction(_LOAD, _ARCHITECTURE_OFFSET),
        _instruction(_EQUAL, architecture, 1, 0),
        kill,
        _instruction(_LOAD, _NR_OFFSET),
        _instruction(_GREATER_EQUAL, _X32_BIT, 0, 1),
        kill,
        _instruction(_GREATER, _NEWEST_CALL, 0, 1),
        absent,
    ]
    bodies: dict[str, list[bytes]] = {
        "clone": [_load_argument(0), _instruction(_ANY_BIT, _NEW_NAMESPACES, 0, 1), attack]
        + ([_instruction(_ANY_BIT, _THREAD, 1, 0), kill, allow] if attacks_kill else [allow]),
        "clone3": [absent],
    }
    for name, argument, values in (
        ("fcntl", 1, _OWNER_COMMANDS),
        ("ioctl", 1, _OWNER_REQUESTS),
    ):
        tests = [part for v in values for part in (_instruction(_EQUAL, v, 0, 1), deny)]
        bodies[name] = [_load_argument(argument), *tests, allow]
    denied_signals = _SIGNALS if shared_processes and not signals_confined else ()
    own: dict[str, int] = {}
    if shared_processes:
        own["prlimit64"] = 0  # the caller itself
        if not own_user:
            own["sched_setaffinity"] = 0
        if not signals_confined:
            own["tgkill"] = own_pid
    for name, value in own.items():
        bodies[name] = [_load_argument(0), _instruction(_EQUAL, value, 1, 0), deny, allow]
    if attacks_kill:
        for name, argument in _SIGNAL_ARGUMENT.items():
            rest = bodies.get(name, [deny if name in denied_signals else allow])
            test = [_load_argument(argument), _instruction(_EQUAL, _SIGCONT, 0, 1), kill]
            bodies[name] = [*test, *rest]
    for name in _NUMBERS:
        if name in bodies or name in _BY_ARGUMENT:
            continue
        attack_here = attacks_kill and name in _ATTACKS
        if name in _SHARED_ONLY and not shared_processes and not attack_here:
            continue
        if name in _SIGNALS and name not in denied_signals and not attack_here:
            continue
        if name in (*_FORKS, "timer_create") and not attacks_kill:
            continue
        bodies[name] = [kill if attack_here or name in _FORKS else deny]
    for name, body in bodies.items():
        number = _NUMBERS[name][column]
        if number is not None:
            program += _when(number, body)
    return b"".join([*program, allow])


def install(
    *,
    shared_processes: bool,
    signals_confined: bool,
    own_pid: int,
    own_user: bool = False,
    attacks_kill: bool = False,
) -> None:
    """Put this process and everything it starts under the filter, for good.

    Needs no_new_privs. Raises OSError where the kernel has no seccomp filters, KeyError on an
    architecture that is not covered.
    """
    program = assemble(
        linux.machine(),
        shared_processes=shared_processes,
        signals_confined=signals_confined,
        own_pid=own_pid,
        own_user=own_user,
        attacks_kill=attacks_kill,
    )
    code = ctypes.create_string_buffer(program, len(program))
    record = struct.pack("@HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    linux.set_system_call_filter(record)

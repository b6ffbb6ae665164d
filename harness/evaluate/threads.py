"""Where the threads of both sides run: one OpenMP thread per core, each bound to its core.

Unbound, a scheduler may start both threads of a team on one core and leave them there: on a virtual
machine with two cores, 60 % of fresh processes ran a threaded kernel at half its speed. Waiting
threads sleep instead of spinning: with spinning, two equal programs differed by 20 %. Places are
listed by number because a sandbox has no /sys, from which libgomp would find them.

Covered: OpenMP (of torch too, which reads this once, when its warm parent imports it).
Not covered: other threads. They start on the first core, since they inherit the first thread's
binding; a program may bind them itself.
"""

from __future__ import annotations

import os


def openmp_environment(threads: int) -> dict[str, str]:
    """The OpenMP variables of a process that may use `threads` of this process's cores."""
    places = sorted(os.sched_getaffinity(0))[:threads]
    return {
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
        "OMP_DYNAMIC": "false",
        "OMP_PROC_BIND": "true",
        "OMP_PLACES": ",".join(f"{{{core}}}" for core in places),
    }


def worker_environment(threads: int) -> dict[str, str]:
    """The whole environment of a worker. Both sides get the same."""
    return {"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", **openmp_environment(threads)}

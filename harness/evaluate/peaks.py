"""The device's measured peaks, and the roofline floor that follows from them.

floor = max(flops / peak flops, bytes / peak bandwidth) (Williams, Waterman and Patterson,
"Roofline", CACM 2009), with the work that the inputs require at the least. A peak must never be too
low, or an honest kernel is rejected. So it is one core's best of many short windows, times the
cores: other programs do not lower it, and the clock of a core alone is at least that of all
together. The bandwidth is that of a core's own cache, since inputs were written just before the
call.

Covered: float32 multiply-add peak and cache read bandwidth, by `peaks.cpp`.
Not covered: other precisions; latency (a floor is a bound, not a prediction).
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness.errors import EnvironmentMissing
from harness.evaluate import machine
from harness.evaluate.build import FLAGS, compiler
from harness.evaluate.launcher import Limits, WarmParent
from harness.evaluate.threads import worker_environment
from harness.suite import Work

_SOURCE = Path(__file__).with_name("peaks.cpp")


@dataclass(frozen=True)
class Peaks:
    """Floating-point operations per second and bytes per second of the whole device."""

    flops_per_second: float
    bytes_per_second: float


def floor_us(work: Work, peaks: Peaks) -> float:
    """The roofline floor of some work on a device with these peaks, in microseconds."""
    return 1e6 * max(work.flops / peaks.flops_per_second, work.bytes / peaks.bytes_per_second)


def measure_peaks(builder: WarmParent, threads: int) -> Peaks:
    """Build and run the two loops (half a second, alone on the machine).

    Raises EnvironmentMissing if the compiler is missing or what it built does not run.
    """
    folder = Path(tempfile.mkdtemp(prefix="harness-peaks-"))
    limits = Limits(
        pids=64, memory_bytes=4 << 30, file_bytes=64 << 20, cpu_seconds=60, open_files=64
    )
    try:
        shutil.copy(_SOURCE, folder / "peaks.cpp")
        flags = [flag for flag in FLAGS if flag not in ("-shared", "-fPIC")]
        built = builder.run_command(
            [compiler(), *flags, "-o", "peaks", "peaks.cpp"],
            job_folder=folder,
            limits=limits,
            environment=worker_environment(threads),
            timeout_seconds=60,
        )
        if built.returncode != 0:
            raise EnvironmentMissing(
                f"The compiler cannot build the peak measurement: {built.stderr[:500]!r}. "
                "Install g++ 11 or later (Debian: apt-get install g++), and see that there is "
                f"free space in {tempfile.gettempdir()}."
            )
        (folder / "peaks").chmod(0o755)  # a linker in the sandbox may not be allowed to
        with machine.quiet():
            ran = builder.run_command(
                ["./peaks"],
                job_folder=folder,
                limits=limits,
                environment=worker_environment(threads),
                timeout_seconds=60,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    try:
        flops, bandwidth = (float(word) for word in ran.stdout.split())
    except ValueError as error:
        raise EnvironmentMissing(
            f"The peak measurement did not run: exit status {ran.returncode}, {ran.stderr[:300]!r}."
        ) from error
    return Peaks(flops * threads, bandwidth * threads)

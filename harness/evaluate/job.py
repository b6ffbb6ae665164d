"""A worker's job: its folder and its process; and jobs that are started before their program is
known.

On a GPU a worker makes its context on the device, which takes 0.3 s, in trusted code and before any
program is there. So the next one's is started while the one before it is verified, and a group of
finalists' side by side.

Covered: folders that come and go with their worker; a job that could not be started ahead is
started when it is wanted. Not covered: what is said to the worker (side.py).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError, InfraError
from harness.evaluate.launcher import Limits, WarmParent, WorkerProcess
from harness.evaluate.program import (
    CODE_FILE,
    KERNEL_CACHE,
    MAX_KERNEL_BYTES,
    Program,
    Role,
    gpu_environment,
    unpack,
)
from harness.evaluate.settings import EvaluatorSettings
from harness.evaluate.threads import openmp_environment
from harness.evaluate.worker import NATIVE

_CPU_SECONDS = 600
_BASELINE_CPU_SECONDS = 30 * 86400  # one worker serves a judge for as long as that lives
_READABLE_FOLDER, _READABLE_FILE = 0o755, 0o644


@dataclass(frozen=True)
class Job:
    """A running worker and its folder."""

    folder: Path
    worker: WorkerProcess

    def put(self, program: Program) -> None:
        """Give a job that was started ahead its program."""
        _write(self.folder, program)
        for path in self.folder.rglob("*"):  # the worker's user is another
            path.chmod(_READABLE_FOLDER if path.is_dir() else _READABLE_FILE)

    def alive(self) -> bool:
        """Whether the worker still runs."""
        try:
            return self.worker.exit_status() is None
        except InfraError:
            return False

    def close(self) -> None:
        self.worker.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class JobKind:
    """What a worker is started with, whatever its program. python: the program is a Python file."""

    parent: WarmParent
    settings: EvaluatorSettings
    threads: int
    role: Role
    trusted: bool
    baseline: bool
    python: bool

    @staticmethod
    def of(
        parent: WarmParent,
        program: Program,
        settings: EvaluatorSettings,
        threads: int,
        role: Role,
    ) -> JobKind:
        python = program.language not in NATIVE
        return JobKind(parent, settings, threads, role, program.trusted, program.baseline, python)

    def start(self, descriptors: Sequence[int] = (), program: Program | None = None) -> Job:
        """A job with its program, or one that waits for it (`Job.put`). descriptors: memory that
        the worker may map. Raises InfraError."""
        settings, role = self.settings, self.role
        folder = Path(tempfile.mkdtemp(prefix="harness-job-"))
        try:
            (folder / KERNEL_CACHE).mkdir()  # torch makes it otherwise, where it may not
            if program is not None:
                _write(folder, program)
            worker = self.parent.start_worker(
                job_folder=folder,
                descriptors=descriptors,
                limits=Limits(
                    pids=settings.worker_processes,
                    memory_bytes=(
                        settings.gpu_worker_memory_bytes
                        if role.gpu
                        else settings.worker_memory_bytes
                    ),
                    file_bytes=MAX_KERNEL_BYTES if role.compiles else 1 << 20,
                    cpu_seconds=_BASELINE_CPU_SECONDS if self.baseline else _CPU_SECONDS,
                    open_files=(1024 if role.gpu else 64) + len(descriptors),
                ),
                environment=self._environment(),
                trusted=self.trusted,
                attacks_kill=not role.compiles,
                job_writable=role.compiles,
                gpu=role.gpu,
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return Job(folder, worker)

    def _environment(self) -> dict[str, str]:
        gpu = self.role.gpu or self.python
        return worker_environment(self.threads) | (gpu_environment() if gpu else {})


class JobsAhead:
    """Jobs that wait for a program, by kind. Not thread-safe; the starting happens in threads."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(thread_name_prefix="job-ahead")
        self._jobs: dict[JobKind, list[Future[Job]]] = {}

    def start(self, kind: JobKind, count: int) -> None:
        """See to it that so many of a kind are there, or on their way."""
        jobs = self._jobs.setdefault(kind, [])
        jobs += [self._pool.submit(kind.start) for _ in range(count - len(jobs))]

    def wait(self) -> None:
        """Until all of them stand still, waiting for their program."""
        wait([job for jobs in self._jobs.values() for job in jobs])

    def take(self, kind: JobKind) -> Job | None:
        """One of this kind, if one is there and alive."""
        jobs = self._jobs.get(kind, [])
        while jobs:
            try:
                job = jobs.pop(0).result()
            except (HarnessError, OSError):
                continue  # starting one when it is wanted says why
            if job.alive():
                return job
            job.close()
        return None

    def close(self) -> None:
        for kind in list(self._jobs):
            while (job := self.take(kind)) is not None:
                job.close()
        self._pool.shutdown()


def worker_environment(threads: int) -> dict[str, str]:
    """The whole environment of a worker. Both sides get the same."""
    return {"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", **openmp_environment(threads)}


def _write(folder: Path, program: Program) -> None:
    (folder / CODE_FILE[program.language]).write_bytes(program.code)
    unpack(program.kernels, folder / KERNEL_CACHE)

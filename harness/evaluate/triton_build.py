"""Builds Triton candidates ahead of the GPU, in sandboxed workers that have none.

What is built is an archive of compiled kernels and launch stubs for all workloads of a task, which
the candidate's workers find in their cache folder. Equal content is built once: the key is the
source, the workloads, the device's capability, torch and triton.

Covered: compile errors as build failures, time-outs, programs that cannot be compiled ahead (their
first worker compiles them; `missed` workloads are counted).
Not covered: CUDA libraries (build.py).
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from harness.environment import cores, packages
from harness.evaluate.build import (
    BuildFailure,
    BuildStore,
    Built,
    building_failed,
    useful_lines,
)
from harness.evaluate.channel import ChannelError, ChannelTimeout
from harness.evaluate.launcher import Limits, WarmParent
from harness.evaluate.program import CODE_FILE, KERNEL_CACHE, gpu_environment, pack, signature_json
from harness.evaluate.settings import EvaluatorSettings
from harness.evaluate.threads import worker_environment
from harness.suite import Signature
from harness.types import JsonObject, Workload

_FILE_BYTES = 64 << 20
AT_ONCE = max(2, cores() // 8)
"""Builds side by side: each takes a process for every kernel, up to all cores. With twelve, as many
as a comparison runs, most took 2 s on 16 cores, but some 36, of the 60 that they have."""


class TritonBuilder:
    """Builds with one warm parent that has torch and triton. folder: keeps what was built."""

    def __init__(
        self,
        parent: WarmParent,
        folder: Path | None,
        settings: EvaluatorSettings,
        capability: int,
    ) -> None:
        self._parent = parent
        self._store = BuildStore(folder, ".tar")
        self._settings = settings
        self._capability = capability
        self._room = threading.Semaphore(AT_ONCE)
        self.missed = 0
        """Workloads so far whose kernels were left to a worker on the GPU."""

    def build(
        self, source: str, signature: Signature, workloads: Sequence[Workload]
    ) -> Built | BuildFailure:
        """The archive of a program's kernels, perhaps empty. Raises InfraError for our faults."""
        axes = [dict(workload.axes) for workload in workloads]
        versions = {name: packages()[name] for name in ("torch", "triton")}
        described = signature_json(signature)
        parts = [source, described, axes, self._capability, versions]

        def make() -> Built | BuildFailure:
            with self._room:
                return self._compile(source, described, axes)

        return self._store.get_or_make(parts, make)

    def _compile(
        self, source: str, signature: JsonObject, axes: list[dict[str, int]]
    ) -> Built | BuildFailure:
        self._parent.wait()  # the first time, its imports are no part of the build
        settings, started = self._settings, time.perf_counter()
        folder = Path(tempfile.mkdtemp(prefix="harness-build-"))
        file = CODE_FILE["triton"]
        worker = None
        try:
            (folder / file).write_text(source)
            worker = self._parent.start_worker(
                job_folder=folder,
                descriptors=[],
                limits=Limits(
                    pids=512,
                    memory_bytes=settings.build_memory_bytes,
                    file_bytes=_FILE_BYTES,
                    cpu_seconds=int(settings.build_timeout_seconds) + 1,
                    open_files=512,
                ),
                environment=worker_environment(1)
                | gpu_environment()
                | {"CUDA_VISIBLE_DEVICES": ""},
                job_writable=True,
                trusted=self._parent.isolation.way == "none",
            )
            load = {"op": "load", "language": "triton", "file": file, "signature": signature}
            worker.channel.send_json(load)
            answer = worker.channel.receive_json(settings.load_timeout_seconds)
            if answer.get("ok") is True:
                worker.channel.send_json(
                    {
                        "op": "compile",
                        "workloads": axes,
                        "capability": self._capability,
                        "processes": max(1, min(len(axes), cores())),
                        "seconds": settings.build_timeout_seconds,
                    }
                )
                answer = worker.channel.receive_json(settings.build_timeout_seconds + 5)
            worker.kill()
            seconds = time.perf_counter() - started
            if answer.get("ok") is not True:
                message = useful_lines(
                    str(answer.get("message", "the program did not load"))[:4000]
                )
                return BuildFailure(message, answer.get("timeout") is True, seconds)
            told = answer.get("missed")
            missed = told if isinstance(told, int) else len(axes)
            self.missed += missed
            return Built(pack(folder / KERNEL_CACHE), seconds, missed)
        except ChannelTimeout:
            seconds = time.perf_counter() - started
            return BuildFailure("compiling did not end in time", True, seconds)
        except ChannelError as error:
            seconds = time.perf_counter() - started
            return BuildFailure(f"the compiler's process ended: {error}", False, seconds)
        except OSError as error:
            raise building_failed(error) from error
        finally:
            if worker is not None:
                worker.kill()
            shutil.rmtree(folder, ignore_errors=True)

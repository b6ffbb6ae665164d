"""The NVIDIA GPUs of this machine as a backend of the evaluator: one judge for each, one queue.

A request goes to whichever GPU is free; a judge holds its GPU's lock while it answers, so several
comparisons share the machine's GPUs too. Kernels are compiled before, on the CPU.

Covered: languages triton, python and cuda (bundles of published kernels too); what a cache
key and a manifest need to know; a machine without a GPU is told what to do; device "interpreter"
(gpu_bench.py).
Not covered: GPUs of other machines.
"""

from __future__ import annotations

import base64
import queue
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from harness.environment import packages, visible_gpus
from harness.errors import EnvironmentMissing, UsageError
from harness.evaluate.build import Builder, BuildFailure, cuda_toolchain
from harness.evaluate.header import cpp_header, python_interface
from harness.evaluate.judge_client import LastingJudge
from harness.evaluate.launcher import WarmParent
from harness.evaluate.local_cpu import build_failed, judge_setup, native
from harness.evaluate.program import parent_environment
from harness.evaluate.sandbox import Isolation
from harness.evaluate.settings import EvaluatorSettings
from harness.evaluate.triton_build import TritonBuilder
from harness.suite import Task
from harness.types import Candidate, Failed, JsonObject, Language, Workload

GpuDevice = Literal["cuda", "interpreter"]

NO_GPU = (
    "This machine has no NVIDIA GPU that nvidia-smi shows, and this suite runs on one. "
    "Run SUITE=cpu here, this suite with EVALUATOR=modal (docs/modal.md), or on a machine with a "
    "GPU."
)
_NO_TRITON = (
    "The package triton is missing, which this suite needs. Install it: pip install triton "
    "(the version that belongs to your torch)."
)


class GpuBackend:
    """Implements `local.Backend`. Raises EnvironmentMissing where there is no GPU or no Triton."""

    languages: tuple[Language, ...] = ("triton", "python", "cuda")

    def __init__(
        self,
        suite_name: str,
        *,
        cache_folder: Path | None,
        settings: EvaluatorSettings,
        secret: bytes,
        trusted: bool,
        isolation: Isolation,
        device: GpuDevice = "cuda",
    ) -> None:
        gpus = visible_gpus() if device == "cuda" else [{"index": "", "name": "interpreter"}]
        if not gpus:
            raise EnvironmentMissing(NO_GPU)
        if packages()["triton"] is None:
            raise EnvironmentMissing(_NO_TRITON)
        self._device: GpuDevice = device
        self._settings = settings
        self._builds = None if cache_folder is None else cache_folder / "builds"
        # No device for the builder: pretending to have one must not open one.
        hidden = parent_environment() | {"CUDA_VISIBLE_DEVICES": ""}
        self._scratch = tempfile.TemporaryDirectory(prefix="harness-judge-")
        self._compilers = WarmParent("build", isolation)
        self._parent = WarmParent("triton-build", isolation, hidden)
        self._lock = threading.Lock()
        self._held_seconds = self._compiling_seconds = 0.0
        self._clocks_mhz: list[int] = []
        setup = judge_setup(suite_name, settings, secret, trusted, isolation)
        setup |= {"device": device, "peaks": None}  # the judge looks at its device
        self._judges = [
            LastingJudge(setup, _judge_environment(gpu["index"], self._scratch.name))
            for gpu in gpus
        ]
        self._free: queue.SimpleQueue[LastingJudge] = queue.SimpleQueue()
        with ExitStack() as undo:
            undo.callback(self.close)
            for judge in self._judges:
                judge.start()
            self._devices = [judge.ready()["device"] for judge in self._judges]
            undo.pop_all()
        for judge in self._judges:
            self._free.put(judge)
        self._capability = int(self._devices[0].get("capability", 90))
        self._triton = TritonBuilder(self._parent, self._builds, settings, self._capability)
        self._cuda: Builder | None = None

    def close(self) -> None:
        for judge in self._judges:
            judge.close()
        self._parent.close()
        self._compilers.close()
        self._scratch.cleanup()

    def header(self, task: Task, language: Language) -> str:
        if language == "cuda":
            return cpp_header(task.signature, "cuda")
        where = "GPU" if self._device == "cuda" else "CPU"
        return python_interface(task.signature, where, triton=language == "triton")

    def describe(self) -> JsonObject:
        first = self._devices[0]
        return {
            "device": first["name"],
            "gpus": self._devices,
            "clock": (
                "CUDA events, of calls whose inputs are made once they are queued; L2 evicted"
                if self._device == "cuda"
                else "wall clock of an interpreter: means nothing"
            ),
            "flags": [f"for compute capability {self._capability / 10:g}"],
            "peaks": first["peaks"],
            "compiled_late": self._triton.missed,
            "lock": {
                "held_seconds": self._held_seconds,
                "compiling_seconds": self._compiling_seconds,
                "clocks_mhz": self._clocks_mhz,
            },
        }

    def conditions(self) -> JsonObject:
        return {"gpu": [self._device, self._devices[0]["name"], self._devices[0]["sharing"]]}

    def require(self, task: Task, language: Language) -> None:
        if language not in self.languages:
            raise UsageError(
                f"Task {task.name} runs on a GPU, where candidates are written in triton, cuda or "
                f"python; got {language!r}."
            )

    def build(
        self, task: Task, candidate: Candidate, workloads: Sequence[Workload]
    ) -> tuple[JsonObject | Failed, float]:
        source = base64.b64encode(candidate.source.encode()).decode()
        if candidate.language == "python" or self._device == "interpreter":
            return {"code": source}, 0.0
        if candidate.language == "cuda":
            return native(self._cuda_builder, task, candidate, "cuda")
        built = self._triton.build(candidate.source, task.signature, workloads)
        if isinstance(built, BuildFailure):
            return build_failed(built), built.seconds
        kernels = base64.b64encode(built.code).decode()
        complete = workloads == task.search and not built.missed
        return {"code": source, "kernels": kernels, "complete": complete}, built.seconds

    def _cuda_builder(self) -> Builder:
        with self._lock:
            if self._cuda is None:
                tools = cuda_toolchain(self._capability)
                self._cuda = Builder(self._compilers, self._builds, self._settings, tools)
            return self._cuda

    def ask(self, request: JsonObject) -> JsonObject:
        judge = self._free.get()
        try:
            answer = judge.ask(request)
        finally:
            self._free.put(judge)
        with self._lock:
            self._held_seconds += float(answer.get("device_seconds", 0.0))
            self._compiling_seconds += float(answer.get("compiling_seconds", 0.0))
            seen = [*self._clocks_mhz, *(answer.get("clocks_mhz") or ())]
            self._clocks_mhz = [min(seen), max(seen)] if seen else []
        return answer


def _judge_environment(index: str, folder: str) -> dict[str, str]:
    """A judge and its workers see one device (none: the interpreter). Its private memory comes and
    goes in many sizes, and what it compiles for itself is kept by nobody else."""
    if not index:
        return {"TRITON_INTERPRET": "1"}
    return {
        "CUDA_VISIBLE_DEVICES": index,
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # nvidia-smi's
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        "TRITON_CACHE_DIR": folder,
    }

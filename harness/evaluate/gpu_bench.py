"""A GPU as the device that is judged on: contents from seeds, comparison by torch, events as clock.

The judge has a context of its own on the device. Its torch memory is private; what workers see are
allocations of `gpu_memory.py`. The device is held alone, by a file lock, for a whole evaluation or
confirmation; compiling comes before that (triton_build.py), and what was missed is compiled by the
first worker of an evaluation, which is never timed.

With device "cpu" the same judge runs on CPU tensors, and Triton programs in Triton's interpreter:
for checking programs and this code where there is no GPU. Its times are wall-clock times of an
interpreter and mean nothing.

Covered: one device of one machine. Not covered: choosing the device (local.py).
"""

from __future__ import annotations

import math
import shutil
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness.evaluate import gpu_lock
from harness.evaluate.back_to_back import BackToBack, check_back_to_back
from harness.evaluate.bench import Bench, Blocks, Calls, Watch
from harness.evaluate.channel import ChannelError
from harness.evaluate.check import Mismatch
from harness.evaluate.clocks import check_event_clocks, check_libraries, clock_failures
from harness.evaluate.cuda_driver import CudaError, Driver
from harness.evaluate.gpu_check import compare_tensors, near_tensors
from harness.evaluate.gpu_contents import SeedContents
from harness.evaluate.gpu_gate import Gate, GpuGate, HostGate, JudgeClock
from harness.evaluate.gpu_memory import GpuRing, PrivateInputs, layout
from harness.evaluate.gpu_references import References
from harness.evaluate.gpu_sharing import HostMemory, IpcMemory, slots_within
from harness.evaluate.inspected_side import InspectedSide
from harness.evaluate.launcher import GpuUse, Limits, WarmParent
from harness.evaluate.peaks import Peaks, floor_us
from harness.evaluate.program import Contents, Program, Role, Timed, gpu_environment
from harness.evaluate.settings import EvaluatorSettings
from harness.evaluate.side import Side, loaded
from harness.evaluate.threads import worker_environment
from harness.suite import Tolerance, TorchTask
from harness.types import Workload

if TYPE_CHECKING:
    from harness.evaluate.gpu_contents import Tensors

_SEED_BITS = 62
_INTERPRETER_BYTES = 1 << 30


class GpuBench(Bench):
    """One TorchTask on one GPU, or on CPU tensors.

    parents: "native" for CUDA libraries, "torch" for Python and Triton. driver: None on CPU
    tensors. sharing: how workers get memory; "host" also where IPC works but was refused.
    """

    def __init__(
        self,
        task: TorchTask,
        *,
        parents: Mapping[str, WarmParent],
        driver: Driver | None,
        peaks: Peaks,
        settings: EvaluatorSettings,
        threads: int,
        sharing: Literal["ipc", "host"] = "ipc",
    ) -> None:
        self.task: TorchTask = task
        self.settings = settings
        self._parents = parents
        self._driver = driver
        self._device = "cuda" if driver else "cpu"
        self._peaks = peaks
        self._threads = threads
        self._sharing = sharing
        self._clock = JudgeClock(driver) if driver else None
        self._uuid = driver.uuid if driver else ""
        self._sensors = gpu_lock.Sensors(self._uuid) if driver else None
        whole = driver.memory_bytes if driver else _INTERPRETER_BYTES
        self._ring_bytes = int(settings.gpu_memory_share * whole)
        self._inputs = PrivateInputs(task, self._device, self._ring_bytes)
        self._references = References(self._inputs, int(settings.gpu_expected_share * whole))

    def start(
        self,
        program: Program,
        workloads: Sequence[Workload],
        *,
        compiles: bool = False,
        diagnosed: bool = False,
    ) -> Side:
        native = program.language == "cuda" and not diagnosed
        role = Role()
        if self._driver is not None:
            ours = program.baseline  # trusted, and nobody has built it ahead
            may_compile = (compiles or ours) and not (native or program.complete)
            use: GpuUse = "profiler" if diagnosed else "driver" if native else "torch"
            role = Role(use, may_compile)
        parent = self._parents["native" if native else "torch"]
        signature, settings = self.task.signature, self.settings
        kind = InspectedSide if program.submission else Side
        with ExitStack() as undo:
            memory = self._memory(workloads)
            undo.callback(memory.close)
            gate = self._gate()
            undo.pop_all()  # both are the ring's
        ring = GpuRing(self._inputs, memory, gate, self._ring_bytes)
        return loaded(kind(parent, program, signature, ring, settings, self._threads, role))

    def _gate(self) -> Gate:
        if self._driver is None or self._clock is None:
            return HostGate()
        return GpuGate(self._driver, self._clock, shared=self._sharing == "ipc")

    def _memory(self, workloads: Sequence[Workload]) -> IpcMemory | HostMemory:
        if self._driver is not None and self._sharing == "ipc":
            return IpcMemory(self._driver)
        sizes = [self._half_bytes(workload) for workload in workloads]
        return HostMemory(sizes, self._ring_bytes, self._driver)

    def _half_bytes(self, workload: Workload) -> list[int]:
        """The sizes of a slot's halves."""
        halves = (self.task.signature.inputs, self.task.signature.outputs)
        return [layout(tensors, workload.axes)[1] for tensors in halves]

    def sealed(self, program: Program, side: Side) -> Program | None:
        if self._driver is None or program.language == "cuda" or program.complete:
            return None
        if program.baseline:  # torch.compile wants to write where it reads
            return None
        return replace(program, kernels=side.kernels() or program.kernels)

    def fresh(self, workload: Workload, rng: np.random.Generator) -> SeedContents:
        return SeedContents(int(rng.integers(1 << _SEED_BITS)))

    def draw(self, workload: Workload, contents: Sequence[Contents]) -> None:
        for each in contents:
            self._inputs.half(workload, each)

    def forget(self) -> None:
        self._inputs.keep_only(None)
        self._references.forget()

    def near_duplicate(
        self, workload: Workload, contents: Contents, rng: np.random.Generator
    ) -> SeedContents:
        return SeedContents(contents.seed, int(rng.integers(1 << _SEED_BITS)))

    def expecting(self, calls: Calls) -> AbstractContextManager[Calls]:
        return self._references.meanwhile(calls)

    def expected(self, workload: Workload, contents: Contents) -> Tensors:
        return self._references.outputs(workload, contents)

    def compare(
        self, name: str, actual: Any, expected: Any, tolerance: Tolerance
    ) -> Mismatch | None:
        return compare_tensors(name, actual, expected, tolerance)

    def near(self, actual: Any, baseline: Any, tolerance: Tolerance) -> bool:
        return near_tensors(actual, baseline, tolerance)

    def floor_us(self, workload: Workload, contents: Contents) -> float:
        if self._driver is None:
            return 0.0
        with self._inputs.reading(workload, contents) as inputs:
            return floor_us(self.task.work(workload, inputs), self._peaks)

    def check_clocks(self, timed: Timed) -> None:
        if self._driver is not None:
            check_event_clocks(timed, self.settings)

    def check_confirmed(self, timed: Timed) -> None:
        if self._driver is not None:
            check_event_clocks(timed, self.settings, confirmed=True)

    def settle_clocks(
        self, program: Program, timed: Timed, rng: np.random.Generator
    ) -> Mapping[Workload, str]:
        if self._driver is None:
            return super().settle_clocks(program, timed, rng)
        doubtful = clock_failures(timed, self.settings)
        if not doubtful:
            return {}
        self.check_confirmed(timed)  # raises if one is off by more
        looked_at = {workload: timed[workload] for workload in doubtful}
        shown = self._back_to_back(program, looked_at, rng, most=len(doubtful))
        for workload, failure in doubtful.items():
            if workload not in shown or shown[workload].each_us is None:
                raise failure
        return {workload: found.text for workload, found in shown.items()}

    def check_back_to_back(
        self, program: Program, timed: Timed, rng: np.random.Generator
    ) -> Mapping[Workload, str]:
        shown = self._back_to_back(program, timed, rng, most=self.settings.batch_workloads)
        return {workload: found.text for workload, found in shown.items()}

    def _back_to_back(
        self, program: Program, timed: Timed, rng: np.random.Generator, most: int
    ) -> Mapping[Workload, BackToBack]:
        if self._driver is None:
            return {}
        room = int(self.settings.batch_memory_share * self._driver.memory_bytes)
        return check_back_to_back(self, program, timed, rng, most=most, memory_bytes=room)

    @property
    def can_diagnose(self) -> bool:
        return self._driver is not None

    def check_libraries(self, side: Side) -> None:
        if self._driver is not None:
            parent = self._parents["native" if side.program.language == "cuda" else "torch"]
            check_libraries(self.task, side, parent.pid)

    @property
    def floor_calls(self) -> int:
        return self.settings.gpu_floor_calls if self.task.work_varies else 1

    @property
    def confirm_min_blocks(self) -> int:
        if self._driver is None:
            return self.settings.confirm_min_blocks
        return self.settings.gpu_confirm_min_blocks

    @property
    def warmup_calls(self) -> int:
        return self.settings.gpu_warmup_calls

    @property
    def stays_warm(self) -> bool:
        return True

    def slow_ns(self, baseline_ns: float) -> float:
        little = max(baseline_ns, self.settings.gpu_slow_us * 1e3)
        return min(super().slow_ns(baseline_ns), little)

    @property
    def slow_samples(self) -> int:
        return self.settings.gpu_slow_samples

    @property
    def correctness_seeds(self) -> int:
        return self.settings.gpu_correctness_seeds

    @property
    def verification_slots(self) -> int | None:
        return 2

    def drawn_blocks(self, blocks: int, rng: np.random.Generator) -> set[int]:
        count = min(blocks, self.settings.gpu_drawn_blocks)
        return {int(block) for block in rng.choice(blocks, count, replace=False)}

    def confirm_calls(self, slots: int, baseline_ns: float) -> int:
        settings = self.settings
        fitting = int(settings.gpu_confirm_call_seconds * 1e9 / baseline_ns)
        many = len(self.task.final) > settings.gpu_confirm_many
        most = 2 if many else settings.gpu_confirm_calls
        return min(slots, max(2, min(most, fitting)))

    @property
    def alive_at_once(self) -> int | None:
        """As many as whose outputs fit, one call of each; one where each pins host memory."""
        if self._sharing == "host":
            return 1
        outputs = max(
            sum(t.bytes(w.axes) for t in self.task.signature.outputs) for w in self.task.final
        )
        return max(1, min(self.settings.gpu_confirm_together, self._ring_bytes // max(1, outputs)))

    @property
    def drawn_share(self) -> float:
        return self.settings.gpu_drawn_share

    def blocks(self, baseline_ns: float, slots: int) -> Blocks:
        settings = self.settings
        if self._driver is None:
            return Blocks(slots, 2, 2)
        fitting = settings.gpu_sample_seconds * 1e9 / baseline_ns
        samples = min(max(fitting, settings.gpu_min_samples), settings.gpu_max_samples)
        calls = max(2, min(slots, int(samples / settings.search_blocks)))
        count = math.ceil(samples / calls)
        return Blocks(calls, count, count)

    def block_slots(self, workload: Workload, baseline_ns: float) -> int | None:
        """As many as calls: an allocation of its own that no call uses costs time, too."""
        slots = slots_within(self._ring_bytes, sum(self._half_bytes(workload)))
        return self.blocks(baseline_ns, slots).calls

    def watch(self) -> Watch:
        return _GpuWatch(self.settings.baseline_drift, self._sensors)

    def clocks_mhz(self) -> tuple[int, int] | None:
        return self._sensors.clocks_mhz if self._sensors else None

    def device_errors(self) -> tuple[type[BaseException], ...]:
        if self._driver is None:
            return ()
        import torch

        return (CudaError, torch.OutOfMemoryError)

    def alone(self) -> AbstractContextManager[None]:
        return gpu_lock.alone(self._uuid) if self._driver else nullcontext()


class _GpuWatch(Watch):
    """The baseline's drift from its own history (the geometric mean over a block's workloads: of
    dozens, one of 17 us is always off by 3 %), and the device's own word."""

    def __init__(self, drift: float, sensors: gpu_lock.Sensors | None) -> None:
        self._drift = drift
        self._sensors = sensors
        self._history: dict[str, list[float]] = {}

    def disturbed(self, baseline_us: Mapping[str, Sequence[float]]) -> bool:
        if self._sensors is None:
            return False
        logs: list[float] = []
        for name, samples in baseline_us.items():
            value, history = statistics.median(samples), self._history.setdefault(name, [])
            if len(history) >= 3:
                logs.append(math.log(value / statistics.median(history)))
            history.append(value)
        off = math.exp(statistics.fmean(logs)) - 1 if logs else 0.0
        return abs(off) > self._drift or self._sensors.throttled()


def ipc_works(parent: WarmParent, driver: Driver) -> bool:
    """Whether a worker in its sandbox can open an allocation of this process. Tried, not asked: it
    depends on the driver, on namespaces and on what a container allows."""
    folder = Path(tempfile.mkdtemp(prefix="harness-probe-"))
    size = 2 << 20
    address = driver.allocate(size)
    try:
        source = {"slot": 0, "bytes": size, "ipc": driver.export(address).hex()}
        worker = parent.start_worker(
            job_folder=folder,
            descriptors=[],
            limits=Limits(pids=64, memory_bytes=32 << 30, open_files=1024),
            environment=worker_environment(1) | gpu_environment(),
            trusted=True,
            gpu="driver",
        )
        try:
            worker.channel.send_json({"op": "memory", "memory": [source]})
            return worker.channel.receive_json(10.0).get("ok") is True
        finally:
            worker.kill()
    except (CudaError, ChannelError):
        return False
    finally:
        driver.free(address)
        shutil.rmtree(folder, ignore_errors=True)

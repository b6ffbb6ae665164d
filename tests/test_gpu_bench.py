"""What a GPU's bench does that needs none: environments, host memory, disturbed blocks."""

from __future__ import annotations

import os
import tempfile
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import InfraError
from harness.evaluate.channel import CallReply, WorkerTimes
from harness.evaluate.cuda_driver import CudaError
from harness.evaluate.gathered import Timing
from harness.evaluate.gpu_bench import GpuBench, _GpuWatch
from harness.evaluate.gpu_contents import SeedContents
from harness.evaluate.gpu_gate import HostGate
from harness.evaluate.gpu_memory import GpuRing, PrivateInputs, layout
from harness.evaluate.gpu_sharing import HostMemory
from harness.evaluate.judge import Judge
from harness.evaluate.memory import HostRing
from harness.evaluate.peaks import Peaks
from harness.evaluate.program import CandidateFailure, Clocks, Program, Role
from harness.evaluate.settings import EvaluatorSettings
from harness.evaluate.side import Side
from harness.types import JsonObject, Language, Workload
from tests.toy_gpu_suite import ScaleRows


def test_host_memory_has_many_small_slots_and_few_large_ones() -> None:
    small, large = (1 << 12, 1 << 13), (1 << 18, 1 << 19)
    memory = HostMemory([small, large], memory_bytes=1 << 20)
    try:
        assert memory.most_slots(large) == 2
        assert memory.most_slots(small) == 6
        assert memory.most_slots((1 << 20, 1)) == 0
        sizes = [os.fstat(descriptor).st_size for descriptor in memory.descriptors]
        assert sum(sizes) < 2 * sum(large) + 6 * sum(small) + (1 << 20)
        memory.allocate(1, 1, large[1])
    finally:
        memory.close()


class FakeDriver:
    """A device whose driver pins each range once, and at most so many. pinned: those that are."""

    uuid, name, memory_bytes, version = "fake", "fake", 1 << 24, 13000

    def __init__(self, most: int = 99) -> None:
        self.pinned: dict[int, int] = {}
        self._most = most

    def attribute(self, name: str) -> int:
        return 1 << 20

    def allocate(self, size: int) -> int:
        return 1

    def event(self) -> int:
        return 1

    def synchronize(self) -> None:
        """Nothing was queued."""

    def register(self, host: int, size: int) -> int:
        if host in self.pinned or len(self.pinned) == self._most:
            raise CudaError("cuMemHostRegister", 2, "CUDA_ERROR_OUT_OF_MEMORY")
        self.pinned[host] = size
        return host

    def unregister(self, host: int) -> None:
        del self.pinned[host]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_host_memory_that_cannot_be_pinned_is_given_back_and_is_nobodys_failure_but_ours() -> None:
    driver, before = FakeDriver(most=5), open_files()
    with pytest.raises(InfraError, match=r"cannot be pinned: .*OUT_OF_MEMORY"):
        HostMemory([(1 << 12, 1 << 13)], 1 << 20, driver)  # type: ignore[arg-type]
    assert (driver.pinned, open_files()) == ({}, before)
    driver = FakeDriver()
    memory = HostMemory([(1 << 12, 1 << 13)], 1 << 20, driver)  # type: ignore[arg-type]
    assert len(driver.pinned) == len(memory.descriptors) == 12
    memory.close()
    assert (driver.pinned, open_files()) == ({}, before)


class NoWorkers:
    """A warm parent that cannot start a worker."""

    def start_worker(self, **how: object) -> None:
        raise InfraError("there is no process left")


def test_what_a_worker_that_did_not_start_would_have_had_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    driver, settings = FakeDriver(), EvaluatorSettings()
    bench = GpuBench(
        ScaleRows(),
        parents={"torch": NoWorkers()},  # type: ignore[dict-item]
        driver=driver,  # type: ignore[arg-type]
        peaks=Peaks(1.0, 1.0),
        settings=settings,
        threads=1,
        sharing="host",
    )
    before = open_files()
    for _ in range(2):
        with pytest.raises(InfraError, match="no process left"):
            bench.start(Program("triton", b""), ScaleRows().search)
        assert (driver.pinned, open_files()) == ({}, before)
    ring = HostRing(ScaleRows.signature, ScaleRows.search, 2)
    with pytest.raises(InfraError, match="no process left"):
        Side(NoWorkers(), Program("python", b""), ScaleRows.signature, ring, settings, 1)  # type: ignore[arg-type]
    assert open_files() == before
    assert not list(tmp_path.iterdir())


def host_rings(inputs: PrivateInputs, workload: Workload) -> list[GpuRing]:
    """Two sides' slots in host memory, bound to a workload."""
    halves = (inputs.task.signature.inputs, inputs.task.signature.outputs)
    sizes = [layout(tensors, workload.axes)[1] for tensors in halves]
    rings = [GpuRing(inputs, HostMemory([sizes], 1 << 20), HostGate(), 1 << 20) for _ in range(2)]
    for ring in rings:
        ring.bind(workload, 2)
    return rings


class Counting(ScaleRows):
    """Notes the seeds that inputs are drawn from."""

    def __init__(self) -> None:
        self.drawn: list[int] = []

    def fill(self, workload: Workload, generator: Any, inputs: Any) -> None:
        self.drawn.append(generator.initial_seed())
        super().fill(workload, generator, inputs)


def test_contents_are_drawn_once_for_both_sides_the_looks_at_them_and_the_reference() -> None:
    task, workload = Counting(), ScaleRows().search[0]
    bench = bench_of(task, EvaluatorSettings())
    rings = host_rings(bench._inputs, workload)
    try:
        for ring in rings:
            for slot, seed in enumerate((3, 4)):
                ring.stage(slot, SeedContents(seed))
            ring.put()
            assert ring.changed_input(0, SeedContents(3)) is None
        bench.expected(workload, SeedContents(4))
        assert task.drawn == [3, 4]
        first, second = (ring._inputs(1)["x"] for ring in rings)
        assert torch.equal(first, second)
        first[0, 0] += 1
        assert rings[0].changed_input(1, SeedContents(4)) == "x"
        assert rings[1].changed_input(1, SeedContents(4)) is None
        bench.draw(task.search[1], [SeedContents(4)])
        bench.draw(task.search[1], [SeedContents(4), SeedContents(5)])
        assert task.drawn == [3, 4, 4, 5]
        bench.forget()
        bench.draw(task.search[1], [SeedContents(5)])
        assert task.drawn == [3, 4, 4, 5, 5]
    finally:
        for ring in rings:
            ring.close()


def test_only_the_latest_contents_are_kept_and_others_are_drawn_again_the_same() -> None:
    task, workload = Counting(), ScaleRows().search[0]
    size = layout(task.signature.inputs, workload.axes)[1]
    inputs = PrivateInputs(task, "cpu", 2 * size)
    first = inputs.half(workload, SeedContents(1)).views["x"].clone()
    for seed in (2, 1, 3, 1, 2):
        inputs.half(workload, SeedContents(seed))
    assert task.drawn == [1, 2, 3, 2]
    assert len(inputs._latest) == 2
    assert torch.equal(inputs.half(workload, SeedContents(1)).views["x"], first)
    small = PrivateInputs(task, "cpu", 1)
    assert small.half(workload, SeedContents(1)) is small.half(workload, SeedContents(1))
    many = PrivateInputs(task, "cpu", 1 << 40)
    for seed in range(30):
        many.half(workload, SeedContents(seed))
    assert 6 < len(many._latest) < 10


def test_a_ring_that_is_bound_and_a_baseline_that_ends_leave_no_inputs_behind() -> None:
    """What is kept for one workload is room that the next one's program may need."""
    task = Counting()
    bench = bench_of(task, EvaluatorSettings())
    (ring, other) = host_rings(bench._inputs, task.search[0])
    ring.stage(0, SeedContents(1))
    ring.put()
    half = weakref.ref(bench._inputs.half(task.search[0], SeedContents(1)))
    assert half() is not None
    ring.bind(task.search[1], 2)
    assert half() is None
    half = weakref.ref(bench._inputs.half(task.search[1], SeedContents(1)))
    Judge(bench, b"secret").close_baseline()
    assert half() is None
    for each in (ring, other):
        each.close()


class Writing(ScaleRows):
    """Its reference and its work change what they were given."""

    def reference(self, workload: Workload, inputs: Any) -> Any:
        inputs["x"].mul_(inputs["scale"])
        return {"y": inputs["x"].double(), "total": inputs["x"].double().sum(dim=1)}

    def work(self, workload: Workload, inputs: Any) -> Any:
        inputs["x"].view(-1)[0] = 3
        raise MemoryError


def test_a_task_that_writes_its_inputs_is_told_so_and_nothing_else_gets_them() -> None:
    task = Writing()
    bench = bench_of(task, EvaluatorSettings())
    call = task.search[0], SeedContents(3)
    drawn = bench._inputs.half(*call).views["x"].clone()
    with pytest.raises(InfraError, match="writes the inputs"):
        bench.expected(*call)
    assert torch.equal(bench._inputs.half(*call).views["x"], drawn)
    with pytest.raises(MemoryError), bench._inputs.reading(*call) as inputs:
        task.work(task.search[0], inputs)
    assert torch.equal(bench._inputs.half(*call).views["x"], drawn)


class Unthrottled:
    """A GPU's sensors that see nothing."""

    def throttled(self) -> bool:
        return False


def test_a_block_is_disturbed_by_what_all_of_its_workloads_show() -> None:
    watch = _GpuWatch(0.03, Unthrottled())  # type: ignore[arg-type]
    usual = {f"w{n}": [20.0, 20.0] for n in range(48)}
    assert not any(watch.disturbed(usual) for _ in range(3))
    assert not watch.disturbed(usual | {"w3": [22.0, 22.0]})
    assert watch.disturbed({name: [21.0, 21.0] for name in usual})
    one = _GpuWatch(0.03, Unthrottled())  # type: ignore[arg-type]
    assert not any(one.disturbed({"w": [1000.0]}) for _ in range(3))
    assert one.disturbed({"w": [1040.0]})


class Worker:
    """A worker that answers at once, and notes how long it might have taken."""

    def __init__(self) -> None:
        self.channel = self
        self.seconds: list[float] = []

    def call(self, kind: str, slot: int, number: int, timeout: float, **how: object) -> CallReply:
        self.seconds.append(timeout)
        return CallReply(0, WorkerTimes(1000), 1000)

    def send_json(self, message: JsonObject) -> None:
        """Nothing to do."""

    def receive_json(self, timeout: float) -> JsonObject:
        return {"ok": True}

    def resume(self) -> None:
        """There is no process."""

    def stop(self) -> None:
        """There is no process."""

    def kill(self) -> None:
        """There is no process."""


class Parent:
    """Notes how a worker is started."""

    def __init__(self) -> None:
        self.started: dict[str, Any] = {}
        self.worker = Worker()

    def start_worker(self, **arguments: Any) -> Worker:
        self.started = arguments
        return self.worker


def a_side(parent: Parent, program: Program, role: Role) -> Side:
    task = ScaleRows()
    halves = (task.signature.inputs, task.signature.outputs)
    sizes = [layout(tensors, task.search[0].axes)[1] for tensors in halves]
    ring = GpuRing(
        PrivateInputs(task, "cpu", 1 << 20), HostMemory([sizes], 1 << 20), HostGate(), 1 << 20
    )
    settings = EvaluatorSettings()
    return Side(parent, program, task.signature, ring, settings, 1, role)  # type: ignore[arg-type]


@pytest.mark.parametrize("language", ["cuda", "triton"])
def test_a_worker_on_a_gpu_sees_the_judges_gpu_alone(
    language: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    parent = Parent()
    role = Role("driver" if language == "cuda" else "torch")
    with a_side(parent, Program(language, b""), role):
        seen = parent.started["environment"]
    assert seen["CUDA_VISIBLE_DEVICES"] == "3"
    assert seen["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


@pytest.mark.parametrize("compiles", [True, False])
def test_the_first_call_of_a_workload_may_compile_where_that_is_allowed(compiles: bool) -> None:
    parent, settings = Parent(), EvaluatorSettings()
    program = Program("python", b"", trusted=True, baseline=True)
    with a_side(parent, program, Role("torch", compiles)) as side:
        for workload in ScaleRows().search[:2]:
            side.bind(workload)
            for _ in range(2):
                side._request("run", 0)
    first = settings.build_timeout_seconds if compiles else settings.call_timeout_seconds
    assert parent.worker.seconds == [first, settings.call_timeout_seconds] * 2


class BusyGate(HostGate):
    """Of a device that is still at work."""

    def busy_ns(self) -> int:
        return 5_000_000


def test_nothing_is_left_to_run_while_others_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_side(Parent(), Program("cuda", b"", trusted=True), Role("driver")) as side:
        side.bind(ScaleRows().search[0])
        side.release()
        side.bind(ScaleRows().search[0])
        monkeypatch.setattr(side._ring, "gate", BusyGate())
        with pytest.raises(CandidateFailure, match="5000 us after its last call"):
            side.release()


def test_host_memory_gives_as_many_slots_as_it_has() -> None:
    with a_side(Parent(), Program("cuda", b"", trusted=True), Role("driver")) as side:
        side.bind(ScaleRows().search[0], 16)
        assert side.slots == 6


class Many(ScaleRows):
    """More final workloads than a confirmation has time for."""

    final = tuple(Workload(f"w{n}", {"rows": 3, "n": 8 + n}) for n in range(17))


def bench_of(
    task: ScaleRows, settings: EvaluatorSettings, driver: FakeDriver | None = None
) -> GpuBench:
    return GpuBench(
        task,
        parents={},
        driver=driver,  # type: ignore[arg-type]
        peaks=Peaks(1.0, 1.0),
        settings=settings,
        threads=1,
    )


@pytest.mark.parametrize(
    ("baseline_us", "slow_us"),
    [(20, 60), (1000, 3000), (2000, 5000), (5000, 5000), (37000, 37000)],
)
def test_few_samples_are_for_long_calls_that_are_slower_than_the_baseline(
    baseline_us: int, slow_us: int
) -> None:
    bench = bench_of(ScaleRows(), EvaluatorSettings())
    assert bench.slow_ns(baseline_us * 1e3) == slow_us * 1e3


def test_a_confirmation_of_many_workloads_calls_each_of_them_less_often() -> None:
    settings = EvaluatorSettings()

    def calls(task: ScaleRows, baseline_ns: float) -> int:
        return bench_of(task, settings).confirm_calls(6, baseline_ns)

    assert calls(ScaleRows(), 20_000) == settings.gpu_confirm_calls == 4
    assert calls(ScaleRows(), 100_000_000) == 2
    assert calls(Many(), 20_000) == 2
    fewest = 2 * settings.gpu_confirm_min_blocks
    assert fewest >= settings.gpu_clock_calls  # so that a finalist's clocks are never held to one


def test_a_row_says_which_side_waits_for_the_gpu_within_its_calls() -> None:
    workload = ScaleRows().search[0]
    calls = {
        queued: Clocks(1000, 1000, WorkerTimes(1000), queued=queued) for queued in (True, False)
    }
    contents = [SeedContents(0)] * 3

    def flags(mine: list[bool], theirs: list[bool]) -> tuple[str, ...]:
        timing = Timing(1, flags=["seen"])
        for _ in range(2):
            timing.add(contents, [calls[q] for q in mine], [calls[q] for q in theirs])
        first, *others = timing.row(workload).flags
        assert first == "seen"
        return tuple(others)

    most = [False, False, True]
    assert flags([True] * 3, [False, True, True]) == ()
    (candidate,) = flags(most, [True] * 3)
    assert candidate.startswith("waits for the GPU")
    (baseline,) = flags([True] * 3, most)
    assert baseline.startswith("the baseline waits for the GPU")
    assert flags(most, most) == (candidate, baseline)

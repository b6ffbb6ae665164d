"""What a GPU's bench does that needs none: environments, host memory, disturbed blocks."""

from __future__ import annotations

import os
from typing import Any

import pytest

from harness.evaluate.gpu_bench import _GpuWatch
from harness.evaluate.gpu_gate import HostGate
from harness.evaluate.gpu_memory import GpuRing, layout
from harness.evaluate.gpu_sharing import HostMemory
from harness.evaluate.program import Program, Role
from harness.evaluate.settings import EvaluatorSettings
from harness.evaluate.side import Side
from harness.types import Language
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
    def kill(self) -> None:
        """There is no process."""


class Parent:
    """Notes how a worker is started."""

    def __init__(self) -> None:
        self.started: dict[str, Any] = {}

    def start_worker(self, **arguments: Any) -> Worker:
        self.started = arguments
        return Worker()


@pytest.mark.parametrize("language", ["cuda", "triton"])
def test_a_worker_on_a_gpu_sees_the_judges_gpu_alone(
    language: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    task, parent = ScaleRows(), Parent()
    halves = (task.signature.inputs, task.signature.outputs)
    sizes = [layout(tensors, task.search[0].axes)[1] for tensors in halves]
    ring = GpuRing(task, HostMemory([sizes], 1 << 20), HostGate(), "cpu", 1 << 20)
    role = Role("driver" if language == "cuda" else "torch")
    program, settings = Program(language, b""), EvaluatorSettings()
    with Side(parent, program, task.signature, ring, settings, 1, role):  # type: ignore[arg-type]
        seen = parent.started["environment"]
    assert seen["CUDA_VISIBLE_DEVICES"] == "3"
    assert seen["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"

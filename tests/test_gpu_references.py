"""What is expected of a worker's first calls, computed while it starts."""

import threading
from typing import Any

import pytest
import torch

from harness.evaluate.gpu_contents import SeedContents
from harness.evaluate.gpu_memory import PrivateInputs
from harness.evaluate.gpu_references import References
from harness.types import Workload
from tests.toy_gpu_suite import ScaleRows

ROWS, OTHER = ScaleRows().search
CALLS = [(ROWS, [SeedContents(1)]), (OTHER, [SeedContents(2), SeedContents(3)])]
AMPLE = 1 << 20


class Told(ScaleRows):
    """Notes what it was asked for; `asked` is set at the request number `last`."""

    def __init__(self, last: int) -> None:
        self.requests: list[Workload] = []
        self.asked, self._last = threading.Event(), last

    def reference(self, workload: Workload, inputs: Any) -> Any:
        self.requests.append(workload)
        if len(self.requests) == self._last:
            self.asked.set()
        return super().reference(workload, inputs)


def references(task: ScaleRows, memory_bytes: int = AMPLE) -> References:
    return References(PrivateInputs(task, "cpu", AMPLE), memory_bytes)


def started_after(made: References, task: Told) -> None:
    """A worker that has started once the task was asked often enough."""
    with made.meanwhile(iter(CALLS)) as calls:
        assert task.asked.wait(10)
    assert list(calls) == CALLS


def test_outputs_computed_ahead_are_the_references_and_are_computed_once() -> None:
    task = Told(3)
    made = references(task)
    started_after(made, task)
    usual = references(ScaleRows())
    for workload, contents in ((w, c) for w, each in CALLS for c in each):
        ahead, later = made.outputs(workload, contents), usual.outputs(workload, contents)
        assert ahead.keys() == later.keys()
        assert all(torch.equal(ahead[name], later[name]) for name in ahead)
    assert task.requests == [ROWS, OTHER, OTHER]
    made.outputs(OTHER, SeedContents(3))  # they are given out once
    assert len(task.requests) == 4


def test_nothing_is_begun_once_the_worker_has_started() -> None:
    task = Told(1)
    made = references(task)
    began = threading.Event()

    def late(workload: Workload, inputs: Any) -> Any:
        began.set()
        assert ended.wait(10)
        return Told.reference(task, workload, inputs)

    ended = threading.Event()
    task.reference = late  # type: ignore[method-assign]
    threading.Timer(0.2, ended.set).start()
    with made.meanwhile(CALLS):
        assert began.wait(10)
    assert task.requests == [ROWS]
    made.outputs(ROWS, SeedContents(1))
    assert task.requests == [ROWS]


def test_it_keeps_no_more_than_there_is_room_for_and_nothing_after_forget() -> None:
    task = Told(2)
    made = references(task, memory_bytes=8 * (3 * 8 + 3))
    started_after(made, task)
    made.outputs(ROWS, SeedContents(1))
    assert task.requests == [ROWS, OTHER]
    made.outputs(OTHER, SeedContents(2))
    assert task.requests == [ROWS, OTHER, OTHER]
    task = Told(3)
    made = references(task)
    started_after(made, task)
    made.forget()
    made.outputs(ROWS, SeedContents(1))
    assert len(task.requests) == 4


def test_what_fails_ahead_is_heard_where_it_is_asked_for() -> None:
    task = ScaleRows()

    def failing(workload: Workload, inputs: Any) -> Any:
        raise MemoryError("no room")

    task.reference = failing  # type: ignore[method-assign]
    made = references(task)
    with made.meanwhile(CALLS):
        pass
    with pytest.raises(MemoryError, match="no room"):
        made.outputs(ROWS, SeedContents(1))


def test_a_worker_that_does_not_start_is_heard_of_and_waits_for_nothing_else() -> None:
    task = Told(1)
    made = references(task)

    def start() -> None:
        with made.meanwhile(CALLS):
            assert task.asked.wait(10)
            raise OSError("no worker")

    with pytest.raises(OSError, match="no worker"):
        start()
    assert len(task.requests) <= 3

"""What is expected of a call on a GPU: the reference's outputs, in the judge's own memory.

While a worker starts, which takes a quarter of a second, the device has nothing to do; meanwhile
the first calls' outputs are computed.

Covered: outputs of any call, those of calls that are known ahead, bounded memory.
Not covered: comparing them (gpu_check.py).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from harness.evaluate.bench import Calls
from harness.evaluate.gpu_memory import PrivateInputs
from harness.types import Workload

if TYPE_CHECKING:
    from harness.evaluate.gpu_contents import SeedContents, Tensors


class References:
    """The reference's outputs of one task, each computed once.

    inputs: where a call's inputs come from. memory_bytes: for outputs that are computed ahead.
    """

    def __init__(self, inputs: PrivateInputs, memory_bytes: int) -> None:
        self._inputs, self._memory_bytes = inputs, memory_bytes
        self._ahead: dict[tuple[Workload, SeedContents], Tensors] = {}

    def outputs(self, workload: Workload, contents: SeedContents) -> Tensors:
        made = self._ahead.pop((workload, contents), None)
        return self._made(workload, contents) if made is None else made

    def _made(self, workload: Workload, contents: SeedContents) -> Tensors:
        with self._inputs.reading(workload, contents) as inputs:
            return self._inputs.task.reference(workload, inputs)

    def forget(self) -> None:
        self._ahead = {}

    @contextmanager
    def meanwhile(self, calls: Calls) -> Iterator[Calls]:
        """While the caller starts a worker, compute the outputs of these calls, in their order.
        What fails does so again, and is heard, where it is asked for."""
        self.forget()
        drawn, started = list(calls), threading.Event()
        with ThreadPoolExecutor(1) as pool, ExitStack() as undo:
            undo.callback(started.set)
            pool.submit(self._look_ahead, drawn, started)
            yield drawn

    def _look_ahead(self, calls: Calls, started: threading.Event) -> None:
        import torch

        room = self._memory_bytes
        for workload, contents in ((w, c) for w, each in calls for c in each):
            made = self._made(workload, contents)
            if self._inputs.device == "cuda":
                torch.cuda.synchronize()  # or all would be queued before the worker has started
            room -= sum(tensor.nbytes for tensor in made.values())
            if room < 0:
                return
            self._ahead[workload, contents] = made
            if started.is_set():
                return

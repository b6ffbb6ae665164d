"""What a judge needs of the device that it judges on: one bench for the CPU, one for a GPU.

The judge and the confirmation hold the protocol (stages, blocks, draws, statistics); a bench holds
what differs from device to device: how contents are made and compared, which clock is the score,
what disturbs a block, when the device is held alone.

Covered: `Bench`, and `CpuBench`, where the machine is the device. Not covered: GPUs (gpu_bench.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.evaluate import machine
from harness.evaluate.check import Mismatch, compare, near
from harness.evaluate.clocks import check_libraries, check_wake_clocks
from harness.evaluate.launcher import WarmParent
from harness.evaluate.memory import HostRing, private_inputs
from harness.evaluate.peaks import Peaks, floor_us
from harness.evaluate.program import Call, Contents, Program, Timed
from harness.evaluate.published_gate import published_mismatch
from harness.evaluate.settings import EvaluatorSettings
from harness.evaluate.side import Side, loaded
from harness.evaluate.timing import StealClock
from harness.suite import Arrays, NumpyTask, Task, Tolerance
from harness.types import Workload

Calls = Iterable[tuple[Workload, Sequence[Contents]]]


@dataclass(frozen=True)
class Blocks:
    """How many calls each side makes in a block, and how many blocks there are."""

    calls: int
    least: int
    most: int


class Watch(ABC):
    """Looks for what disturbs timed blocks, from its making on."""

    def restart(self) -> None:  # noqa: B027 - many have nothing to do
        """What came before does not count."""

    @abstractmethod
    def disturbed(self, baseline_us: Mapping[str, Sequence[float]]) -> bool:
        """Whether the block since the last look was disturbed. baseline_us: its samples of the
        baseline by workload."""


class Bench(ABC):
    """One task on one device. Raises CandidateFailure where a program misbehaves."""

    task: Task
    settings: EvaluatorSettings

    @abstractmethod
    def start(
        self,
        program: Program,
        workloads: Sequence[Workload],
        *,
        compiles: bool = False,
        diagnosed: bool = False,
    ) -> Side:
        """A fresh worker for any of these workloads, with the program loaded. compiles: it may
        compile, and is not timed. diagnosed: it answers `Side.diagnose`, where the bench can."""

    def sealed(self, program: Program, side: Side) -> Program | None:
        """The program as it is timed, after it was verified in `side`; None: in the same worker."""
        return None

    @abstractmethod
    def fresh(self, workload: Workload, rng: np.random.Generator) -> Contents:
        """One call's inputs."""

    def draw(self, workload: Workload, contents: Sequence[Contents]) -> None:  # noqa: B027
        """Make a block's inputs where they are still to be made, so that the side which comes first
        finds the device as the other does."""

    def forget(self) -> None:  # noqa: B027 - a CPU's inputs are its callers'
        """Give back what is only kept to make inputs once."""

    @abstractmethod
    def near_duplicate(
        self, workload: Workload, contents: Contents, rng: np.random.Generator
    ) -> Contents:
        """Inputs with one element of every floating-point tensor changed: what a cache keyed on a
        sample or a checksum of the contents takes for the same."""

    def to_verify(
        self, workload: Workload, rng: np.random.Generator, calls: int
    ) -> Sequence[Contents]:
        """Inputs for `calls` calls, and for one more: near to the last one's."""
        contents = [self.fresh(workload, rng) for _ in range(calls)]
        return [*contents, self.near_duplicate(workload, contents[-1], rng)]

    @abstractmethod
    def expected(self, workload: Workload, contents: Contents) -> Mapping[str, Any]:
        """The reference's outputs for these inputs."""

    def expecting(self, calls: Calls) -> AbstractContextManager[Calls]:
        """Within it a worker is started that then makes these calls, in this order. The same calls;
        what is expected of them may be computed meanwhile."""
        return nullcontext(calls)

    @abstractmethod
    def compare(
        self, name: str, actual: Any, expected: Any, tolerance: Tolerance
    ) -> Mismatch | None:
        """What is wrong with an output by the reference's, if anything."""

    @abstractmethod
    def near(self, actual: Any, baseline: Any, tolerance: Tolerance) -> bool:
        """A quick look at an output: is it near the baseline's on the same inputs?"""

    def mismatch(self, workload: Workload, call: Call) -> Mismatch | None:
        """What is wrong with a call's outputs by the reference, if anything."""
        return self._mismatch(call, self.expected(workload, call.contents))

    def by_both_gates(self, workload: Workload, call: Call) -> tuple[Mismatch | None, str]:
        """The same, and what is wrong by the gate that the task's kernels were published under ("":
        nothing, or it has none)."""
        expected, gate = self.expected(workload, call.contents), self.task.published_gate
        found = ""
        if gate is not None:
            for tensor in self.task.signature.outputs:
                outputs = call.outputs[tensor.name], expected[tensor.name]
                found = found or published_mismatch(tensor.name, *outputs, gate)
        return self._mismatch(call, expected), found

    def _mismatch(self, call: Call, expected: Mapping[str, Any]) -> Mismatch | None:
        for name, tolerance in self._tolerances():
            found = self.compare(name, call.outputs[name], expected[name], tolerance)
            if found is not None:
                return found
        return None

    def differs(self, call: Call, baseline: Call) -> str | None:
        """The first output that is not near the baseline's on the same inputs, if any."""
        for name, tolerance in self._tolerances():
            if not self.near(call.outputs[name], baseline.outputs[name], tolerance):
                return name
        return None

    def _tolerances(self) -> list[tuple[str, Tolerance]]:
        return [(t.name, self.task.tolerances[t.name]) for t in self.task.signature.outputs]

    @abstractmethod
    def floor_us(self, workload: Workload, contents: Contents) -> float:
        """The roofline floor for these inputs, in microseconds."""

    @abstractmethod
    def check_clocks(self, timed: Timed) -> None:
        """Raise CandidateFailure if the clocks do not agree."""

    def settle_clocks(
        self, program: Program, timed: Timed, rng: np.random.Generator
    ) -> Mapping[Workload, str]:
        """The same for a search, whose worker has ended. Where the clocks are off by little, and
        the bench can, calls back to back decide; what a reader may like to know of them, by
        workload."""
        self.check_clocks(timed)
        return {}

    def check_confirmed(self, timed: Timed) -> None:
        """The same for a best that is confirmed, where a CPU's wall clock is the score anyway."""
        return None

    def check_back_to_back(
        self,
        program: Program,
        timed: Timed,
        rng: np.random.Generator,
    ) -> Mapping[Workload, str]:
        """Raise CandidateFailure if calls back to back show that single calls were told too short;
        else what a reader may like to know, by workload. timed: the confirmed calls."""
        return {}

    @property
    def can_diagnose(self) -> bool:
        """Whether a worker can say more of a program than its score (diagnosis.py)."""
        return False

    @abstractmethod
    def check_libraries(self, side: Side) -> None:
        """Raise CandidateFailure if a library was loaded where the task forbids them."""

    @property
    def floor_calls(self) -> int:
        """Of how many calls the floors are held to their own latencies: one, where the work of a
        call hardly depends on its contents."""
        return 1

    @property
    def confirm_min_blocks(self) -> int:
        """The least number of randomised blocks of a confirmation."""
        return self.settings.confirm_min_blocks

    @property
    def warmup_calls(self) -> int:
        """Untimed calls per workload and side."""
        return self.settings.warmup_calls

    @property
    def stays_warm(self) -> bool:
        """Whether a worker that has run a workload before needs none of them."""
        return False

    def slow_ns(self, baseline_ns: float) -> float:
        """A candidate whose calls all last longer than this is timed by few of them."""
        return self.settings.slow_factor * baseline_ns

    @property
    def slow_samples(self) -> int:
        """Calls of a workload on which a candidate is slow."""
        return self.settings.slow_samples

    @property
    def correctness_seeds(self) -> int:
        """Fresh inputs per workload before anything is timed."""
        return self.settings.correctness_seeds

    @property
    def verification_slots(self) -> int | None:
        """How many slots verifying takes; None: as many as there are."""
        return None

    def drawn_blocks(self, blocks: int, rng: np.random.Generator) -> set[int]:
        """Of so many blocks of a workload, those of which one call is verified in full."""
        return set(range(blocks))

    def confirm_calls(self, slots: int, baseline_ns: float) -> int:
        """Calls per workload, side and block of a confirmation, by the baseline's latency."""
        return slots

    @property
    def alive_at_once(self) -> int | None:
        """How many finalists' workers the device has room for; None: for any number."""
        return None

    @property
    def drawn_share(self) -> float:
        """The share of a confirmation's blocks of which one call is verified in full."""
        return 1.0

    @abstractmethod
    def blocks(self, baseline_ns: float, slots: int) -> Blocks:
        """The blocks of a workload in search, by the baseline's latency."""

    def block_slots(self, workload: Workload, baseline_ns: float) -> int | None:
        """How many slots the blocks of a workload take in search; None: as many as there are."""
        return None

    @abstractmethod
    def watch(self) -> Watch: ...

    def clocks_mhz(self) -> tuple[int, int] | None:
        """The lowest and the highest clock at which the device was seen, where it says so."""
        return None

    def device_errors(self) -> tuple[type[BaseException], ...]:
        """What the judge's own work on the device raises when a program left no room on it."""
        return ()

    def alone(self) -> AbstractContextManager[None]:
        """Hold the device for a whole evaluation or confirmation."""
        return nullcontext()

    def busy(self) -> AbstractContextManager[None]:
        """Compute, and be in nobody's timed block meanwhile."""
        return nullcontext()

    def quiet(self) -> AbstractContextManager[None]:
        """Time, and let nobody compute meanwhile."""
        return nullcontext()

    def close(self) -> None:  # noqa: B027 - a CPU has nothing to give back
        """Give back what the bench holds of the device."""


class _StealWatch(Watch):
    """The hypervisor's share of CPU time."""

    def __init__(self, limit: float) -> None:
        self._limit, self._clock = limit, StealClock()

    def restart(self) -> None:
        self._clock.share()

    def disturbed(self, baseline_us: Mapping[str, Sequence[float]]) -> bool:
        return self._clock.share() > self._limit


class CpuBench(Bench):
    """The machine is the device: the judge's wall clock is the score, and nothing else may compute
    while a block is timed (machine.py).

    parents: the warm parent for each language. threads: cores that both sides may use.
    """

    def __init__(
        self,
        task: NumpyTask,
        *,
        parents: Mapping[str, WarmParent],
        peaks: Peaks,
        settings: EvaluatorSettings,
        threads: int,
    ) -> None:
        self.task: NumpyTask = task
        self.settings = settings
        self._parents = parents
        self._peaks = peaks
        self._threads = threads

    def start(
        self,
        program: Program,
        workloads: Sequence[Workload],
        *,
        compiles: bool = False,
        diagnosed: bool = False,
    ) -> Side:
        settings = self.settings
        ring = HostRing(self.task.signature, workloads, settings.ring_slots)
        parent = self._parents[program.language]
        return loaded(Side(parent, program, self.task.signature, ring, settings, self._threads))

    def fresh(self, workload: Workload, rng: np.random.Generator) -> Arrays:
        inputs = private_inputs(self.task.signature, workload)
        self.task.fill(workload, rng, inputs)
        return inputs

    def near_duplicate(
        self, workload: Workload, contents: Contents, rng: np.random.Generator
    ) -> Arrays:
        copy: Arrays = {name: array.copy() for name, array in contents.items()}
        for tensor in self.task.signature.inputs:
            array = copy[tensor.name].reshape(-1)
            if tensor.index or tensor.fixed:
                continue
            if np.issubdtype(array.dtype, np.floating) and array.size:
                position = int(rng.integers(array.size))
                value = array[position]
                array[position] = 1 - value if np.isfinite(value) else 1
        return copy

    def expected(self, workload: Workload, contents: Contents) -> Arrays:
        return self.task.reference(workload, contents)

    def compare(
        self, name: str, actual: Any, expected: Any, tolerance: Tolerance
    ) -> Mismatch | None:
        return compare(name, actual, expected, tolerance)

    def near(self, actual: Any, baseline: Any, tolerance: Tolerance) -> bool:
        return near(actual, baseline, tolerance)

    def floor_us(self, workload: Workload, contents: Contents) -> float:
        return floor_us(self.task.work(workload, contents), self._peaks)

    def check_clocks(self, timed: Timed) -> None:
        candidate = [clocks for mine, _ in timed.values() for clocks in mine]
        baseline = [clocks for _, theirs in timed.values() for clocks in theirs]
        check_wake_clocks(candidate, baseline, self.settings)

    def check_libraries(self, side: Side) -> None:
        check_libraries(self.task, side, self._parents[side.program.language].pid)

    def blocks(self, baseline_ns: float, slots: int) -> Blocks:
        return Blocks(slots, self.settings.search_blocks, self.settings.search_max_blocks)

    def watch(self) -> Watch:
        return _StealWatch(self.settings.max_steal)

    def busy(self) -> AbstractContextManager[None]:
        return machine.busy()

    def quiet(self) -> AbstractContextManager[None]:
        return machine.quiet()

"""The suite protocol: what a task is, and how suites are found by name.

A task states, in one file: its prose and signature for prompts; workloads split into search, final
and held-out (never shown to a method); input generation from a seed; a vectorised reference in
float64; tolerances per output; named baselines; a roofline floor; one correct, naive starting
program per language; optionally a design space for the simulated model.

A `NumpyTask` lives on the CPU and works on numpy arrays; a `TorchTask` lives on an NVIDIA GPU and
works on torch tensors of whatever device it is given (tests run it on the CPU). Everything here is
used by the trusted judge only; candidate code never runs in a process that holds a task.

Standard library and numpy only; a TorchTask's own module imports torch inside its functions, so
that listing tasks does not wait for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from harness.design_space import DesignSpace
from harness.errors import UnknownName, UsageError
from harness.loading import load
from harness.types import Language, Workload, content_hash

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]
Arrays = dict[str, Array]

Device = Literal["cpu", "cuda"]
Dtype = Literal[
    "float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "int32", "int64"
]  # fmt: skip
# bfloat16 and float8_e4m3fn are no numpy types, so the sizes are written out.
ITEM_BYTES: Mapping[Dtype, int] = {
    "float32": 4, "float64": 8, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "int32": 4,
    "int64": 8,
}  # fmt: skip

SUITES: dict[str, str] = {
    "cpu": "suites.cpu:suite",
    "gpumode": "suites.gpumode:suite",
    "flashinfer": "suites.flashinfer:suite",
    "trimul": "suites.gpumode:trimul",  # gpumode, with the scored TriMul alone by default
}


@dataclass(frozen=True)
class Axis:
    """A named size. Every axis is an int64 field of the Inputs struct that a candidate receives."""

    name: str
    doc: str


@dataclass(frozen=True)
class Tensor:
    """One input or output: row-major, contiguous, 64-byte aligned (256-byte on a GPU).

    shape: axis names or integers. index: index metadata (page tables, row pointers): the only
    contents that `plan` may see. fixed: the task promises something of the contents that a single
    changed element would break (all ones), so near-duplicates leave them alone. The 16-bit
    and 8-bit types are for TorchTasks only.
    """

    name: str
    dtype: Dtype
    shape: tuple[str | int, ...]
    doc: str
    index: bool = False
    fixed: bool = False

    def sizes(self, axes: Mapping[str, int]) -> tuple[int, ...]:
        """The concrete shape for a workload's axes. Raises KeyError for an axis that it lacks."""
        return tuple(axes[s] if isinstance(s, str) else s for s in self.shape)

    def bytes(self, axes: Mapping[str, int]) -> int:
        """The size of a workload's contents."""
        count = ITEM_BYTES[self.dtype]
        for size in self.sizes(axes):
            count *= size
        return count


@dataclass(frozen=True)
class Signature:
    """The interface of a candidate: axes, then input tensors, then output tensors, in this
    order."""

    axes: tuple[Axis, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Tolerance:
    """When an output counts as correct: every element |x - ref| <= absolute + relative * |ref|, and
    ||x - ref|| <= norm * ||ref|| (Frobenius). Where the reference is not finite, x must be equal to
    it; where it is finite, x must be finite. why: how the numbers were calibrated.

    matched: the share of the elements that must keep to the first rule; all keep to the others.
    exact_zeros: where the reference is 0, x must be 0, and these elements count for no share. For
    outputs whose rows without work would otherwise pass in place of those with work.
    """

    absolute: float
    relative: float
    norm: float
    why: str
    matched: float = 1.0
    exact_zeros: bool = False


@dataclass(frozen=True)
class PublishedGate:
    """The rule that kernels of a task were published under elsewhere, for comparison only. An
    element is right if |x - ref| <= absolute or |x - ref| <= relative * (|ref| + 1e-8), and this
    share of an output's elements must be; all of it must be finite. source: whose rule it is."""

    absolute: float
    relative: float
    matched: float
    source: str


@dataclass(frozen=True)
class Work:
    """What these inputs require at the least: floating-point operations, and bytes that must be
    read or written once. The roofline floor is max(flops / peak, bytes / bandwidth) of the device;
    on a GPU the peak is that of the 16-bit tensor cores, the fastest that any task's tolerance
    allows."""

    flops: float
    bytes: float


@dataclass(frozen=True)
class Baseline:
    """A named implementation that the score is relative to; trusted, run in a worker of its own.

    source: a Python program in the evaluator's python language (see docs/tasks.md).
    """

    name: str
    version: str
    source: str
    language: Language = "python"

    @property
    def identity(self) -> list[str]:
        """[name, version, hash of the program]: what a score that is relative to it depends on."""
        return [self.name, self.version, content_hash(self.source)]


def baseline_in_words(identity: Sequence[str]) -> str:
    """A baseline's identity for a message. Of an old manifest the name alone is known."""
    name, *rest = identity
    return f"{name} {rest[0]} (program {rest[1][:8]})" if rest else name


class Task(ABC):
    """One problem: the attributes that both kinds of task share, constants of the task; bump
    `version` when any of them changes. Write a NumpyTask or a TorchTask."""

    device: ClassVar[Device]
    name: str
    version: str
    title: str
    prose: str  # what to compute, for prompts: semantics, layouts, edge cases, what is allowed
    signature: Signature
    libraries: Literal["forbidden", "allowed"] = "forbidden"
    search: tuple[Workload, ...]
    final: tuple[Workload, ...]
    held_out: tuple[Workload, ...]
    tests: tuple[Workload, ...] = ()  # verified like `final` when a best is confirmed, never timed
    tolerances: Mapping[str, Tolerance]  # per output name
    baselines: tuple[Baseline, ...]  # the first is the one that the score is relative to
    starts: Mapping[Language, str]  # correct, naive programs
    design_space: DesignSpace | None = None
    # Inputs of the task's published definition that are no tensors, in their order: a number, or
    # the name of the axis that has the value. For programs from elsewhere (harness/interchange).
    solution_scalars: Mapping[str, int | float | str] = {}
    published_gate: PublishedGate | None = None  # for `harness reproduce --kernels`
    # What a manifest and a report must say of this task, such as where its inputs come from.
    notes: Mapping[str, str] = MappingProxyType({})

    @property
    def workloads(self) -> dict[str, Workload]:
        """Every workload of every split by name. A name in two splits is the same workload."""
        splits = (*self.search, *self.final, *self.held_out, *self.tests)
        return {w.name: w for w in splits}

    def start(self, language: Language) -> str:
        """The starting program. Raises UnknownName if the task has none in this language."""
        if language not in self.starts:
            raise UnknownName(f"language for task {self.name}", language, self.starts)
        return self.starts[language]


class NumpyTask(Task):
    """A task on the CPU, by numpy."""

    device: ClassVar[Device] = "cpu"

    @abstractmethod
    def fill(self, workload: Workload, rng: np.random.Generator, inputs: Arrays) -> None:
        """Write one call's fresh contents into every input array, in place, index metadata
        included."""

    @abstractmethod
    def reference(self, workload: Workload, inputs: Arrays) -> Arrays:
        """The expected outputs in float64 (integers as they are), newly allocated."""

    @abstractmethod
    def work(self, workload: Workload, inputs: Arrays) -> Work:
        """The floor's operands for these inputs."""


class TorchTask(Task):
    """A task on an NVIDIA GPU, by torch. Contents are a function of (workload, generator's seed),
    so that the judge can make a call's inputs again instead of keeping them."""

    device: ClassVar[Device] = "cuda"
    work_varies: ClassVar[bool] = False
    """Whether the work of a call depends on its contents, such as which experts are chosen."""

    @abstractmethod
    def fill(
        self, workload: Workload, generator: torch.Generator, inputs: Mapping[str, torch.Tensor]
    ) -> None:
        """Write one call's fresh contents into every input tensor, in place, on the tensors'
        device, drawing from `generator` (of that device) alone. No host synchronisation."""

    @abstractmethod
    def reference(
        self, workload: Workload, inputs: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """The expected outputs in float64 (integers as they are), newly allocated on the inputs'
        device; memory beyond the outputs bounded by chunking. The inputs must not be written: the
        same copy fills slots."""

    @abstractmethod
    def work(self, workload: Workload, inputs: Mapping[str, torch.Tensor]) -> Work:
        """The floor's operands for these inputs, which must not be written."""


@dataclass(frozen=True)
class Suite:
    """A named set of tasks. default_tasks: what `make compare` runs when TASKS is not given.
    language: what candidates are written in unless the user says otherwise.

    packages: what its baselines need beyond torch, as pip takes it, with versions. prepare: the
    module that makes these ready, run once as `python -m` on a machine with a GPU. An image that
    is made ahead has both (harness/evaluate/modal); elsewhere the user sees to them, and a suite
    does without where they are missing."""

    name: str
    title: str
    tasks: tuple[Task, ...]
    default_tasks: tuple[str, ...]
    language: Language
    packages: tuple[str, ...] = ()
    prepare: str | None = None

    @property
    def device(self) -> Device:
        """Where its tasks live: one device for all of a suite."""
        return self.tasks[0].device

    def task(self, name: str) -> Task:
        """The task called `name`. Raises UnknownName with did-you-mean."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise UnknownName(f"task of suite {self.name}", name, [t.name for t in self.tasks])


def load_suite(name: str) -> Suite:
    """A suite by name ("cpu") or "module:attribute". Raises UnknownName or UsageError."""
    suite = load("suite", name, SUITES)
    if not isinstance(suite, Suite):
        raise UsageError(f"{name!r} is a {type(suite).__name__}, expected a harness.suite.Suite.")
    return suite

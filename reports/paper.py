"""The paper's table, as shipped in published/ksearch.json, as a typed record.

Covered: the table, what is claimed, an earlier re-measurement, sources, what is not known; and the
checks: every task has every method, values are in range, the published means agree with the table
within rounding. Not covered: curves (paper_curves.py); TriMul, whose tables the leaderboard ships
(leaderboard.py); what follows from the figures (paper_means.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from harness.errors import LogError
from harness.remeasured import Means

# Task values are published with one decimal, so their mean is known to half of that.
ROUNDING_PERCENT = 0.05
STRICT = ConfigDict(extra="forbid", strict=True)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Value:
    """One published figure, in per cent of FlashInfer, and where it stands."""

    __pydantic_config__ = STRICT
    percent: float
    where: str


@dataclass(frozen=True)
class Score:
    """A method on a task. values: more than one where the paper contradicts itself, its own text
    first. lowest, highest: of the single runs, read off a figure; None where it cannot be."""

    __pydantic_config__ = STRICT
    method: str
    values: tuple[Value, ...]
    lowest: float | None
    highest: float | None

    def __post_init__(self) -> None:
        if not self.values or any(not 0 < value.percent < 1000 for value in self.values):
            raise ValueError(f"{self.method}: needs values above 0, got {self.values}")
        if (self.lowest is None) != (self.highest is None):
            raise ValueError(f"{self.method}: lowest and highest belong together")
        if self.lowest is not None and self.highest is not None:
            inside = (self.lowest <= value.percent <= self.highest for value in self.values)
            if not all(inside):
                raise ValueError(f"{self.method}: a value is outside its own range")

    @property
    def percent(self) -> float:
        """What the paper itself says."""
        return self.values[0].percent


@dataclass(frozen=True)
class PaperTask:
    """A row of the table. names: of our tasks that are this one,
    the most alike first; the first is the definition's. workloads:
    how many it has. kernels: the folder of its published kernels in their repository."""

    __pydantic_config__ = STRICT
    title: str
    names: tuple[str, ...]
    hardware: str
    workloads: int
    kernels: str
    scores: tuple[Score, ...]

    def score(self, method: str) -> Score:
        return next(score for score in self.scores if score.method == method)

    def label(self, name: str) -> str:
        """The title, with the variant that one of our tasks is."""
        _, at, variant = name.partition("@")
        return f"{self.title} {at}{variant}" if at else self.title


@dataclass(frozen=True)
class PaperMethod:
    """A column of the table. method: the name of our method that is this one."""

    __pydantic_config__ = STRICT
    name: str
    method: str


@dataclass(frozen=True)
class MethodMean:
    """The table's last row, as published."""

    __pydantic_config__ = STRICT
    method: str
    percent: float


@dataclass(frozen=True)
class Claimed:
    """The headline: K-Search against `over`, on average and at most, as ratios."""

    __pydantic_config__ = STRICT
    over: str
    average: float
    largest: float
    where: str


@dataclass(frozen=True)
class RemeasuredScore:
    """Means over workloads of baseline / candidate latency, as ratios."""

    __pydantic_config__ = STRICT
    method: str
    arithmetic: float
    geometric: float
    note: str

    def __post_init__(self) -> None:
        if not 0 < self.geometric <= self.arithmetic:
            raise ValueError(f"{self.method}: a geometric mean is above 0, and no arithmetic one")


@dataclass(frozen=True)
class RemeasuredTask:
    __pydantic_config__ = STRICT
    title: str
    workloads: int
    scores: tuple[RemeasuredScore, ...]


@dataclass(frozen=True)
class Remeasurement:
    """The published kernels, measured once on another card."""

    __pydantic_config__ = STRICT
    hardware: str
    software: str
    measured_by: str
    conditions: str
    note: str
    tasks: tuple[RemeasuredTask, ...]

    @property
    def scores(self) -> dict[tuple[str, str], Means]:
        """By (task's title, method)."""
        return {
            (task.title, score.method): Means(score.arithmetic, score.geometric)
            for task in self.tasks
            for score in task.scores
        }


@dataclass(frozen=True)
class Kernels:
    """Where the published kernels are. trimul: the folder of those of GPUMode's task; the others'
    are with their tasks."""

    __pydantic_config__ = STRICT
    repository: str
    trimul: str
    workloads: str
    shipped: str


@dataclass(frozen=True)
class Source:
    __pydantic_config__ = STRICT
    of: str
    what: str


@dataclass(frozen=True)
class Paper:
    """All that is shipped of the paper but its curves. statistic: what one value is. unknown: what
    the paper does not say."""

    __pydantic_config__ = STRICT
    format: Literal[1]
    title: str
    reference: str
    repository: str
    statistic: str
    runs: int
    charges: int
    model: str
    methods: tuple[PaperMethod, ...]
    suites: tuple[str, ...]
    tasks: tuple[PaperTask, ...]
    means: tuple[MethodMean, ...]
    claimed: Claimed
    remeasured: Remeasurement
    kernels: Kernels
    sources: tuple[Source, ...]
    unknown: tuple[str, ...]

    def __post_init__(self) -> None:
        names = [method.name for method in self.methods]
        titles = [task.title for task in self.tasks]
        rows = [[score.method for score in task.scores] for task in self.tasks]
        rows += [[score.method for score in task.scores] for task in self.remeasured.tasks]
        for row in (*rows, [mean.method for mean in self.means]):
            if row != names:
                raise ValueError(f"a row does not have the methods {names} in this order")
        if unknown := [t.title for t in self.remeasured.tasks if t.title not in titles]:
            raise ValueError(f"re-measured tasks that are not in the table: {unknown}")
        for task in self.remeasured.tasks:
            if task.workloads > self.task(task.title).workloads:
                raise ValueError(f"{task.title}: more workloads re-measured than there are")
        for mean in self.means:
            found = sum(task.score(mean.method).percent for task in self.tasks) / len(titles)
            if abs(found - mean.percent) > ROUNDING_PERCENT:
                raise ValueError(f"{mean.method}: mean {mean.percent}, of its values {found:.3f}")

    @property
    def hardware(self) -> str:
        """The cards in few words, e.g. "H100; MoE fp8 on B200"."""
        cards = [task.hardware for task in self.tasks]
        usual = max(dict.fromkeys(cards), key=cards.count)
        other = [f"{t.title} on {t.hardware}" for t in self.tasks if t.hardware != usual]
        return "; ".join([usual, *other])

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(method.name for method in self.methods)

    def task(self, title: str) -> PaperTask:
        return next(task for task in self.tasks if task.title == title)

    def mean(self, method: str) -> float:
        return next(mean.percent for mean in self.means if mean.method == method)

    def task_named(self, suite: str, name: str) -> PaperTask | None:
        """The paper's task that one of ours is. The suite counts too: another suite's task of the
        same name may have other sizes."""
        found = (task for task in self.tasks if name in task.names)
        return next(found, None) if suite in self.suites else None

    def place(self, name: str) -> int:
        """Where one of our tasks is among the variants of the paper's, the most alike first."""
        order = {name: place for task in self.tasks for place, name in enumerate(task.names)}
        return order.get(name, 0)

    def method_named(self, method: str) -> str | None:
        """The paper's name of one of our methods."""
        return next((m.name for m in self.methods if m.method == method), None)


def read_paper() -> Paper:
    """The table, with its sources. Raises LogError where it is not whole."""
    return read_shipped("ksearch.json", Paper)


def read_shipped(name: str, kind: type[_T]) -> _T:
    """A file of published/ as a record. Raises LogError."""
    try:
        text = files("reports").joinpath("published", name).read_text(encoding="utf-8")
        return TypeAdapter(kind).validate_json(text)
    except (OSError, ValidationError) as error:
        raise damaged(name, error) from error


def damaged(name: str, error: Exception) -> LogError:
    """What to say of a file of published/ that does not hold what it should."""
    return LogError(
        f"The published figures in reports/published/{name} are not whole: {error}. Install the "
        "harness again, or restore the file."
    )

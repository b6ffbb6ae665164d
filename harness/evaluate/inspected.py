"""What an inspection finds, as records: verdicts by workload, times in two modes, observations.

Covered: the records, their JSON, and the narrow door through which a worker's report on itself
comes in. Not covered: how they are made (inspection.py); what they mean (harness/leaderboard.py).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from harness.types import JsonObject, Status

Split = Literal["final", "tests", "held_out"]
SPLITS: tuple[Split, ...] = get_args(Split)

_MOST_FACTS = 16
_MOST_CHARACTERS = 120
# The fields of `Observed` that hold texts.
_TEXTS = (
    "keys_added", "values_replaced", "tensor_attributes", "settings_changed", "returned_inputs",
    "module_tensors",
)  # fmt: skip
_REUSED = "reused_outputs"


@dataclass(frozen=True)
class Checked:
    """One workload's verdict. check and message: what failed, "" where nothing did. published: the
    same under the gate that the task's kernels were published under; what breaks this evaluator's
    protocol passes neither. None: the task has no such gate."""

    workload: str
    split: Split
    status: Status
    check: str = ""
    message: str = ""
    published: Status | None = None
    published_message: str = ""

    @property
    def passed(self) -> bool:
        return self.status is Status.PASSED


@dataclass(frozen=True)
class Timed:
    """One workload's times, in microseconds of the score's clock, one for each call.

    fresh_us: inputs refilled and containers made anew before every call; what counts. reused_us:
    calls on contents that were written once, in the same containers; a diagnostic. host_us: median
    until the function had returned, fresh. problem: why the fresh times count for nothing (wrong
    outputs, clocks that disagree, a time below the floor, a crash), reused_problem: what went wrong
    with reused inputs. Either may be without times. plan_us, baseline_plan_us: medians of the
    plan before the call, None where a side has none. diagnostics: what the worker says beyond them
    (diagnosis.py).
    """

    workload: str
    floor_us: float
    fresh_us: tuple[float, ...] = ()
    reused_us: tuple[float, ...] = ()
    baseline_us: tuple[float, ...] = ()
    host_us: float | None = None
    problem: str | None = None
    reused_problem: str | None = None
    flags: tuple[str, ...] = ()
    plan_us: float | None = None
    baseline_plan_us: float | None = None
    diagnostics: Mapping[str, float] = field(default_factory=dict)

    @property
    def fresh(self) -> float | None:
        """The median, None without a sample."""
        return statistics.median(self.fresh_us) if self.fresh_us else None

    @property
    def reused(self) -> float | None:
        return statistics.median(self.reused_us) if self.reused_us else None

    @property
    def baseline(self) -> float | None:
        return statistics.median(self.baseline_us) if self.baseline_us else None


@dataclass(frozen=True)
class Observed:
    """What the submission's own worker saw of it: facts for a reader, not for a verdict.

    keys_added, values_replaced: of the dictionaries that it was given. tensor_attributes: set on
    tensors that it was given. settings_changed: of torch. returned_inputs: inputs in whose memory a
    result lay. module_tensors: global names that hold tensors. reused_outputs: calls whose result
    lay in the memory of the result before.
    """

    keys_added: tuple[str, ...] = ()
    values_replaced: tuple[str, ...] = ()
    tensor_attributes: tuple[str, ...] = ()
    settings_changed: tuple[str, ...] = ()
    returned_inputs: tuple[str, ...] = ()
    module_tensors: tuple[str, ...] = ()
    calls: int = 0
    reused_outputs: int = 0

    def merged(self, other: Observed) -> Observed:
        """Both, of two workers."""
        texts = {
            name: tuple(sorted({*getattr(self, name), *getattr(other, name)})) for name in _TEXTS
        }
        return replace(
            self,
            **texts,
            calls=self.calls + other.calls,
            reused_outputs=self.reused_outputs + other.reused_outputs,
        )


@dataclass(frozen=True)
class Inspection:
    """One program on one task. build_failure: why nothing could be run. baseline: its name."""

    task: str
    version: str
    baseline: str
    checked: tuple[Checked, ...] = ()
    timed: tuple[Timed, ...] = ()
    observed: Observed = Observed()
    build_failure: str | None = None
    device_seconds: float = 0.0

    def failures(self, *splits: Split) -> tuple[Checked, ...]:
        """What did not pass, in these splits."""
        return tuple(c for c in self.checked if c.split in splits and not c.passed)

    def passed(self, *splits: Split) -> bool:
        """Whether something was checked there, and all of it passed."""
        looked = any(c.split in splits for c in self.checked)
        return looked and not self.failures(*splits)


def observed_from_worker(report: Mapping[str, object]) -> Observed:
    """A worker's report with everything dropped that an honest one does not hold, and bounded."""
    facts: dict[str, Any] = {}
    for name in _TEXTS:
        values = report.get(name)
        texts = [v for v in values if isinstance(v, str)] if isinstance(values, list) else []
        facts[name] = tuple(_clean(text) for text in texts[:_MOST_FACTS])
    made = replace(Observed(), **facts)
    return replace(made, calls=_count(report, "calls"), reused_outputs=_count(report, _REUSED))


def _count(report: Mapping[str, object], name: str) -> int:
    value = report.get(name)
    return min(max(value, 0), 1 << 31) if type(value) is int else 0


def _clean(text: str) -> str:
    whole = text[:_MOST_CHARACTERS].encode("utf-8", "replace").decode("utf-8")
    return "".join(c if c.isprintable() else "?" for c in whole)


def inspection_to_json(inspection: Inspection) -> JsonObject:
    return asdict(inspection)


def _checked_from_json(row: JsonObject) -> Checked:
    published = None if row["published"] is None else Status(row["published"])
    return Checked(**{**row, "status": Status(row["status"]), "published": published})


def inspection_from_json(data: JsonObject) -> Inspection:
    """The inverse. Raises KeyError, TypeError or ValueError for something else."""
    checked = [_checked_from_json(row) for row in data["checked"]]
    lists = ("fresh_us", "reused_us", "baseline_us", "flags")
    timed = [Timed(**{**row, **{n: tuple(row[n]) for n in lists}}) for row in data["timed"]]
    observed = data["observed"]
    seen = Observed(**{**observed, **{name: tuple(observed[name]) for name in _TEXTS}})
    return Inspection(
        **{**data, "checked": tuple(checked), "timed": tuple(timed), "observed": seen}
    )

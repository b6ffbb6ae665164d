"""Published kernels measured on this machine: the record that `harness reproduce` shows.

One kernel is one file of somebody's on one task, whole: a verdict on every workload under two gates
(this project's, and the one that it was published under), and where a gate lets it pass, its time
beside the baseline's. Baseline and kernel may have a plan phase (index metadata is prepared before
the call). Speedups are given with plan outside (the calls alone) and inside (each side's own plan
added to its call), since it is not known how published times treat it.

A kernel has a mean under a gate only if it passes that gate on every workload and has a time on
each: a failed workload is never averaged away.

Covered: the record, its checks, its JSON (remeasured.json, format 1), means and fast_p by gate and
by plan. Not covered: how kernels are found and measured; words and tables
(reports/paper_kernels.py).
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from harness.errors import LogError
from harness.folder import write_text
from harness.types import JsonObject, Status, geometric_mean

FORMAT = 1
RECORD = "remeasured.json"
Gate = Literal["ours", "published"]
GATES: tuple[Gate, ...] = get_args(Gate)
Plan = Literal["outside", "inside"]
PLANS: tuple[Plan, ...] = get_args(Plan)


@dataclass(frozen=True)
class Means:
    """Baseline / candidate latency over the workloads of a task, by either mean."""

    arithmetic: float
    geometric: float


@dataclass(frozen=True)
class RemeasuredWorkload:
    """One workload. All times in microseconds, medians of one session.

    ours, published: the verdict under either gate, with what failed. latency_us, baseline_us: of
    the call; both or neither. plan_us, baseline_plan_us: of the plan before it; None where a side
    has none. problem: why a program that passes a gate has no valid time.
    """

    workload: str
    ours: Status
    published: Status
    ours_message: str = ""
    published_message: str = ""
    latency_us: float | None = None
    baseline_us: float | None = None
    plan_us: float | None = None
    baseline_plan_us: float | None = None
    problem: str = ""

    def __post_init__(self) -> None:
        times = (self.latency_us, self.baseline_us)
        passed = any(self.passed(gate) for gate in GATES)
        if (times[0] is None) != (times[1] is None):
            raise ValueError(f"{self.workload}: latency and baseline are timed together or not")
        if times[0] is not None and not passed:
            raise ValueError(f"{self.workload}: passes no gate, so it has no time")
        if passed and (times[0] is None) == (not self.problem):
            raise ValueError(
                f"{self.workload}: needs a time, or a problem that says why it has none"
            )
        for value in (*times, self.plan_us, self.baseline_plan_us):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{self.workload}: a time must be finite and > 0, got {value}")

    def passed(self, gate: Gate) -> bool:
        return (self.ours if gate == "ours" else self.published) is Status.PASSED

    def message(self, gate: Gate) -> str:
        return self.ours_message if gate == "ours" else self.published_message

    def speedup(self, plan: Plan) -> float | None:
        """Baseline / candidate; None without times."""
        if self.latency_us is None or self.baseline_us is None:
            return None
        if plan == "outside":
            return self.baseline_us / self.latency_us
        baseline = self.baseline_us + (self.baseline_plan_us or 0.0)
        return baseline / (self.latency_us + (self.plan_us or 0.0))


@dataclass(frozen=True)
class RemeasuredKernel:
    """One published kernel. task: of this project's suite. method: this project's name of the
    method that found it. failure: why none of it could be run; then it has no workloads. held_out:
    the verdict on held-out workloads, None if they were not run; it never changes a mean."""

    task: str
    method: str
    name: str
    source_hash: str
    workloads: tuple[RemeasuredWorkload, ...] = ()
    held_out: Status | None = None
    held_out_message: str = ""
    failure: str = ""

    def __post_init__(self) -> None:
        if bool(self.workloads) == bool(self.failure):
            raise ValueError(f"{self.name}: needs workloads, or a failure that says why not")
        names = [workload.workload for workload in self.workloads]
        if len(names) != len(set(names)):
            raise ValueError(f"{self.name}: a workload occurs twice")

    def right(self, gate: Gate) -> int:
        """On how many workloads it passes a gate."""
        return sum(workload.passed(gate) for workload in self.workloads)

    def speedups(self, gate: Gate, plan: Plan) -> tuple[float | None, ...]:
        """By workload; None where it does not pass or has no time."""
        return tuple(w.speedup(plan) if w.passed(gate) else None for w in self.workloads)

    def means(self, gate: Gate, plan: Plan) -> Means | None:
        """None where a workload failed or has no time: then there is no score."""
        speedups = self.speedups(gate, plan)
        known = [speedup for speedup in speedups if speedup is not None]
        if not known or len(known) < len(speedups):
            return None
        return Means(sum(known) / len(known), geometric_mean(known))

    def fast(self, gate: Gate, plan: Plan, p: float) -> float | None:
        """fast_p: the fraction of workloads that pass at p times the baseline or more; a failed one
        counts as slower. None where nothing could be run."""
        speedups = self.speedups(gate, plan)
        return sum(s is not None and s >= p for s in speedups) / len(speedups) if speedups else None


@dataclass(frozen=True)
class Remeasured:
    """All kernels of one session. date: ISO 8601, UTC. hardware: what was measured on. baseline:
    its name and version. gates: what either gate asks for, in words. machine, packages, git,
    evaluator: as in a comparison's manifest."""

    date: str
    hardware: str
    baseline: str
    gates: dict[str, str]
    git: JsonObject
    machine: JsonObject
    packages: JsonObject
    evaluator: JsonObject
    kernels: tuple[RemeasuredKernel, ...]

    def __post_init__(self) -> None:
        if set(self.gates) != set(GATES):
            raise ValueError(f"gates needs the keys {', '.join(GATES)}, got {sorted(self.gates)}")


def to_json(record: Remeasured) -> JsonObject:
    """The whole record; means are written out for other readers."""
    kernels = []
    for kernel in record.kernels:
        data = asdict(kernel)
        data["means"] = {
            f"{gate}, plan {plan}": asdict(means) if means is not None else None
            for gate in GATES
            for plan in PLANS
            for means in (kernel.means(gate, plan),)
        }
        kernels.append(data)
    plain = {f.name: getattr(record, f.name) for f in fields(record) if f.name != "kernels"}
    return {"format": FORMAT, "kind": "remeasured", **plain, "kernels": kernels}


def write_remeasured(folder: Path, record: Remeasured) -> Path:
    """Write `folder`/remeasured.json; its path."""
    path = folder / RECORD
    write_text(path, json.dumps(to_json(record), indent=1) + "\n")
    return path


def read_remeasured(folder: Path) -> Remeasured:
    """The record in a folder. Raises LogError."""
    path = folder / RECORD
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LogError(
            f"Cannot read {path}: {error.strerror}. Measure the kernels again."
        ) from error
    except ValueError as error:
        raise LogError(f"{path} is no JSON: {error}. Measure the kernels again.") from error
    if not isinstance(data, dict) or (data.get("format"), data.get("kind")) != (
        FORMAT,
        "remeasured",
    ):
        raise LogError(f"{path} is no record of kernels of format {FORMAT}. Measure them again.")
    try:
        plain = {f.name: data[f.name] for f in fields(Remeasured) if f.name != "kernels"}
        return Remeasured(**plain, kernels=tuple(_kernel(row) for row in data["kernels"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LogError(f"{path} is not whole ({error!r}). Measure the kernels again.") from error


def _kernel(data: dict[str, Any]) -> RemeasuredKernel:
    row = {f.name: data[f.name] for f in fields(RemeasuredKernel)}
    row["held_out"] = None if row["held_out"] is None else Status(row["held_out"])
    row["workloads"] = tuple(_workload(workload) for workload in row["workloads"])
    return RemeasuredKernel(**row)


def _workload(data: dict[str, Any]) -> RemeasuredWorkload:
    row = {f.name: data[f.name] for f in fields(RemeasuredWorkload)}
    return RemeasuredWorkload(
        **row | {"ours": Status(row["ours"]), "published": Status(row["published"])}
    )

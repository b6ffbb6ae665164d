"""The vocabulary: what a workload, a candidate and an evaluation are. Nothing else defines them.

Covered: plain frozen records and their JSON form (`to_json`, `evaluation_from_json`).
Not covered: behaviour. Suites make workloads, the evaluator makes evaluations, methods make
candidates.

Illegal states cannot be built: an `Evaluation` has an `outcome` that is either `Passed` (and then
has a latency for *every* workload asked for) or `Failed` (and then has no latency at all). A failed
workload voids the score; it is never averaged away. One objective, named: the score is the
geometric mean over workloads of baseline latency / candidate latency (dimensionless; higher is
better).

Standard library only: this module also runs on a bare GPU machine and inside a container image.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal

JsonScalar = str | int | float | bool | None
JsonObject = dict[str, Any]  # raw JSON, at the edges only

Language = Literal["cpp", "python", "triton", "cuda"]
LANGUAGES: tuple[Language, ...] = ("cpp", "python", "triton", "cuda")


class Status(StrEnum):
    """The verdict on one candidate. Everything but PASSED means: no score."""

    PASSED = "PASSED"
    NO_CODE = "NO_CODE"
    COMPILE_ERROR = "COMPILE_ERROR"
    RUNTIME_ERROR = "RUNTIME_ERROR"
    TIMEOUT = "TIMEOUT"
    INCORRECT_SHAPE = "INCORRECT_SHAPE"
    INCORRECT_DTYPE = "INCORRECT_DTYPE"
    INCORRECT_NUMERICAL = "INCORRECT_NUMERICAL"
    REJECTED = "REJECTED"  # broke a rule of the protocol; the evidence says which
    INFRA_ERROR = "INFRA_ERROR"  # ours; never charged, never shown to a method


class Phase(StrEnum):
    """Why a candidate is evaluated: during search (few samples) or to confirm the best (many)."""

    SEARCH = "search"
    CONFIRM = "confirm"


class Stage(StrEnum):
    """Where an evaluation stopped. The stages run in this order and stop at the first failure."""

    PARSE = "parse"
    BUILD = "build"
    SMOKE = "smoke"  # the smallest workload, once
    CORRECTNESS = "correctness"  # all workloads, at least 3 fresh seeds
    TIMING = "timing"


@dataclass(frozen=True)
class Workload:
    """One problem size of a task.

    name: unique within the task. axes: the value of every axis that the task's signature names.
    """

    name: str
    axes: Mapping[str, int] = field(hash=False)


@dataclass(frozen=True)
class Candidate:
    """One program for one task.

    parent: the id of the program that it was derived from, where the method tells. note: the
    method's own words on what it tried (at most 300 characters are kept). Neither is part of the
    identity.
    """

    language: Language
    source: str
    parent: str | None = field(default=None, compare=False)
    note: str = field(default="", compare=False)

    @property
    def id(self) -> str:
        """Content hash: 16 hex digits of blake2b over the language and the source."""
        return content_hash(f"{self.language}\n{self.source}")


@dataclass(frozen=True)
class NoCode:
    """A proposal that holds no program: an unusable reply, a failed patch, a rejected novelty.

    Costs one charge, like an evaluated candidate.
    """

    reason: str


Proposal = Candidate | NoCode


@dataclass(frozen=True)
class Measurement:
    """One workload of a candidate that passed. All latencies in microseconds, by the score clock.

    latency_us, baseline_us: medians over the samples of each side, interleaved in one session.
    speedup: baseline / candidate, from paired blocks; speedup_low..speedup_high: its 95 % interval.
    floor_us: the roofline floor on this device. samples: timed calls of the candidate. plan_us,
    baseline_plan_us, host_us: median time of the untimed plan calls, and of the host's part of a
    GPU call (None: has none). flags: things a reader should know ("below 1.2 x floor").
    diagnostics: what the worker says of itself (evaluate/diagnosis.py), never part of the score.
    """

    workload: str
    latency_us: float
    baseline_us: float
    speedup: float
    speedup_low: float
    speedup_high: float
    floor_us: float
    samples: int
    plan_us: float | None = None
    flags: tuple[str, ...] = ()
    host_us: float | None = None
    baseline_plan_us: float | None = None
    diagnostics: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name in ("latency_us", "baseline_us", "speedup"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be finite and > 0, got {value} ({self.workload})")


@dataclass(frozen=True)
class Passed:
    """Correct on every workload asked for, and timed on each. score_low..score_high: 95 %
    interval."""

    measurements: tuple[Measurement, ...]
    score_low: float
    score_high: float
    status: Literal[Status.PASSED] = Status.PASSED

    def __post_init__(self) -> None:
        if not self.measurements:
            raise ValueError("Passed needs a measurement for every workload; got none")

    @property
    def score(self) -> float:
        """Geometric mean over workloads of baseline / candidate latency."""
        return geometric_mean([m.speedup for m in self.measurements])

    @property
    def arithmetic_mean(self) -> float:
        """Arithmetic mean over workloads of the speedups (shown beside the score, never as the
        score)."""
        return sum(m.speedup for m in self.measurements) / len(self.measurements)


@dataclass(frozen=True)
class Failed:
    """Why a candidate has no score.

    check: the name of the check that failed ("compile", "inputs_changed", "late_write",
    "tolerance", ...). workload: the first workload it failed on. message: one normalised, bounded
    text. evidence: small facts that support the verdict (numbers, signal names, exit codes).
    """

    status: Status
    stage: Stage
    check: str
    message: str
    workload: str | None = None
    evidence: Mapping[str, JsonScalar] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.status is Status.PASSED:
            raise ValueError("a failure cannot have the status PASSED")


@dataclass(frozen=True)
class Evaluation:
    """The evaluator's answer for one proposal.

    candidate_id: None for NO_CODE. seconds: what the evaluation cost on the device when it was
    measured (a cache hit charges the same seconds again). feedback: the one normalised, bounded
    text that every method shows to its model. samples_us: the raw samples, candidate then baseline,
    per workload.
    """

    candidate_id: str | None
    phase: Phase
    outcome: Passed | Failed
    feedback: str
    build_seconds: float = 0.0
    device_seconds: float = 0.0
    cached: bool = field(default=False, compare=False)
    samples_us: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = field(
        default_factory=dict, hash=False, compare=False
    )

    @property
    def status(self) -> Status:
        return self.outcome.status

    @property
    def score(self) -> float | None:
        """Geometric-mean speedup over the baseline, or None if the candidate did not pass."""
        return self.outcome.score if isinstance(self.outcome, Passed) else None

    @property
    def passed(self) -> bool:
        return isinstance(self.outcome, Passed)

    @property
    def seconds(self) -> float:
        return self.build_seconds + self.device_seconds


@dataclass(frozen=True)
class Finalist:
    """One candidate in a confirmation.

    final: outcome on the final workloads. held_out: a verdict on the held-out ones (None: not
    reached); it never selects. block_log_speedups: per randomised block, the log of the
    geometric-mean speedup over the baseline (natural log; empty unless passed); blocks of all
    finalists of a session are paired.
    """

    candidate_id: str
    final: Passed | Failed
    held_out: Status | None
    held_out_message: str = ""
    block_log_speedups: tuple[float, ...] = ()


@dataclass(frozen=True)
class Confirmation:
    """Finalists of one task, timed together on one device in one session as randomised blocks."""

    task: str
    baseline: str
    finalists: tuple[Finalist, ...]
    blocks: int
    device_seconds: float
    capped: bool  # the sample cap was reached before every interval was narrow enough
    cached: bool = field(default=False, compare=False)
    phases: Mapping[str, float] = field(default_factory=dict, compare=False)  # seconds


@dataclass(frozen=True)
class Usage:
    """Tokens and money of one LLM call, or a sum of them. dollars: None where a price is
    unknown."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0  # part of completion_tokens
    dollars: float | None = 0.0
    estimated: bool = False  # the endpoint gave no usage; counted from bytes

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        known = self.dollars is not None and other.dollars is not None
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            (self.dollars or 0.0) + (other.dollars or 0.0) if known else None,
            self.estimated or other.estimated,
        )


def content_hash(text: str | bytes) -> str:
    """16 hex digits of blake2b. Used for ids of candidates and requests (not as a security
    boundary)."""
    data = text.encode() if isinstance(text, str) else text
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def canonical_json(value: object) -> str:
    """Sorted keys, no spaces: equal values have equal texts. NaN is refused (ValueError)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def geometric_mean(values: Sequence[float]) -> float:
    """exp(mean(log x)); every value must be > 0 (ValueError otherwise), and there must be one."""
    if not values or any(not v > 0 for v in values):
        raise ValueError(f"geometric mean needs positive values, got {list(values)!r}")
    return math.exp(math.fsum(math.log(v) for v in values) / len(values))


# --- JSON -----------------------------------------------------------------------------------------


def outcome_to_json(outcome: Passed | Failed) -> JsonObject:
    """Raw JSON of an outcome. The field order is part of the log's format."""
    if isinstance(outcome, Failed):
        return asdict(outcome)
    return {
        "status": Status.PASSED.value,
        "score": outcome.score,
        "score_low": outcome.score_low,
        "score_high": outcome.score_high,
        "measurements": [asdict(m) | {"flags": list(m.flags)} for m in outcome.measurements],
    }


def outcome_from_json(data: JsonObject) -> Passed | Failed:
    """The inverse of `outcome_to_json`. Raises KeyError or ValueError on anything else."""
    status = Status(data["status"])
    if status is not Status.PASSED:
        told = data["check"], data["message"], data["workload"], dict(data["evidence"])
        return Failed(status, Stage(data["stage"]), *told)
    rows = tuple(Measurement(**{**m, "flags": tuple(m["flags"])}) for m in data["measurements"])
    return Passed(rows, data["score_low"], data["score_high"])


def evaluation_to_json(evaluation: Evaluation) -> JsonObject:
    """Raw JSON of an evaluation without its samples (those go to one binary file)."""
    return {
        "candidate_id": evaluation.candidate_id,
        "phase": evaluation.phase.value,
        "outcome": outcome_to_json(evaluation.outcome),
        "feedback": evaluation.feedback,
        "build_seconds": evaluation.build_seconds,
        "device_seconds": evaluation.device_seconds,
        "cached": evaluation.cached,
    }


def evaluation_from_json(data: JsonObject) -> Evaluation:
    """The inverse of `evaluation_to_json`. Raises KeyError or ValueError on anything else."""
    return Evaluation(
        data["candidate_id"],
        Phase(data["phase"]),
        outcome_from_json(data["outcome"]),
        data["feedback"],
        data["build_seconds"],
        data["device_seconds"],
        data["cached"],
    )


def confirmation_to_json(confirmation: Confirmation) -> JsonObject:
    """Raw JSON of a confirmation."""
    return {
        "task": confirmation.task,
        "baseline": confirmation.baseline,
        "finalists": [
            {
                "candidate_id": f.candidate_id,
                "final": outcome_to_json(f.final),
                "held_out": f.held_out.value if f.held_out else None,
                "held_out_message": f.held_out_message,
                "block_log_speedups": list(f.block_log_speedups),
            }
            for f in confirmation.finalists
        ],
        "blocks": confirmation.blocks,
        "device_seconds": confirmation.device_seconds,
        "capped": confirmation.capped,
        "cached": confirmation.cached,
        "phases": dict(confirmation.phases),
    }


def confirmation_from_json(data: JsonObject) -> Confirmation:
    """The inverse of `confirmation_to_json`. Raises KeyError or ValueError on anything else."""
    finalists = tuple(
        Finalist(
            f["candidate_id"],
            outcome_from_json(f["final"]),
            Status(f["held_out"]) if f["held_out"] else None,
            f["held_out_message"],
            tuple(f["block_log_speedups"]),
        )
        for f in data["finalists"]
    )
    return Confirmation(
        data["task"],
        data["baseline"],
        finalists,
        data["blocks"],
        data["device_seconds"],
        data["capped"],
        data["cached"],
        data.get("phases", {}),
    )

"""The settings of the simulated model: every belief that it encodes is a number in this file.

Covered: validation, reading from a mapping (a table of models.toml), and the JSON form that the
manifest shows. A models.toml holds scalars only, so edit_distance may be a text there.

Not covered: what the numbers do (docs/simulated.md), and calibration. The defaults are guesses; a
result is worth stating only as a band over them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal, get_args

from harness.errors import UnknownName, UsageError
from harness.types import JsonObject

WorldModelKnob = Literal["informed", "noise"]

_RATES = ("format_error", "compile_error", "wrong_result", "slower")


@dataclass(frozen=True)
class Knobs:
    """All settings. Raises UsageError if one is out of range.

    seed: of every random draw. skill: probability that an answer is the best of the neighbours
    looked at instead of a random one. neighbours: how many neighbours are looked at.
    edit_distance: probabilities of changing 1, 2 or 3 parameters.
    format_error, compile_error, wrong_result, slower: probabilities of these mistakes per answer;
    at most one happens. insight_from_feedback: do scores and failures in the prompt inform the
    next choice? world_model: "informed" answers, or "noise" of the same form.
    latency_fixed_seconds, latency_seconds_per_token: the modelled latency, per call and per
    completion token. Tokens are bytes / bytes_per_token, rounded up.
    """

    seed: int = 0
    skill: float = 0.5
    neighbours: int = 4
    edit_distance: tuple[float, float, float] = (0.7, 0.25, 0.05)
    format_error: float = 0.04
    compile_error: float = 0.08
    wrong_result: float = 0.08
    slower: float = 0.08
    insight_from_feedback: bool = True
    world_model: WorldModelKnob = "informed"
    bytes_per_token: float = 4.0
    latency_fixed_seconds: float = 2.0
    latency_seconds_per_token: float = 0.01

    def __post_init__(self) -> None:
        for name in ("skill", *_RATES):
            _require(name, getattr(self, name), "in [0, 1]", 0 <= getattr(self, name) <= 1)
        total = sum(getattr(self, name) for name in _RATES)
        if total > 1 + 1e-9:
            raise UsageError(
                f"The rates {', '.join(_RATES)} of the simulated model add up to {total:g}; at "
                "most one of these mistakes happens per answer, so their sum must be at most 1."
            )
        _require("neighbours", self.neighbours, ">= 1", self.neighbours >= 1)
        distances = self.edit_distance
        _require(
            "edit_distance",
            distances,
            "3 probabilities that add up to 1 (of changing 1, 2 and 3 parameters)",
            len(distances) == 3
            and all(0 <= p <= 1 for p in distances)
            and math.isclose(sum(distances), 1, abs_tol=1e-6),
        )
        known = get_args(WorldModelKnob)
        _require("world_model", self.world_model, " or ".join(known), self.world_model in known)
        _require(
            "bytes_per_token",
            self.bytes_per_token,
            "finite and > 0",
            math.isfinite(self.bytes_per_token) and self.bytes_per_token > 0,
        )
        for name in ("latency_fixed_seconds", "latency_seconds_per_token"):
            value = getattr(self, name)
            _require(name, value, "finite and >= 0", math.isfinite(value) and value >= 0)

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Knobs:
        """Knobs from a table of settings; what is not named keeps its default.

        Raises UnknownName for a setting that does not exist, UsageError for a value of the wrong
        type or out of range. Integers are accepted where numbers are expected.
        """
        names = [f.name for f in fields(cls)]
        for name in values:
            if name not in names:
                raise UnknownName("knob of the simulated model", name, names)
        read = cls()
        return cls(
            seed=_integer("seed", values, read.seed),
            skill=_number("skill", values, read.skill),
            neighbours=_integer("neighbours", values, read.neighbours),
            edit_distance=_distances(values, read.edit_distance),
            format_error=_number("format_error", values, read.format_error),
            compile_error=_number("compile_error", values, read.compile_error),
            wrong_result=_number("wrong_result", values, read.wrong_result),
            slower=_number("slower", values, read.slower),
            insight_from_feedback=_boolean(
                "insight_from_feedback", values, read.insight_from_feedback
            ),
            world_model=_world_model(values, read.world_model),
            bytes_per_token=_number("bytes_per_token", values, read.bytes_per_token),
            latency_fixed_seconds=_number(
                "latency_fixed_seconds", values, read.latency_fixed_seconds
            ),
            latency_seconds_per_token=_number(
                "latency_seconds_per_token", values, read.latency_seconds_per_token
            ),
        )

    def to_json(self) -> JsonObject:
        """Every knob, for the manifest. `from_mapping` reads it back."""
        return asdict(self) | {"edit_distance": list(self.edit_distance)}


def _wrong(name: str, value: object, expected: str) -> UsageError:
    return UsageError(
        f"Knob {name} of the simulated model is {value!r}; expected {expected}. "
        "See docs/simulated.md."
    )


def _require(name: str, value: object, expected: str, holds: bool) -> None:
    if not holds:
        raise _wrong(name, value, expected)


def _integer(name: str, values: Mapping[str, object], default: int) -> int:
    value = values.get(name, default)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _wrong(name, value, "an integer")


def _number(name: str, values: Mapping[str, object], default: float) -> float:
    value = values.get(name, default)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise _wrong(name, value, "a number")


def _boolean(name: str, values: Mapping[str, object], default: bool) -> bool:
    value = values.get(name, default)
    if isinstance(value, bool):
        return value
    raise _wrong(name, value, "true or false")


def _world_model(values: Mapping[str, object], default: WorldModelKnob) -> WorldModelKnob:
    value = values.get("world_model", default)
    if value == "informed":
        return "informed"
    if value == "noise":
        return "noise"
    raise _wrong("world_model", value, " or ".join(get_args(WorldModelKnob)))


def _distances(
    values: Mapping[str, object], default: tuple[float, float, float]
) -> tuple[float, float, float]:
    value = values.get("edit_distance", default)
    parts = value.split(",") if isinstance(value, str) else value
    try:
        first, second, third = (float(p) for p in parts)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise _wrong("edit_distance", value, '3 probabilities, as in "0.7, 0.25, 0.05"') from None
    return (first, second, third)

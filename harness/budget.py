"""What a run may spend, and what it has spent.

Covered: `Budget` (the limits, validated and frozen) and `Meter` (the running totals and the one
place that says which limit is reached). The number of charges always limits a run; LLM calls,
tokens, dollars and seconds limit it where they are given.

Seconds are recorded ones: the latency of the model (a simulated model states a modelled one) plus
what the evaluations cost on the device when they were measured. Wall time is never counted, so a
replayed run reaches its limit at the same event.

Not covered: the work in flight. LLM calls are counted exactly; tokens, dollars and seconds are only
known afterwards, so nothing *starts* once such a limit is reached, and the last call may overshoot.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from harness.errors import UsageError
from harness.llm.client import Reply
from harness.types import Evaluation, JsonObject, Usage


@dataclass(frozen=True)
class Budget:
    """The limits of one run. None: no such limit.

    charges: evaluated candidates and proposals without one. llm_calls: calls started. tokens:
    prompt plus completion. dollars: needs a known price for every model. seconds: see the module.
    Raises UsageError for a limit that is not a positive number.
    """

    charges: int
    llm_calls: int | None = None
    tokens: int | None = None
    dollars: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("charges", "llm_calls", "tokens"):
            value = getattr(self, name)
            if value is None and name != "charges":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise UsageError(
                    f"Budget: {name} must be a whole number of at least 1, got {value!r}."
                )
        for name in ("dollars", "seconds"):
            value = getattr(self, name)
            if value is None:
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number and math.isfinite(value) and value > 0):
                raise UsageError(f"Budget: {name} must be a number above 0, got {value!r}.")

    def require_prices(self, models_without_price: Iterable[str]) -> None:
        """Raise UsageError if dollars are limited and a model of the run has no known price."""
        names = sorted(models_without_price)
        if self.dollars is not None and names:
            raise UsageError(
                f"A dollar budget needs known prices, but {', '.join(names)} has none. "
                "Give its prices in models.toml, or limit tokens or llm_calls instead of dollars."
            )

    def to_json(self) -> JsonObject:
        return asdict(self)


@dataclass
class Meter:
    """The totals of one run so far; the only mutable record of the budget."""

    budget: Budget
    charges: int = 0
    llm_calls: int = 0  # started, so that the limit holds exactly
    usage: Usage = field(default_factory=Usage)
    llm_seconds: float = 0.0
    evaluation_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """Recorded seconds: model latency plus evaluation."""
        return self.llm_seconds + self.evaluation_seconds

    @property
    def charges_left(self) -> int:
        return self.budget.charges - self.charges

    def add_reply(self, reply: Reply) -> None:
        """Count a completion. Raises UsageError if dollars are limited and its cost is unknown."""
        self.usage += reply.usage
        self.llm_seconds += reply.seconds
        if self.usage.dollars is None:
            self.budget.require_prices([reply.model or "the model"])

    def add_evaluation(self, evaluation: Evaluation) -> None:
        """Count one charge and the evaluation's recorded seconds."""
        self.charges += 1
        self.evaluation_seconds += evaluation.seconds

    def exceeded(self) -> str | None:
        """The limit that forbids a further LLM call, or None: the first that is reached, in the
        order charges, llm_calls, tokens, dollars, seconds."""
        budget, usage = self.budget, self.usage
        limits: tuple[tuple[str, float, float | None], ...] = (
            ("charges", self.charges, budget.charges),
            ("llm_calls", self.llm_calls, budget.llm_calls),
            ("tokens", usage.tokens, budget.tokens),
            ("dollars", usage.dollars or 0.0, budget.dollars),
            ("seconds", self.seconds, budget.seconds),
        )
        return _first_reached(limits)

    def evaluation_exceeded(self) -> str | None:
        """The limit that forbids a further evaluation, or None. The limits on the model do not: the
        candidate of the last permitted call is still evaluated."""
        return _first_reached(
            (
                ("charges", self.charges, self.budget.charges),
                ("seconds", self.seconds, self.budget.seconds),
            )
        )


def _first_reached(limits: Iterable[tuple[str, float, float | None]]) -> str | None:
    for name, spent, limit in limits:
        if limit is not None and spent >= limit:
            return name
    return None

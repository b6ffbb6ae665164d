"""What a comparison will cost, said before it starts: calls, tokens, dollars, device hours.

The estimate is a product of plain numbers: charges × calls per charge × tokens per call × price.
The numbers per method are assumptions, stated with their source and printed beside the result.

Covered: arms with model schedules, prices that are unknown (then so is the sum), the question
whether to ask first. Not covered: growth of prompts during a run, and budgets in calls, tokens or
dollars, which can only make a run cheaper than its estimate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.llm.models import ModelSettings, Schedule, find_model


@dataclass(frozen=True)
class CallProfile:
    """What one charge of a method asks of its model, on average.

    llm_calls_per_charge: calls for every proposal. prompt_tokens, completion_tokens: per call,
    reasoning included. source: where the numbers come from.
    """

    llm_calls_per_charge: float
    prompt_tokens: float
    completion_tokens: float
    source: str


PROFILES: Mapping[str, CallProfile] = {
    "best_of_n": CallProfile(
        1.0,
        3_000,
        6_000,
        "one call per charge by construction; tokens assumed: a task's text and one program in, "
        "a program and its reasoning out",
    ),
    "ksearch": CallProfile(
        1.5,
        6_000,
        6_000,
        "assumed: one call per charge, and for each cycle of at least 3 charges up to one world-"
        "model update with retry; tokens assumed: a task's text, two programs and a world model in",
    ),
}
OTHER_METHOD = CallProfile(2.0, 6_000, 6_000, "assumed, for a method without a profile of its own")


@dataclass(frozen=True)
class PlannedRuns:
    """Equal runs of one arm. runs: tasks × seeds. charges: of each run."""

    method: str
    schedule: Schedule
    runs: int
    charges: int


@dataclass(frozen=True)
class EstimateLine:
    """One method with one model. dollars: None if the price is unknown."""

    method: str
    model: str
    live: bool
    calls: float
    prompt_tokens: float
    completion_tokens: float
    dollars: float | None
    source: str


@dataclass(frozen=True)
class Estimate:
    """The sum over all runs of a comparison. dollars: None if any price is unknown."""

    lines: tuple[EstimateLine, ...]
    device_hours: float

    @property
    def calls(self) -> float:
        return sum(line.calls for line in self.lines)

    @property
    def live_calls(self) -> float:
        return sum(line.calls for line in self.lines if line.live)

    @property
    def tokens(self) -> float:
        return sum(line.prompt_tokens + line.completion_tokens for line in self.lines)

    @property
    def dollars(self) -> float | None:
        known = [line.dollars for line in self.lines if line.dollars is not None]
        return sum(known) if len(known) == len(self.lines) else None


def estimate(
    plans: Sequence[PlannedRuns],
    models: Mapping[str, ModelSettings],
    *,
    device_seconds_per_evaluation: float,
    profiles: Mapping[str, CallProfile] = PROFILES,
) -> Estimate:
    """The cost of all plans. Every charge is counted as one evaluation on the device.

    Raises UnknownName for a model that is not in `models`.
    """
    lines = []
    for plan in plans:
        profile = profiles.get(plan.method, OTHER_METHOD)
        for segment in plan.schedule.split(plan.charges):
            settings = find_model(models, segment.model)
            calls = plan.runs * (segment.charges or 0) * profile.llm_calls_per_charge
            prompt = calls * profile.prompt_tokens
            completion = calls * profile.completion_tokens
            lines.append(
                EstimateLine(
                    plan.method,
                    settings.name,
                    settings.kind == "openai",
                    calls,
                    prompt,
                    completion,
                    settings.dollars(prompt, completion),
                    profile.source,
                )
            )
    evaluations = sum(plan.runs * plan.charges for plan in plans)
    return Estimate(tuple(lines), evaluations * device_seconds_per_evaluation / 3600)


def needs_confirmation(estimate: Estimate, limit_dollars: float) -> bool:
    """Whether to ask before starting: above the limit, or live calls at an unknown price."""
    if estimate.dollars is None:
        return estimate.live_calls > 0
    return estimate.dollars > limit_dollars


def confirmation_text(estimate: Estimate, limit_dollars: float) -> str:
    """The estimate for a person, with what it rests on and how to answer."""
    rows = [
        f"  {line.method} with {line.model}: {line.calls:,.0f} calls, "
        f"{line.prompt_tokens / 1e6:,.2f} M tokens in, "
        f"{line.completion_tokens / 1e6:,.2f} M tokens out, {_dollars(line.dollars)}"
        for line in estimate.lines
    ]
    total = (
        f"In all about {estimate.calls:,.0f} LLM calls, {estimate.tokens / 1e6:,.2f} M tokens, "
        f"{_dollars(estimate.dollars)}, {estimate.device_hours:,.1f} device hours."
    )
    sources = {line.method: line.source for line in estimate.lines}
    notes = [f"  {method}: {source}" for method, source in sources.items()]
    parts = ["Estimate before the start:", *rows, total, "It rests on:", *notes]
    if needs_confirmation(estimate, limit_dollars):
        if estimate.dollars is None:
            unpriced = dict.fromkeys(line.model for line in estimate.lines if line.dollars is None)
            why = f"The price of {', '.join(unpriced)} is unknown"
        else:
            why = f"This is above the limit of {limit_dollars:,.2f} dollars"
        parts.append(f"{why}: confirm to start (--yes does so without asking).")
    return "\n".join(parts)


def _dollars(amount: float | None) -> str:
    return "unknown dollars" if amount is None else f"{amount:,.2f} dollars"

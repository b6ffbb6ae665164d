"""What a model is asked and what it answers. Every model (live, replayed, simulated) is a `Client`.

A request is identified by its hash over canonical JSON of model, messages, sampling and purpose,
and by its occurrence: the n-th identical request of a run is occurrence n (from 0). Transport
settings (time-outs, keys, addresses) are no part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from harness.types import JsonObject, JsonScalar, Usage, canonical_json, content_hash

FinishReason = Literal["stop", "length", "refusal", "empty"]


@dataclass(frozen=True)
class Message:
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Request:
    """One completion asked for.

    model: a name of models.toml. sampling: temperature, top_p, max_tokens, reasoning_effort, as far
    as set. purpose: what the answer is for ("propose", "world-model", "judge", ...): the same word
    for every method that asks for the same kind of thing. It never names the method.
    """

    model: str
    messages: tuple[Message, ...]
    purpose: str
    sampling: Mapping[str, JsonScalar] = field(default_factory=dict, hash=False)

    def to_json(self) -> JsonObject:
        return {
            "model": self.model,
            "purpose": self.purpose,
            "sampling": dict(self.sampling),
            "messages": [{"role": m.role, "content": m.content} for m in self.messages],
        }

    @property
    def key(self) -> str:
        """Content hash of the request (see the module's docstring)."""
        return content_hash(canonical_json(self.to_json()))


@dataclass(frozen=True)
class Reply:
    """One completion. Refusals, length stops and empty replies are results, recorded and replayed.

    seconds: how long it took (a simulated model states a modelled latency).
    """

    text: str
    usage: Usage
    seconds: float
    finish_reason: FinishReason = "stop"
    model: str = ""  # what the endpoint says that it ran


class Client(Protocol):
    """A model. Thread-safe. Raises EndpointError or QuotaExhausted after its own retries, nothing
    else."""

    def complete(self, request: Request, occurrence: int) -> Reply:
        """Answer one request. `occurrence` counts identical requests of one run, from 0."""
        ...


def request_from_json(data: JsonObject) -> Request:
    """The inverse of Request.to_json. Raises KeyError on anything else."""
    messages = tuple(Message(m["role"], m["content"]) for m in data["messages"])
    return Request(data["model"], messages, data["purpose"], data["sampling"])

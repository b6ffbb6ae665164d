"""The run's model as a method sees it: metered, logged, replayed.

One call, in order: the budget is asked; the request is built with the model that the schedule names
for the charges so far; the intent is written; the log answers, or the model is asked; the reply is
written and counted.

Covered: the budget's limits on calls, tokens, dollars and seconds; a run that asks and never
proposes; the machine lock, given up while a live model is waited for; failures of the harness's own
side (endpoint, quota, disk, replay), which end the step as a BaseException that no `except
Exception` of a method swallows, and which `Interruption` remembers for the loop if a method
swallows even that.

Not covered: retries (the client's business); replay of calls that a method makes from several
threads at once, whose order, and so whose numbers, need not come again.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType

from harness.budget import Meter
from harness.errors import BudgetExhausted
from harness.evaluate.machine import busy, released
from harness.journal import Journal, cut
from harness.llm.client import Client, Message, Reply, Request
from harness.llm.embedding import HashingEmbedder, embedding_request, vectors_in
from harness.types import JsonObject, JsonScalar, Usage, canonical_json

Models = Callable[[int], tuple[str, Mapping[str, JsonScalar]]]
"""The schedule: charges so far -> (model name, sampling settings)."""

Clients = Callable[[str], Client]
"""Model name -> the client that answers for it."""

MAX_CALLS_WITHOUT_PROPOSAL = 50  # of one purpose: no method needs more to write one program

_PURPOSE = re.compile(r"[A-Za-z0-9_.-]{1,40}")


class StopRequested(Exception):
    """The user asked the run to stop; it pauses."""


class RunInterrupted(BaseException):
    """What a method sees of an interruption: nothing that it could handle."""


class Interruption:
    """Guards the harness's own work inside a method's step: `with interruption: ...`.

    The first error in such a block is kept for the loop, and every later block refuses to start, so
    that nothing is written or paid for after it.
    """

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def __enter__(self) -> None:
        if self.error is not None:
            raise RunInterrupted(str(self.error)) from self.error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, BudgetExhausted | RunInterrupted):
            return
        if self.error is None:
            self.error = error
        raise RunInterrupted(str(error)) from error


class RunLLM:
    """Implements harness.method.MeteredLLM for one run. Thread-safe.

    ended: why no further call is possible ("budget: tokens", "stalled: ..."), or None.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        meter: Meter,
        models: Models,
        clients: Clients,
        interruption: Interruption,
        stop: threading.Event,
        on_call: Callable[[], None],
    ) -> None:
        """on_call: called before a live call, to show progress."""
        self.ended: str | None = None
        self._journal = journal
        self._meter = meter
        self._models = models
        self._clients = clients
        self._interruption = interruption
        self._stop = stop
        self._on_call = on_call
        self._mutex = threading.Lock()
        self._occurrences: Counter[str] = Counter()
        self._calls_without_proposal: Counter[str] = Counter()

    def proposal_made(self) -> None:
        """The method yielded: its count of calls without a proposal starts anew."""
        self._calls_without_proposal.clear()

    def complete(self, prompt: str | list[Message], *, purpose: str) -> Reply:
        """One completion: see `harness.method.MeteredLLM`.

        Raises TypeError or ValueError for a malformed prompt or purpose, BudgetExhausted at a
        limit.
        """
        messages = _messages(prompt)
        if not isinstance(purpose, str) or not _PURPOSE.fullmatch(purpose):
            raise ValueError(f"purpose must be one short word such as 'propose', got {purpose!r}")

        def request() -> Request:
            model, sampling = self._models(self._meter.charges)
            return Request(model, messages, purpose, dict(sampling))

        return self._call(request, self._clients)

    def embed(self, texts: Sequence[str], *, dimensions: int) -> list[list[float]]:
        """Embeddings: see `harness.method.MeteredLLM`. Raises BudgetExhausted at a limit."""
        asked = embedding_request(texts, dimensions)
        return vectors_in(self._call(lambda: asked, lambda model: HashingEmbedder()))

    def _call(self, make: Callable[[], Request], clients: Clients) -> Reply:
        """One call, in the order of the module's docstring. make: called under the lock, so that
        the charges at that moment choose the model."""
        with self._interruption:
            with self._mutex:
                self._admit()
                request = make()
                self._check_stall(request.purpose)
                key = request.key
                occurrence = self._occurrences[key]
                announced: JsonObject = {
                    "call": self._meter.llm_calls + 1,
                    "key": key,
                    "occurrence": occurrence,
                    "purpose": request.purpose,
                }
                if self._stop.is_set() and not self._journal.replaying:
                    raise StopRequested("stopped on request")
                self._journal.intent(request, announced)
                recorded = self._journal.recorded_reply(key, occurrence)
                self._occurrences[key] += 1
                self._meter.llm_calls += 1
                self._calls_without_proposal[request.purpose] += 1
                charges = self._meter.charges
            if recorded is not None:
                reply = _recorded_reply(recorded, self._journal.log.get_text(recorded["reply"]))
            else:
                self._on_call()
                reply = self._ask(clients(request.model), request, occurrence)
            with self._mutex:
                self._journal.reply(
                    announced | self._reply_fields(request, charges, reply), recorded
                )
                self._meter.add_reply(reply)
        return reply

    def _admit(self) -> None:
        limit = self._meter.exceeded()
        if self.ended is None and limit is not None:
            self.ended = f"budget: {limit}"
        if self.ended is not None:
            raise BudgetExhausted(limit or self.ended)

    def _check_stall(self, purpose: str) -> None:
        if self._calls_without_proposal[purpose] >= MAX_CALLS_WITHOUT_PROPOSAL:
            self.ended = f"stalled: {MAX_CALLS_WITHOUT_PROPOSAL} LLM calls without a proposal"
            raise BudgetExhausted(self.ended)

    @staticmethod
    def _ask(client: Client, request: Request, occurrence: int) -> Reply:
        # A simulated model computes, so it takes the machine; a live one is only waited for.
        with released() if getattr(client, "waits", False) else busy():
            reply = client.complete(request, occurrence)
        return replace(reply, model=cut(reply.model, 100))  # as it will be read back

    def _reply_fields(self, request: Request, charges: int, reply: Reply) -> JsonObject:
        log, usage = self._journal.log, reply.usage
        return {
            "model": request.model,
            "charges": charges,
            "request": log.put_blob(canonical_json(request.to_json())),
            "reply": log.put_blob(reply.text),
            "finish_reason": reply.finish_reason,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
            "dollars": usage.dollars,
            "estimated": usage.estimated,
            "seconds": reply.seconds,
            "served_model": reply.model,
        }


def recorded_usage(event: JsonObject) -> Usage:
    """Tokens and dollars of one recorded `llm` event."""
    return Usage(
        event["prompt_tokens"],
        event["completion_tokens"],
        event["reasoning_tokens"],
        event["dollars"],
        event["estimated"],
    )


def _recorded_reply(event: JsonObject, text: str) -> Reply:
    return Reply(
        text,
        recorded_usage(event),
        event["seconds"],
        event["finish_reason"],
        event["served_model"],
    )


def _messages(prompt: str | list[Message]) -> tuple[Message, ...]:
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    if (
        isinstance(prompt, list | tuple)
        and prompt
        and all(isinstance(message, Message) for message in prompt)
    ):
        return tuple(prompt)
    raise TypeError(
        f"a prompt is a text or a non-empty list of Message, got {type(prompt).__name__}"
    )

"""One request until it has an answer: admitted, written down, called, waited for, tried again.

What may go wrong, and what is done:

| what | seen as | done |
|---|---|---|
| time-out, lost or preempted container, crash | the call ends without an answer | called again |
| another GPU than asked for; a fault of the evaluator | the answer refuses | called again |
| the result is no longer kept | OutputExpiredError | called again |
| quota, rate limit | RESOURCE_EXHAUSTED | waited, called again |
| the network, the service | UNAVAILABLE, connection lost | the same call is asked again |
| a bad or no token; no app, one of other code or baseline | AuthError, NOT_FOUND, refusal | stops |

After `attempts` calls it is an InfraError: the run pauses, uncharged. A call whose answer was not
seen stays open in the ledger, and the next attempt, or a resumed comparison, waits for that one
first. Modal's own retries are off, since it would retry in silence what is counted here.

Not covered: what the answer means (client.py).
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar, cast

import modal
import modal.exception
from modal import _serialization

from harness.errors import EnvironmentMissing, InfraError
from harness.evaluate.modal.ledger import Ledger
from harness.evaluate.modal.options import FunctionName, ModalOptions, function
from harness.evaluate.modal.requests import Answer, BadAnswer, Work, answer_from_bytes

TOKEN_ADVICE = (
    "Make one at modal.com/settings/tokens and set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET, or run "
    "`modal token new`."
)


@dataclass(frozen=True)
class Patience:
    """attempts: calls of one request. pause_seconds: before the next one, doubled each time.
    poll_seconds: of one question for a result. lost_contacts: questions in a row that may fail.
    queue_seconds: how long a container may take to come, beyond the function's own time-out."""

    attempts: int = 4
    pause_seconds: float = 2.0
    poll_seconds: float = 50.0
    lost_contacts: int = 10
    queue_seconds: float = 1800.0


T = TypeVar("T")


class _Failed(Exception):
    """A call that will not answer."""


class _RefusePickle:
    """Stands in for Modal's unpickler: a container that runs candidate code must not choose what
    this machine executes. Answers are bytes, in CBOR."""

    def __init__(self, client: object, data: io.BytesIO) -> None:
        del client, data

    def load(self) -> NoReturn:
        raise ValueError("a container answered with a pickle, which is not read")


def connect() -> modal.Client:
    """The client of this process's token. Raises EnvironmentMissing."""
    os.environ["MODAL_PAYLOAD_FORMAT"] = "cbor"
    _serialization.Unpickler = _RefusePickle  # type: ignore[misc, assignment]
    try:
        client = modal.Client.from_env()
        client.hello()
    except modal.exception.AuthError as error:
        raise EnvironmentMissing(
            f"Modal does not accept a token: {error} {TOKEN_ADVICE}"
        ) from error
    except (modal.exception.Error, OSError) as error:
        raise EnvironmentMissing(
            f"Modal cannot be reached: {error} Look at the network and at status.modal.com."
        ) from error
    return client


class Admission:
    """Holds both caps: containers at once, and dollars. A call that could cost more than is left is
    not begun, however unlikely that is; while others run, it waits for what they leave."""

    def __init__(self, options: ModalOptions, ledger: Ledger) -> None:
        self._options = options
        self._ledger = ledger
        self._change = threading.Condition()
        self._running = 0

    @contextmanager
    def admitted(self, name: FunctionName, key: str, task: str) -> Iterator[int]:
        """The number of a new call, whose intent is written: from then on it counts with what it
        can cost at most. Raises InfraError where the dollars are used up."""
        worst = self._worst(name)
        with self._change:
            while True:
                free = self._running < self._options.containers
                if free and self._fits(worst):
                    break
                if free and not self._running:
                    raise InfraError(self._used_up(worst))
                self._change.wait()
            n = self._ledger.intent(key, name, task)
            self._running += 1
        try:
            yield n
        finally:
            with self._change:
                self._running -= 1
                self._change.notify_all()

    def _fits(self, worst: float) -> bool:
        limit = self._options.dollars
        if limit is None:
            return True
        return self._committed() + worst <= limit

    def _worst(self, name: FunctionName) -> float:
        return (self._options.price_of(name) or 0.0) * function(name).timeout_seconds

    def _committed(self) -> float:
        """Dollars that were spent, and that calls can cost of which no end is known, an earlier
        process's too. What had no price counts at today's."""
        total = 0.0
        for entry in self._ledger.entries():
            name = cast(FunctionName, entry.function)
            if not entry.ended:
                total += self._worst(name)
            elif entry.dollars is None:
                total += entry.seconds * (self._options.price_of(name) or 0.0)
            else:
                total += entry.dollars
        return total

    def _used_up(self, worst: float) -> str:
        return (
            f"About ${self._committed():.2f} were spent on Modal or may still be, by calls whose "
            "end is not known, and the next call could cost up to "
            f"${worst:.2f}, more than the limit of ${self._options.dollars:g} leaves. To go on, "
            "repeat `harness compare` with a higher dollars=N in --evaluator (EVALUATOR=)."
        )


class Calls:
    """All calls of one comparison. Thread-safe: one thread per request."""

    def __init__(
        self,
        options: ModalOptions,
        ledger: Ledger,
        client: modal.Client,
        patience: Patience | None = None,
    ) -> None:
        self._options = options
        self._ledger = ledger
        self._client = client
        self._patience = patience or Patience()
        self._admission = Admission(options, ledger)
        self._functions: dict[FunctionName, modal.Function[Any, Any, Any]] = {}
        self._lock = threading.Lock()

    def run(
        self,
        key: str,
        name: FunctionName,
        work: Work,
        read: Callable[[Answer], T],
    ) -> tuple[T, Answer]:
        """The answer to a request and what `read` makes of it (which may raise BadAnswer).

        key: equal requests have equal ones. Raises InfraError, EnvironmentMissing.
        """
        why, request = "", work.encode()
        pause = self._patience.pause_seconds
        for entry in self._ledger.open_calls(key):
            try:
                return self._finish(entry.n, str(entry.call_id), name, read, attached=True)
            except _Failed as error:
                why = str(error)
        for attempt in range(self._patience.attempts):
            if attempt:
                time.sleep(pause)
                pause *= 2
            with self._admission.admitted(name, key, work.task) as n:
                try:
                    call = self._function(name).spawn(request)
                except (modal.exception.Error, OSError) as error:
                    self._ledger.lost(n, f"not begun: {error}", 0.0, 0.0)
                    why = self._unless_final(error)
                    continue
                self._ledger.called(n, call.object_id)
                try:
                    return self._finish(n, call.object_id, name, read)
                except _Failed as error:
                    why = str(error)
        raise InfraError(
            f"{self._patience.attempts} calls of {name} on Modal had no answer; the last "
            f"one: {why} Nothing is charged to the method; `harness resume` goes on."
        )

    def _finish(
        self,
        n: int,
        call_id: str,
        name: FunctionName,
        read: Callable[[Answer], T],
        *,
        attached: bool = False,
    ) -> tuple[T, Answer]:
        """The answer of a call that was begun, written down. attached: by another process. Raises
        _Failed, InfraError."""
        started = time.monotonic()
        price = self._options.price_of(name)
        try:
            answer = answer_from_bytes(self._wait(call_id, name))
            if answer.refusal == "version":
                raise InfraError(
                    f"The app {self._options.app!r} on Modal was deployed from other code: "
                    f"{answer.message}. Run `harness modal deploy`."
                )
            if answer.refusal == "baseline":
                raise InfraError(
                    f"The app {self._options.app!r} on Modal judges against another baseline than "
                    f"this comparison: {answer.message}. Its image was made anew meanwhile, or not "
                    "as this code makes it. Run `harness modal deploy` to make it so, or begin "
                    "again in another folder."
                )
            if answer.refusal is not None:
                raise _Failed(f"the container refused: {answer.message}.")
            result = read(answer)
        except (BadAnswer, _Failed, InfraError) as error:
            if isinstance(error, _LostContact):
                raise
            limit = function(name).timeout_seconds
            # Of a call that another process began it is not known how long it had run.
            seconds = limit if attached else min(time.monotonic() - started, limit)
            self._ledger.lost(n, str(error), seconds, None if price is None else price * seconds)
            if isinstance(error, BadAnswer):
                raise _Failed(f"its answer cannot be used: {error}.") from error
            raise
        dollars = None if price is None else price * answer.seconds
        self._ledger.answered(n, answer.seconds, dollars, answer.container)
        return result, answer

    def _wait(self, call_id: str, name: FunctionName) -> object:
        patience = self._patience
        deadline = time.monotonic() + function(name).timeout_seconds + patience.queue_seconds
        call: modal.FunctionCall[Any] = modal.FunctionCall.from_id(call_id, client=self._client)
        silent = 0
        while time.monotonic() < deadline:
            try:
                return call.get(timeout=patience.poll_seconds)
            except TimeoutError:
                silent = 0
            except _LOST_CONTACT as error:
                silent += 1
                if silent > patience.lost_contacts:
                    raise _LostContact(
                        f"Contact with Modal was lost ({error}) while the call {call_id} ran. It "
                        "is not lost: `harness resume` waits for it."
                    ) from error
                time.sleep(patience.pause_seconds)
            except (modal.exception.AuthError, modal.exception.PermissionDeniedError) as error:
                raise _LostContact(
                    f"Modal refuses the token: {error} {TOKEN_ADVICE} The call {call_id} is not "
                    "lost: `harness resume` waits for it."
                ) from error
            except modal.exception.Error as error:
                raise _Failed(f"{type(error).__name__}: {error}") from error
        raise _LostContact(
            f"The call {call_id} had no container for {patience.queue_seconds:.0f} s. It is not "
            "lost: `harness resume` waits for it."
        )

    def _unless_final(self, error: Exception) -> str:
        """The error in words. Raises InfraError where another call would end the same way."""
        if isinstance(error, modal.exception.AuthError | modal.exception.PermissionDeniedError):
            raise InfraError(f"Modal refuses the token: {error} {TOKEN_ADVICE}") from error
        if isinstance(error, modal.exception.NotFoundError):
            raise InfraError(
                f"There is no app {self._options.app!r} on Modal with what is needed: {error} Run "
                "`harness modal deploy`."
            ) from error
        if isinstance(error, modal.exception.ResourceExhaustedError):
            return f"a quota or rate limit of the Modal account: {error}."
        kind = type(error).__name__
        return f"{kind}: {error}."

    def _function(self, name: FunctionName) -> modal.Function[Any, Any, Any]:
        with self._lock:
            if name not in self._functions:
                found: modal.Function[Any, Any, Any] = modal.Function.from_name(
                    self._options.app, name, client=self._client
                )
                found.hydrate()
                self._functions[name] = found
            return self._functions[name]


class _LostContact(InfraError):
    """The call may still answer: it stays open in the ledger."""


_LOST_CONTACT = (
    modal.exception.ServiceError,
    modal.exception.InternalError,
    modal.exception.ConnectionError,
    modal.exception.ResourceExhaustedError,
    OSError,
)

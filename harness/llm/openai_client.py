"""A live model: chat completions of any OpenAI-compatible endpoint, through the openai package.

Covered: retries with exponential back-off and jitter (ours: the package's own are switched off),
Retry-After, time-outs, one concurrency limit per base URL for the whole process, exhausted quota,
refusals and empty replies as results, usage as the endpoint tells it or estimated from bytes,
dollars from the settings' prices.

What becomes of an endpoint's answer:

    200 with a completion               a Reply; finish_reason stop, length, refusal or empty
    400 "content filter", "flagged"     a Reply that is a refusal: asking again would not help
    400 "context length exceeded"       a Reply that is an empty length stop, for the same reason
    401, 403                            EnvironmentMissing, naming the key's variable
    402, or the code insufficient_quota QuotaExhausted at once
    408, 409, 429, 5xx, no connection,  retried up to `retries` times, then EndpointError
      time-out, a reply that is no JSON
    any other status                    EndpointError at once (the request itself is refused)

The key is held by the openai package's client object only. It is in no exception, repr, log or
reply: texts that come from the endpoint are searched for it, an answer to a bad key is not quoted
at all, and errors are raised outside the handler of the package's exception, which holds the
request with its headers.

Not covered: streaming, tools, images. `timeout_seconds` bounds every wait for the endpoint (to
connect, to the next byte), not the sum of them.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import cast

import openai
from openai.types.chat import ChatCompletionMessageParam
from pydantic import SecretStr

from harness.errors import EndpointError, EnvironmentMissing, HarnessError, QuotaExhausted
from harness.llm.client import FinishReason, Reply, Request
from harness.llm.models import ModelSettings
from harness.llm.openai_reply import (
    CompletionBody,
    ErrorDetail,
    TokenCounts,
    estimated_tokens,
    retry_after_seconds,
)
from harness.types import Usage

FIRST_WAIT_SECONDS = 1.0  # doubled after every failure
LONGEST_BACKOFF_SECONDS = 60.0
LONGEST_RETRY_AFTER_SECONDS = 300.0  # an endpoint that asks for more is down: pause the run

_QUOTA_WORDS = frozenset({
    "insufficient_quota", "billing_hard_limit_reached", "billing_not_active",
    "credit_balance_exhausted", "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded", "organization_usage_limit_exceeded",
})  # fmt: skip
_REFUSAL_WORDS = frozenset({"content_filter", "content_policy_violation", "invalid_prompt"})
_LOOKS_LIKE_A_KEY = re.compile(r"(?i)\bbearer\s+[^\s\"',}]+|\bsk-[\w*.-]{4,}")


class EndpointLimit(AbstractContextManager[None]):
    """At most `size` calls at once; `lower` can only make it stricter."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._running = 0
        self._changed = threading.Condition()

    def lower(self, size: int) -> None:
        with self._changed:
            self._size = min(self._size, size)

    def __enter__(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._running < self._size)
            self._running += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify()


_limits: dict[str, EndpointLimit] = {}
_limits_lock = threading.Lock()


def endpoint_limit(base_url: str, concurrency: int) -> EndpointLimit:
    """The one limit of an endpoint in this process; the smallest concurrency asked for holds."""
    with _limits_lock:
        limit = _limits.setdefault(base_url, EndpointLimit(concurrency))
    limit.lower(concurrency)
    return limit


@dataclass(frozen=True)
class _Failure:
    """One attempt that brought no reply. wait_seconds: what the endpoint asked for."""

    error: HarnessError
    retry: bool
    wait_seconds: float | None = None


class OpenAIClient:
    """A `Client` for one entry of models.toml. Thread-safe."""

    waits = True  # a call waits for the network: it must not hold the machine's busy lock

    def __init__(
        self,
        settings: ModelSettings,
        key: SecretStr | None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        jitter: random.Random | None = None,
    ) -> None:
        """key: None for an endpoint that wants none. sleep, clock, jitter: for back-off and
        seconds. Raises EnvironmentMissing for a key that no HTTP header can carry."""
        if settings.base_url is None or settings.model is None:
            raise ValueError(f"{settings.name} has no endpoint: its kind is {settings.kind}")
        self.settings = settings
        self._variable = settings.key_variable or "the key variable"
        self._secret = key.get_secret_value().strip() if key else ""
        if not all("!" <= letter <= "~" for letter in self._secret):
            raise EnvironmentMissing(
                f"The value of {self._variable} holds a space, a control character or a letter "
                "outside ASCII, so it is no key. Set it again."
            )
        self._sleep, self._clock = sleep, clock
        self._jitter = jitter or random.Random()
        self._limit = endpoint_limit(settings.base_url, settings.concurrency)
        self._client = openai.OpenAI(
            api_key=self._secret or "no-key",
            base_url=settings.base_url,
            timeout=settings.timeout_seconds,
            max_retries=0,
        )

    def __repr__(self) -> str:
        return f"OpenAIClient({self.settings.name})"

    def __getstate__(self) -> object:
        raise TypeError("an OpenAIClient holds a key and cannot be copied or pickled")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def complete(self, request: Request, occurrence: int) -> Reply:
        """One completion. A sampling seed is sent as seed + occurrence: with the same seed a
        repeated prompt would get the same answer.

        Reply.seconds is the time of the attempt that succeeded, without queueing and back-off.
        Raises EndpointError, QuotaExhausted, or EnvironmentMissing for a key that is refused.
        """
        attempts = self.settings.retries + 1
        attempt = 0
        while True:
            attempt += 1
            with self._limit:
                outcome = self._attempt(request, occurrence)
            if isinstance(outcome, Reply):
                return outcome
            if not outcome.retry:
                raise outcome.error
            backoff = min(LONGEST_BACKOFF_SECONDS, FIRST_WAIT_SECONDS * 2 ** (attempt - 1))
            wait = max(backoff * self._jitter.uniform(0.5, 1.0), outcome.wait_seconds or 0.0)
            if attempt == attempts or wait > LONGEST_RETRY_AFTER_SECONDS:
                raise EndpointError(
                    f"{outcome.error} Attempt {attempt} of {attempts} was the last. "
                    "Continue later with `harness resume`."
                )
            self._sleep(wait)

    def _attempt(self, request: Request, occurrence: int) -> Reply | _Failure:
        parameters = dict(request.sampling)
        limit = parameters.pop("max_tokens", None)
        if limit is not None:
            parameters[self.settings.max_tokens_parameter] = limit
        seed = parameters.get("seed")
        if isinstance(seed, int):
            parameters["seed"] = seed + occurrence
        messages = [{"role": m.role, "content": m.content} for m in request.messages]
        started = self._clock()
        try:
            raw = self._client.chat.completions.with_raw_response.create(
                model=cast(str, self.settings.model),
                messages=cast("list[ChatCompletionMessageParam]", messages),
                extra_body=parameters,
            )
            content = raw.content
        except openai.APIStatusError as error:
            return self._refused(error, request, self._clock() - started)
        except openai.APITimeoutError:
            limit_seconds = f"{self.settings.timeout_seconds:g} s"
            return _Failure(self._error(f"sent nothing within {limit_seconds}."), retry=True)
        except openai.APIConnectionError as error:
            kind = type(error.__cause__).__name__ if error.__cause__ else "connection error"
            return _Failure(self._error(f"could not be reached ({kind})."), retry=True)
        seconds = self._clock() - started
        try:
            body = CompletionBody.read(content)
        except ValueError:
            text = content.decode("utf-8", "replace")
            return _Failure(
                self._error(f"answered something that is no chat completion: {self._quote(text)}."),
                retry=True,
            )
        return self._reply(request, body, seconds)

    def _reply(self, request: Request, body: CompletionBody, seconds: float) -> Reply:
        if not body.choices:
            text, reason = "", "empty"
        else:
            choice = body.choices[0]
            text = self._clean(choice.message.text())
            if choice.message.refusal or choice.finish_reason == "content_filter":
                reason = "refusal"
                text = text or self._clean(choice.message.refusal or "")
            elif choice.finish_reason == "length":
                reason = "length"
            else:
                reason = "stop" if text.strip() else "empty"
        return Reply(
            text,
            self._usage(request, body.usage, text),
            seconds,
            cast(FinishReason, reason),
            self._clean(body.model or ""),
        )

    def _refused(
        self, error: openai.APIStatusError, request: Request, seconds: float
    ) -> Reply | _Failure:
        """What an HTTP error status means."""
        status = error.status_code
        detail = ErrorDetail.of(error.body)
        words = {detail.code, detail.type}
        if status in (401, 403):
            return _Failure(self._bad_key(status), retry=False)
        said = f": {self._quote(detail.message)}." if detail.message else "."
        if status == 402 or words & _QUOTA_WORDS:
            return _Failure(
                QuotaExhausted(
                    f"Model {self.settings.name}: the account has no quota left (HTTP {status})"
                    f"{said} Add credit or raise the limit, then `harness resume`."
                ),
                retry=False,
            )
        if status == 400 and words & _REFUSAL_WORDS:
            return Reply("", self._usage(request, None, ""), seconds, "refusal")
        if detail.code == "context_length_exceeded" or (
            status == 400 and "maximum context length" in detail.message
        ):
            return Reply("", self._usage(request, None, ""), seconds, "length")
        if status in (408, 409, 429) or status >= 500:
            wait = retry_after_seconds(error.response.headers.get("retry-after"))
            asked = f" It asks to wait {wait:.0f} s." if wait else ""
            return _Failure(self._error(f"answered HTTP {status}{said}{asked}"), True, wait)
        return _Failure(
            self._error(
                f"refuses the request (HTTP {status}){said} Asking again will not help: check "
                "model, base_url, sampling and max_tokens_parameter of this entry in models.toml."
            ),
            retry=False,
        )

    def _bad_key(self, status: int) -> EnvironmentMissing:
        name, address = self.settings.name, self.settings.base_url
        if not self._secret:
            return EnvironmentMissing(
                f"The endpoint {address} of model {name} wants a key (HTTP {status}). Name the "
                "environment variable that holds it as key_variable in models.toml, and set it."
            )
        return EnvironmentMissing(
            f"The endpoint {address} of model {name} does not accept the key in {self._variable} "
            f"(HTTP {status}). Set {self._variable} to a key that may use this model."
        )

    def _error(self, what: str) -> EndpointError:
        return EndpointError(f"The endpoint {self.settings.base_url} of model "
                             f"{self.settings.name} {what}")  # fmt: skip

    def _usage(self, request: Request, given: object, text: str) -> Usage:
        usage = TokenCounts.of(given)
        if usage is None:
            prompt = sum(estimated_tokens(m.content) for m in request.messages)
            completion = estimated_tokens(text)
            dollars = self.settings.dollars(prompt, completion)
            return Usage(prompt, completion, 0, dollars, estimated=True)
        dollars = self.settings.dollars(usage.prompt, usage.completion, usage.cached)
        return Usage(usage.prompt, usage.completion, usage.reasoning, dollars)

    def _clean(self, text: str) -> str:
        """An endpoint's text without the key."""
        return text.replace(self._secret, "[key]") if self._secret else text

    def _quote(self, text: str) -> str:
        """An endpoint's text for a message: one line, no key, at most 300 characters."""
        plain = _LOOKS_LIKE_A_KEY.sub("[key]", self._clean(text))
        return " ".join(plain.split())[:300].rstrip(".") or "an empty body"

"""Reading what an OpenAI-compatible endpoint sends back: completions, token counts, errors.

Covered: the fields that the harness uses, in every form that OpenAI, Google, vLLM and Ollama give
them. Not covered: what to do about them (`openai_client`), and every field that nobody reads.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from pydantic import BaseModel, Field, ValidationError

BYTES_PER_TOKEN = 4  # the usual rule of thumb for English and code; such counts are marked


def estimated_tokens(text: str) -> int:
    """Tokens of a text, counted as UTF-8 bytes / 4, rounded up."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def retry_after_seconds(header: str | None) -> float | None:
    """Seconds asked for by a Retry-After header: a number, or an HTTP date (RFC 9110, 10.2.3)."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except ValueError:
            return None
    return seconds if 0 <= seconds < float("inf") else None


class _Part(BaseModel):
    text: str | None = None


class _Message(BaseModel):
    content: str | list[_Part] | None = None
    refusal: str | None = None

    def text(self) -> str:
        if isinstance(self.content, list):  # some endpoints answer in parts
            return "".join(part.text or "" for part in self.content)
        return self.content or ""


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class CompletionBody(BaseModel):
    """A chat completion, as much of it as is read."""

    choices: list[_Choice]
    model: str | None = None
    usage: Any = None  # read on its own: a paid reply is not lost over a malformed usage

    @classmethod
    def read(cls, content: bytes) -> CompletionBody:
        """From the bytes of an answer. Lone surrogates, which no file can hold, become "?".

        Raises ValueError for anything that is no chat completion.
        """
        try:
            text = json.dumps(json.loads(content), ensure_ascii=False)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        return cls.model_validate_json(text.encode("utf-8", "replace"))


class _Details(BaseModel):
    cached_tokens: int | None = Field(default=None, ge=0)
    reasoning_tokens: int | None = Field(default=None, ge=0)


class _Usage(BaseModel):
    prompt_tokens: int = Field(gt=0)
    completion_tokens: int = Field(ge=0)
    total_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


@dataclass(frozen=True)
class TokenCounts:
    prompt: int
    completion: int
    reasoning: int
    cached: int

    @classmethod
    def of(cls, given: object) -> TokenCounts | None:
        """What the endpoint counted, or None if it did not."""
        try:
            usage = _Usage.model_validate(given)
        except ValidationError:
            return None
        cached = (usage.prompt_tokens_details or _Details()).cached_tokens or 0
        reasoning = (usage.completion_tokens_details or _Details()).reasoning_tokens or 0
        completion = usage.completion_tokens
        # Google's endpoint leaves its thinking tokens out of completion_tokens but bills them as
        # output: they are the rest of total_tokens.
        hidden = (usage.total_tokens or 0) - usage.prompt_tokens - completion
        if hidden > 0:
            completion += hidden
            reasoning = max(reasoning, hidden)
        return cls(usage.prompt_tokens, completion, reasoning, min(cached, usage.prompt_tokens))


@dataclass(frozen=True)
class ErrorDetail:
    code: str
    type: str
    message: str

    @classmethod
    def of(cls, body: object) -> ErrorDetail:
        """From an error body: {"message", "code", "type"}, Google's list of one, or bare text."""
        if isinstance(body, list) and body:
            body = body[0]
        if isinstance(body, dict) and isinstance(body.get("error"), dict):
            body = body["error"]
        if isinstance(body, dict):
            message = body.get("message")
            text = message if isinstance(message, str) else json.dumps(body)
            return cls(str(body.get("code")), str(body.get("type")), text)
        return cls("", "", body if isinstance(body, str) else "")

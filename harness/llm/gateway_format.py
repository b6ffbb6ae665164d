"""Translation between the JSON of OpenAI's API and the harness's requests and replies.

Covered: chat completions (also as server-sent events), Responses, embeddings, model lists, error
bodies; text only. Not covered: tools, images, several choices, stored conversations, streaming of
Responses. Each of these is refused with a message, since dropping it silently would change what the
program asked for.

Embeddings are those of harness/llm/embedding.py. Nothing in an answer depends on the clock or on
chance.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from harness.llm.client import Message, Reply, Request
from harness.llm.embedding import EMBEDDING_DIMENSIONS, MAX_EMBEDDING_DIMENSIONS
from harness.types import JsonObject, Usage

PURPOSE = re.compile(r"[a-z][a-z0-9-]{0,31}")
DEFAULT_PURPOSE = "propose"
MAX_EMBEDDING_TEXTS = 2048

_ROLES: Mapping[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
_UNDERSTOOD = frozenset({
    "model", "messages", "input", "instructions", "stream", "stream_options", "n", "tools",
    "functions", "previous_response_id", "dimensions", "encoding_format",
})  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """A request that gets an error answer, in the form that OpenAI's clients read."""

    def __init__(self, status: int, message: str, *, kind: str = "", code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self._kind = kind or "invalid_request_error"
        self._code = code or None

    def answer(self) -> Answer:
        error = {"message": str(self), "type": self._kind, "param": None, "code": self._code}
        # Whoever could retry has done so: a client's own retries would only repeat the answer.
        return json_answer({"error": error}, self.status, {"x-should-retry": "false"})


def json_answer(
    data: JsonObject, status: int = 200, headers: Mapping[str, str] | None = None
) -> Answer:
    return Answer(status, json.dumps(data).encode(), headers=headers or {})


def body_of(content: bytes) -> JsonObject:
    """The JSON object of a request. Raises Refusal (400)."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "The body is not valid JSON.") from error
    if not isinstance(data, dict):
        raise Refusal(400, "The body must be a JSON object.")
    return data


def ignored_parameters(body: JsonObject) -> list[str]:
    """Parameters that have no effect here: sampling above all, which the gateway owns."""
    return sorted(k for k in body if k not in _UNDERSTOOD and re.fullmatch(r"\w{1,64}", k, re.A))


def model_and_purpose(body: JsonObject, header: str | None, served: str) -> str:
    """The purpose of a request: X-Purpose, or the model's suffix ("name/world-model"), or
    "propose". Raises Refusal: 404 for another model than the one served, 400 for a bad purpose."""
    model = body.get("model")
    name, _, suffix = model.partition("/") if isinstance(model, str) else ("", "", "")
    if name != served:
        message = f"The model {model!r} does not exist. This run's model is {served!r}."
        raise Refusal(404, message, code="model_not_found")
    purpose = header or suffix or DEFAULT_PURPOSE
    if not PURPOSE.fullmatch(purpose):
        raise Refusal(400, f"The purpose {purpose!r} is not a word like propose or world-model.")
    return purpose


def chat_messages(body: JsonObject) -> tuple[Message, ...]:
    """The messages of a chat completion. Raises Refusal (400)."""
    _refuse_unsupported(body)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "messages must be a list with at least one message.")
    return tuple(_message(m) for m in messages)


def responses_messages(body: JsonObject) -> tuple[Message, ...]:
    """The messages of a Responses request. Raises Refusal (400)."""
    _refuse_unsupported(body)
    if body.get("stream"):
        raise Refusal(400, "Streaming is served for /v1/chat/completions only. Send stream=false.")
    if body.get("previous_response_id"):
        raise Refusal(400, "No conversations are stored here. Send the whole conversation.")
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(items, list) or not items:
        raise Refusal(400, "input must be a text or a list with at least one message.")
    messages = tuple(_message(item) for item in items)
    instructions = body.get("instructions")
    if isinstance(instructions, str):
        return (Message("system", _clean(instructions)), *messages)
    return messages


def _refuse_unsupported(body: JsonObject) -> None:
    if body.get("tools") or body.get("functions"):
        raise Refusal(400, "Tools are not served: the model answers in text. Send none.")
    if body.get("n") not in (None, 1):
        raise Refusal(400, "One completion is served per request: n must be 1.")


def _message(item: object) -> Message:
    if not isinstance(item, dict) or item.get("type", "message") != "message":
        raise Refusal(400, "Every message must be an object with a role and a content.")
    role = item.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise Refusal(400, f"The role {role!r} is not one of {', '.join(_ROLES)}.")
    content = item.get("content")
    if isinstance(content, str):
        return Message(_ROLES[role], _clean(content))
    parts = content if isinstance(content, list) else [None]
    texts = []
    for part in parts:
        text = part.get("text") if isinstance(part, dict) else None
        if not isinstance(text, str):
            raise Refusal(400, "The content of a message must be a text or a list of text parts.")
        texts.append(text)
    return Message(_ROLES[role], _clean("".join(texts)))


def _clean(text: str) -> str:
    """Without surrogates, which no file and no other endpoint can take."""
    return text.encode("utf-8", "replace").decode("utf-8")


# --- Answers --------------------------------------------------------------------------------------


def chat_answer(
    body: JsonObject, request: Request, occurrence: int, reply: Reply, headers: Mapping[str, str]
) -> Answer:
    """A chat completion, as one object or, with stream, as server-sent events of one piece."""
    refused = reply.finish_reason == "refusal"
    finish = {"length": "length", "refusal": "content_filter"}.get(reply.finish_reason, "stop")
    refusal = (reply.text or "The model refused.") if refused else None
    head = {"id": f"chatcmpl-{request.key}-{occurrence}", "created": 0, "model": body["model"]}
    usage = {
        "prompt_tokens": reply.usage.prompt_tokens,
        "completion_tokens": reply.usage.completion_tokens,
        "total_tokens": reply.usage.tokens,
        "completion_tokens_details": {"reasoning_tokens": reply.usage.reasoning_tokens},
    }
    message = {"role": "assistant", "content": reply.text, "refusal": refusal}
    if not body.get("stream"):
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        data = head | {"object": "chat.completion", "choices": [choice], "usage": usage}
        return json_answer(data, headers=headers)
    chunk = head | {"object": "chat.completion.chunk"}
    events: list[JsonObject] = [
        chunk | {"choices": [{"index": 0, "delta": message, "finish_reason": None}]},
        chunk | {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
    ]
    options = body.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        events.append(chunk | {"choices": [], "usage": usage})
    lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    return Answer(200, lines.encode(), "text/event-stream", headers)


def responses_answer(
    body: JsonObject, request: Request, occurrence: int, reply: Reply, headers: Mapping[str, str]
) -> Answer:
    """A Responses object with one message."""
    number = f"{request.key}-{occurrence}"
    part: JsonObject = {"type": "output_text", "text": reply.text, "annotations": []}
    if reply.finish_reason == "refusal":
        part = {"type": "refusal", "refusal": reply.text or "The model refused."}
    cut = reply.finish_reason == "length"
    status = "incomplete" if cut else "completed"
    message = {
        "type": "message",
        "id": f"msg-{number}",
        "role": "assistant",
        "status": status,
        "content": [part],
    }
    data: JsonObject = {
        "id": f"resp-{number}",
        "object": "response",
        "created_at": 0,
        "model": body["model"],
        "status": status,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "error": None,
        "instructions": None,
        "metadata": {},
        "output": [message],
        "parallel_tool_calls": False,
        "temperature": None,
        "top_p": None,
        "tool_choice": "none",
        "tools": [],
        "usage": _responses_usage(reply.usage),
    }
    return json_answer(data, headers=headers)


def _responses_usage(usage: Usage) -> JsonObject:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.tokens,
    }


def models_answer(name: str) -> Answer:
    """The list of the one model that is served."""
    model = {"id": name, "object": "model", "created": 0, "owned_by": "harness"}
    return json_answer({"object": "list", "data": [model]})


Embed = Callable[[Sequence[str], int], list[list[float]]]
"""Texts and dimensions -> a vector for each text."""


def embeddings_answer(body: JsonObject, embed: Embed) -> Answer:
    """Embeddings of a text, a list of texts, or of token lists. Raises Refusal (400)."""
    given = body.get("input")
    inputs = given if isinstance(given, list) else [given]
    if inputs and all(type(token) is int for token in inputs):
        inputs = [inputs]
    if not inputs or len(inputs) > MAX_EMBEDDING_TEXTS:
        raise Refusal(400, f"input must hold 1 to {MAX_EMBEDDING_TEXTS} texts.")
    dimensions = body.get("dimensions")
    if dimensions is None:
        dimensions = EMBEDDING_DIMENSIONS
    if type(dimensions) is not int or not 1 <= dimensions <= MAX_EMBEDDING_DIMENSIONS:
        raise Refusal(400, f"dimensions must be an integer from 1 to {MAX_EMBEDDING_DIMENSIONS}.")
    texts = [_embedded_text(item) for item in inputs]
    packed = body.get("encoding_format") == "base64"
    rows: list[JsonObject] = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if packed else vector}
        for index, vector in enumerate(embed(texts, dimensions))
    ]
    words = sum(len(text.split()) for text in texts)
    usage = {"prompt_tokens": words, "total_tokens": words}
    model = body.get("model") if isinstance(body.get("model"), str) else "hashing"
    return json_answer({"object": "list", "data": rows, "model": model, "usage": usage})


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()


def _embedded_text(item: object) -> str:
    if isinstance(item, str):
        return _clean(item)
    if isinstance(item, list) and item and all(type(token) is int for token in item):
        return " ".join(str(token) for token in item)
    raise Refusal(400, "Every input must be a text or a list of token numbers.")

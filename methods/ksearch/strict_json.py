"""The JSON object of a world-model answer, read strictly and safely.

One form is accepted: the last fenced json block of the answer, or an answer that is a JSON object
as a whole. Nothing looks for an object inside a broken one: an answer that was cut is an error, not
a smaller answer. Length and nesting are checked before the text is parsed, so that no answer can
overflow the stack; repeated keys, NaN and infinities are refused.

Every failure is an EditError. Not covered: what the object means (edits.py).
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from harness.llm.client import Reply
from harness.types import JsonObject
from methods.ksearch.world_model import EditError

MAX_ANSWER_CHARACTERS = 64_000  # some 100 full edits; a longer answer is a runaway
MAX_DEPTH = 8  # the documented form needs 3; json.loads recurses once per level


def read_object(reply: Reply) -> JsonObject:
    """The object that an answer holds. Raises EditError, and nothing else."""
    if reply.finish_reason != "stop":
        raise EditError(f"the answer ended early (finish reason {reply.finish_reason!r})")
    data = _load(_json_text(reply.text))
    if not isinstance(data, dict):
        raise EditError("the answer must be one JSON object with the key 'edits'")
    return data


def _json_text(text: str) -> str:
    """The JSON of an answer: the whole of it, or its last fenced json block. Every fence must be
    closed."""
    if text.lstrip().startswith("{"):
        return _bounded(text)
    found: str | None = None
    opened: str | None = None
    lines: list[str] = []
    for line in text.split("\n"):
        stripped = line.strip()
        if not stripped.startswith("```"):
            lines.append(line)
        elif opened is None:
            opened, lines = stripped[3:].strip().lower(), []
        else:
            if opened in ("json", ""):
                found = "\n".join(lines)
            opened = None
    if opened is not None:
        raise EditError("the answer was cut inside a fenced block; answer shorter")
    if found is None:
        raise EditError("the answer holds no block fenced with ```json")
    return _bounded(found)


def _bounded(text: str) -> str:
    """The text, if it is short and flat enough to be read safely."""
    if len(text) > MAX_ANSWER_CHARACTERS:
        raise EditError(f"the JSON is longer than {MAX_ANSWER_CHARACTERS} characters")
    depth = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise EditError(f"the JSON is nested deeper than {MAX_DEPTH} levels")
        elif character in "]}":
            depth -= 1
    return text


def _load(text: str) -> object:
    try:
        return json.loads(
            text, object_pairs_hook=_object_without_repeats, parse_constant=_refuse_constant
        )
    except ValueError as error:  # JSONDecodeError, and integers beyond the interpreter's limit
        raise EditError(f"the answer is not valid JSON: {str(error)[:120]}") from error


def _object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise EditError("the JSON repeats a key within one object")
    return record


def _refuse_constant(name: str) -> NoReturn:
    raise EditError(f"the JSON holds {name}, which is not a number")

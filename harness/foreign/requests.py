"""What a foreign program may send, checked: texts, parents, lineage, records.

A record of one of the kinds that reports draw must have that kind's form, or nobody would get a
report; those of K-Search and the harness's own `lineage` cannot be written by a program.

Covered: form and size, fields that nobody reads, with an error that says what was expected. Not
covered: whether an id is one that was given out; programs (harness/reply.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from harness.llm.gateway_format import Refusal, body_of
from harness.types import JsonObject

RECORD_BYTES = 1 << 20  # of one record

_HEX = re.compile(r"[0-9a-f]{16}")
_LINEAGE: dict[str, type] = {
    "island": int,
    "generation": int,
    "operator": str,
    "inspirations": list,
}
_PROPOSAL = ("candidate", "parent", "note", "lineage")
_FIELDS = {
    "/evaluate": _PROPOSAL,
    "/submit": _PROPOSAL,
    "/no_candidate": ("reason", "parent", "lineage"),
    "/record": ("kind", "data"),
    "/finish": ("reason",),
    "/complete": ("prompt",),
}
_RESERVED = ("lineage", "world_model", "selection", "cycle")


def body(path: str, content: bytes) -> JsonObject:
    """What was sent to `path`: an object with fields of that path only. Raises Refusal (400)."""
    found, names = body_of(content or b"{}"), _FIELDS[path]
    for name in found:
        if name not in names:
            raise Refusal(400, f"/run{path} has no field {name[:40]!r}; known: {', '.join(names)}.")
    return found


def text(body: JsonObject, name: str, *, required: bool = False) -> str:
    """A text of the body. Raises Refusal (400)."""
    value = body.get(name)
    if value is None and not required:
        return ""
    if not isinstance(value, str):
        raise Refusal(400, f"Send {name} as a text.")
    return value.encode("utf-8", "replace").decode("utf-8")


def parent(body: JsonObject) -> str | None:
    """The id of the program that a proposal comes from. Raises Refusal (400)."""
    found = body.get("parent")
    if found is not None and not _is_id(found):
        raise Refusal(400, "parent must be the candidate_id of an earlier answer, or null.")
    return found


def lineage(body: JsonObject) -> JsonObject:
    """What the program tells of where the proposal comes from, as the record has it; empty if it
    tells nothing. Raises Refusal (400)."""
    given = body.get("lineage")
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise Refusal(400, "lineage must be an object.")
    for name, value in given.items():
        kind = _LINEAGE.get(name)
        if kind is None:
            raise Refusal(400, f"lineage has no {name!r}: known are {', '.join(_LINEAGE)}.")
        if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
            raise Refusal(400, f"lineage: {name} has a value of the wrong type.")
    if not _are_ids(given.get("inspirations") or []):
        raise Refusal(400, "lineage: inspirations must be candidate_ids of earlier answers.")
    known = {name: given.get(name) for name in _LINEAGE}
    ids = list(given.get("inspirations") or [])
    return {"parent": parent(body), **known, "inspirations": ids}


def record(body: JsonObject) -> JsonObject:
    """A record, {kind, data}. Raises Refusal (400)."""
    kind, data = text(body, "kind", required=True), body.get("data")
    if not isinstance(data, dict):
        raise Refusal(400, "Send a record as {kind: one short word, data: an object}.")
    try:
        size = len(json.dumps(data, allow_nan=False))
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"data of the record is not JSON: {error}.") from error
    if size > RECORD_BYTES:
        raise Refusal(400, f"A record may have {RECORD_BYTES} bytes at most, this one has {size}.")
    if kind in _RESERVED:
        raise Refusal(400, f"Records of kind {kind!r} are not a program's to write.")
    expected, fits = _FORMS.get(kind, ("", lambda data: True))
    if not fits(data):
        raise Refusal(400, f"A record of kind {kind!r} is {expected}.")
    return {"kind": kind, "data": data}


def _is_id(value: object) -> bool:
    return isinstance(value, str) and _HEX.fullmatch(value) is not None


def _are_ids(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_id, value))


def _is_island(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_population(data: JsonObject) -> bool:
    islands, best = data.get("islands"), data.get("best")
    return (
        sorted(data) == ["archive", "best", "islands"]
        and isinstance(islands, list)
        and all(map(_are_ids, islands))
        and _are_ids(data["archive"])
        and (best is None or _is_id(best))
    )


def _is_migration(data: JsonObject) -> bool:
    origin = data.get("from")
    return (
        sorted(data) == ["candidate", "from", "to"]
        and _is_id(data["candidate"])
        and (origin is None or _is_island(origin))
        and _is_island(data["to"])
    )


_FORMS: dict[str, tuple[str, Callable[[JsonObject], bool]]] = {
    "population": (
        "{islands: lists of candidate_ids, archive: candidate_ids, best: one or null}",
        _is_population,
    ),
    "migration": ("{candidate: its id, from: an island or null, to: an island}", _is_migration),
    "summary": (
        "{text: a text}",
        lambda data: sorted(data) == ["text"] and isinstance(data["text"], str),
    ),
}

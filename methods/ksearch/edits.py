"""From a model's answer to a changed world model: strict reading, then one transaction.

`parse` reads the object strictly (strict_json.py) and checks every field (docs/architecture.md,
"World-model edits"). Unknown fields are errors, so an answer cannot name an id, a program, a score
or an evaluation. Numbers out of range are clamped, texts are cut to their limits and put on one
line.

`apply_revision` applies all edits to a copy or none. Two things are skipped instead of refused, and
reported: insertions beyond `max_new_nodes`, and insertions that repeat an open sibling.

Every failure is an EditError whose message tells the model what to change. Not covered: asking
again (planning.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from harness.llm.client import Reply
from methods.ksearch.strict_json import read_object
from methods.ksearch.world_model import (
    MAX_DIFFICULTY,
    Edit,
    EditError,
    Insert,
    Prune,
    Update,
    WorldModel,
)

MAX_EDITS = 64
TITLE_CHARACTERS = 120
TEXT_CHARACTERS = 600
SUMMARY_CHARACTERS = 2_000
MAX_QUESTIONS = 8

_FIELDS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {  # op -> (required, optional)
    "insert": (
        frozenset({"parent", "title", "intent", "priority", "difficulty"}),
        frozenset({"expected_factor", "rationale"}),
    ),
    "update": (frozenset({"node"}), frozenset({"priority", "difficulty", "notes"})),
    "prune": (frozenset({"node"}), frozenset({"reason"})),
}


@dataclass(frozen=True)
class Revision:
    """What one answer asks for. None leaves the summary or the questions as they are."""

    edits: tuple[Edit, ...]
    kernel_summary: str | None
    open_questions: tuple[str, ...] | None


@dataclass(frozen=True)
class AppliedEdit:
    """One change that was made to one node, and by whom."""

    op: Literal["insert", "update", "prune"]
    node: str
    by: Literal["model", "engine"] = "model"


@dataclass(frozen=True)
class Applied:
    """The world model after a revision; skipped: why single insertions were left out."""

    model: WorldModel
    edits: tuple[AppliedEdit, ...]
    skipped: tuple[str, ...]


def parse(reply: Reply) -> Revision:
    """The revision that an answer holds. Raises EditError, and nothing else."""
    data = read_object(reply)
    _check_fields(
        "the answer", data, frozenset({"edits"}), frozenset({"kernel_summary", "open_questions"})
    )
    rows = data["edits"]
    if not isinstance(rows, list) or len(rows) > MAX_EDITS:
        raise EditError(f"'edits' must be a list of at most {MAX_EDITS} objects")
    summary = data.get("kernel_summary")
    questions = data.get("open_questions")
    if questions is not None and not isinstance(questions, list):
        raise EditError("'open_questions' must be a list of texts")
    return Revision(
        tuple(_edit(f"edit {number}", row) for number, row in enumerate(rows, start=1)),
        None if summary is None else _text("kernel_summary", summary, SUMMARY_CHARACTERS),
        None
        if questions is None
        else tuple(_text("open_questions", q, TEXT_CHARACTERS) for q in questions[:MAX_QUESTIONS]),
    )


def apply_revision(
    model: WorldModel, revision: Revision, *, round_number: int, max_new_nodes: int
) -> Applied:
    """All edits of a revision, in order, on a copy. Raises EditError and then nothing was
    changed."""
    changed = model
    applied: list[AppliedEdit] = []
    skipped: list[str] = []
    inserted = 0
    for number, edit in enumerate(revision.edits, start=1):
        try:
            if isinstance(edit, Insert):
                twin = _open_twin(changed, edit)
                if twin is not None:
                    skipped.append(f"edit {number}: repeats {twin}")
                elif inserted == max_new_nodes:
                    changed.node(edit.parent)
                    skipped.append(f"edit {number}: more than {max_new_nodes} insertions")
                else:
                    inserted += 1
                    changed, node = changed.insert(edit, round_number)
                    applied.append(AppliedEdit("insert", node.id))
            elif isinstance(edit, Update):
                changed = changed.update(edit)
                applied.append(AppliedEdit("update", edit.node))
            else:
                changed, pruned = changed.prune(edit)
                applied += [AppliedEdit("prune", node_id) for node_id in pruned]
        except EditError as error:
            raise EditError(f"edit {number}: {error}") from error
    if revision.kernel_summary is not None:
        changed = replace(changed, kernel_summary=revision.kernel_summary)
    if revision.open_questions is not None:
        changed = replace(changed, open_questions=revision.open_questions)
    return Applied(changed, tuple(applied), tuple(skipped))


def _open_twin(model: WorldModel, edit: Insert) -> str | None:
    wanted = edit.intent.casefold()
    for node in model.nodes.values():
        if node.parent == edit.parent and node.state == "open" and node.intent.casefold() == wanted:
            return node.id
    return None


def _edit(where: str, row: object) -> Edit:
    if not isinstance(row, dict):
        raise EditError(f"{where} must be an object")
    op = row.get("op")
    if not isinstance(op, str) or op not in _FIELDS:
        raise EditError(f"{where}: 'op' must be one of {', '.join(_FIELDS)}")
    required, optional = _FIELDS[op]
    _check_fields(where, row, required | {"op"}, optional)
    if op == "insert":
        factor = row.get("expected_factor")
        return Insert(
            parent=_identifier(where, row["parent"]),
            title=_filled(f"{where}, title", row["title"], TITLE_CHARACTERS),
            intent=_filled(f"{where}, intent", row["intent"], TEXT_CHARACTERS),
            priority=_number(f"{where}, priority", row["priority"], 0.0, 1.0),
            difficulty=_difficulty(where, row["difficulty"]),
            expected_factor=None
            if factor is None
            else _number(f"{where}, expected_factor", factor, 0.01, 1000.0),
            rationale=_text(f"{where}, rationale", row.get("rationale") or "", TEXT_CHARACTERS),
        )
    node = _identifier(where, row["node"])
    if op == "prune":
        return Prune(node, _text(f"{where}, reason", row.get("reason") or "", TEXT_CHARACTERS))
    priority, difficulty, notes = row.get("priority"), row.get("difficulty"), row.get("notes")
    if priority is None and difficulty is None and notes is None:
        raise EditError(f"{where}: an update needs priority, difficulty or notes")
    return Update(
        node,
        None if priority is None else _number(f"{where}, priority", priority, 0.0, 1.0),
        None if difficulty is None else _difficulty(where, difficulty),
        None if notes is None else _text(f"{where}, notes", notes, TEXT_CHARACTERS),
    )


def _check_fields(
    where: str, row: dict[str, Any], required: frozenset[str], optional: frozenset[str]
) -> None:
    missing = sorted(required - row.keys())
    if missing:
        raise EditError(f"{where} lacks {', '.join(missing)}")
    unknown = sorted(row.keys() - required - optional)
    if unknown:
        names = ", ".join(_one_line(name, 30) for name in unknown[:5])
        raise EditError(
            f"{where} has fields that an answer cannot set: {names}. "
            f"Allowed: {', '.join(sorted(required | optional))}"
        )


def _identifier(where: str, value: object) -> str:
    if not isinstance(value, str):
        raise EditError(f"{where}: a node is named by its id, a text such as 'n3'")
    return _one_line(value, 20)


def _number(where: str, value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EditError(f"{where} must be a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise EditError(f"{where} must be finite")
    return float(min(max(value, low), high))


def _difficulty(where: str, value: object) -> int:
    return round(_number(f"{where}, difficulty", value, 1.0, float(MAX_DIFFICULTY)))


def _filled(where: str, value: object, limit: int) -> str:
    text = _text(where, value, limit)
    if not text:
        raise EditError(f"{where} must not be empty")
    return text


def _text(where: str, value: object, limit: int) -> str:
    if not isinstance(value, str):
        raise EditError(f"{where} must be a text")
    return _one_line(value, limit)


def _one_line(text: str, limit: int) -> str:
    """One line of printable characters without code fences: it goes into later prompts."""
    line = "".join(c for c in " ".join(text.split()) if c.isprintable()).replace("```", "'''")
    return line if len(line) <= limit else line[: limit - 1] + "…"

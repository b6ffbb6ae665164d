"""What a prompt shows of the tree: valid JSON under a token budget, with the whole frontier.

Three levels of detail per node: full; brief (title cut, no intent); left out. Every node that is
shown has the same keys. The root and the frontier (with V) are always shown, if need be beyond the
budget, and never cut by characters. The rest of the budget is spent in this order:

    1. the frontier in full, highest V first
    2. ancestors of the frontier and the best node, brief
    3. closed nodes in full, highest score first
    4. the other closed nodes and open nodes off the frontier, brief
    5. pruned nodes, brief, newest first

A node that does not fit is passed over and counted in "omitted". Tokens are estimated as UTF-8
bytes / 4, a usual rule of thumb for English and JSON: the budget bounds the prompt, it does not
meter it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from harness.types import JsonObject, JsonScalar
from methods.ksearch.world_model import Node, WorldModel

BYTES_PER_TOKEN = 4
_BRIEF_TITLE_CHARACTERS = 60
_SMALLEST_NODE_BYTES = 110  # the keys alone: with less left, no further node can be shown
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def project(model: WorldModel, token_budget: int) -> str:
    """The tree as JSON text, one node a line, in the form of docs/architecture.md."""
    frontier = model.frontier
    chosen = _choose(model, frontier, token_budget * BYTES_PER_TOKEN)
    rows = [chosen[node_id] for node_id in model.nodes if node_id in chosen]
    nodes = ",\n".join(rows)
    tail: JsonObject = {
        "frontier": [node.id for node in frontier],
        "omitted": len(model.nodes) - len(rows),
        "kernel_summary": model.kernel_summary,
        "open_questions": list(model.open_questions),
    }
    return f'{{"root":{_encode(model.root)},"nodes":[\n{nodes}\n],{_encode(tail)[1:]}'


def estimated_tokens(text: str) -> int:
    """UTF-8 bytes / 4, rounded up."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def _choose(model: WorldModel, frontier: tuple[Node, ...], budget_bytes: int) -> Mapping[str, str]:
    """The JSON text of every node that is shown, by id."""
    notes_bytes = len(model.kernel_summary.encode()) + sum(
        len(question.encode()) + 3 for question in model.open_questions
    )
    fixed = 100 + notes_bytes + 8 * len(frontier)  # keys, "omitted", and the frontier's id list
    root = model.nodes[model.root]
    chosen = {node.id: _brief(node) for node in (root, *frontier)}
    left = budget_bytes - fixed - sum(_size(text) for text in chosen.values())

    def offer(nodes: Iterable[Node], *, full: bool) -> None:
        nonlocal left
        for node in nodes:
            if left < _SMALLEST_NODE_BYTES and (not full or node.id not in chosen):
                continue
            text = _full(node) if full else _brief(node)
            cost = _size(text) - _size(chosen.get(node.id, ""))
            if cost <= left:
                chosen[node.id] = text
                left -= cost

    closed = sorted(
        (node for node in model.nodes.values() if node.state == "closed"),
        key=lambda node: -(node.score or 0.0),
    )
    ancestors = _ancestors(model, (*frontier, model.best))
    offer(sorted(frontier, key=lambda node: -node.priority), full=True)
    offer((model.nodes[node_id] for node_id in ancestors), full=False)
    offer(closed, full=True)
    offer((node for node in closed if node.id not in chosen), full=False)
    offer((n for n in model.nodes.values() if n.state == "open" and n.id not in chosen), full=False)
    offer((n for n in reversed(tuple(model.nodes.values())) if n.state == "pruned"), full=False)
    return chosen


def _ancestors(model: WorldModel, nodes: Iterable[Node]) -> list[str]:
    """Ids of the nodes' ancestors, nearest first, and of the last node itself, without repeats."""
    found: dict[str, None] = {}
    for node in nodes:
        current: str | None = node.id if node.state == "closed" else node.parent
        while current is not None and current not in found:
            found[current] = None
            current = model.nodes[current].parent
    return list(found)


def _full(node: Node) -> str:
    extra: dict[str, JsonScalar] = {
        "expected_factor": node.expected_factor,
        "rationale": node.rationale or None,
        "notes": node.notes or None,
    }
    row = _row(node, node.title, node.intent)
    return _encode(row | {key: value for key, value in extra.items() if value is not None})


def _brief(node: Node) -> str:
    return _encode(_row(node, node.title[:_BRIEF_TITLE_CHARACTERS], ""))


def _row(node: Node, title: str, intent: str) -> dict[str, JsonScalar]:
    return {
        "id": node.id,
        "parent": node.parent,
        "state": node.state,
        "title": title,
        "intent": intent,
        "priority": round(node.priority, 3),
        "difficulty": node.difficulty,
        "status": node.program.evaluation.status.value if node.program else None,
        "score": None if node.score is None else round(node.score, 4),
        "attempts": node.attempts,
    }


def _size(text: str) -> int:
    return len(text.encode()) + 2 if text else 0  # with the comma and the line break

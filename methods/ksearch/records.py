"""What K-Search puts into the run log (docs/architecture.md, "K-Search's records").

The records rebuild the whole search: every version of the tree with the edits that led to it, each
selection with its frontier, each cycle with its result; programs are named by candidate id and lie
in the run's evaluations. Rounds count cycles from 1; round 0 is the initial tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from harness.types import JsonObject
from methods.ksearch.edits import AppliedEdit
from methods.ksearch.trajectory import Cycle
from methods.ksearch.world_model import Node, WorldModel

Reason = Literal["initial", "update", "failed update"]


def world_model(
    model: WorldModel,
    round_number: int,
    reason: Reason,
    edits: Sequence[AppliedEdit],
    rejected: Sequence[str],
) -> JsonObject:
    """One version of the tree. "by" says whether the model or the engine made an edit."""
    return {
        "round": round_number,
        "reason": reason,
        "nodes": [
            {
                "id": node.id,
                "parent": node.parent,
                "state": node.state,
                "title": node.title,
                "priority": node.priority,
                "difficulty": node.difficulty,
                "score": node.score,
                "attempts": node.attempts,
                "round_created": node.round_created,
                "intent": node.intent,
                "expected_factor": node.expected_factor,
                "rationale": node.rationale,
                "notes": node.notes,
                "candidate": node.program.candidate.id if node.program else None,
            }
            for node in model.nodes.values()
        ],
        "edits": [{"op": edit.op, "node": edit.node, "by": edit.by} for edit in edits],
        "rejected": list(rejected),
        "root": model.root,
        "kernel_summary": model.kernel_summary,
        "open_questions": list(model.open_questions),
    }


def selection(model: WorldModel, round_number: int, node: Node) -> JsonObject:
    """Which action a cycle works on, and what it was chosen from."""
    return {
        "round": round_number,
        "node": node.id,
        "title": node.title,
        "priority": node.priority,
        "frontier": [open_node.id for open_node in model.frontier],
    }


def cycle(result: Cycle, round_number: int) -> JsonObject:
    """What came of it. improved: whether it ended above its parent's program."""
    return {
        "round": round_number,
        "node": result.node.id,
        "evaluations": len(result.attempts),
        "best_score": result.best_score,
        "improved": result.improved,
        "best_candidate": result.best.candidate.id if result.best else None,
    }

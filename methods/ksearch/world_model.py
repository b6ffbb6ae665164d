"""The search state: a tree of actions, some tried (closed), some not (open), some given up
(pruned).

A node is an action: a change, in words, to its parent's program. The root is the starting program.

    open     a hypothesis. It is on the frontier if its parent is closed.
    closed   tried, and a program that passed is attached (the root's is the starting program, which
             is attached whatever its verdict).
    pruned   given up, by an edit of the model or by the engine's attempt cap.

Everything is frozen: each operation returns a new WorldModel, so an update that turns out to be
invalid half-way is dropped by forgetting the copy. Who may do what:

    the model    `insert`, `update`, `prune` (through edits.py); each raises EditError if the tree
                 does not allow it
    the engine   the same, and `attach` and `demote` after a cycle. Ids (n0, n1, ... in order of
                 creation), states, programs, evaluations and attempts belong to it.

Not covered: reading the model's answer (edits.py), what a prompt shows (projection.py), which
action is next (selection.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from harness.errors import ReplyError
from harness.types import Candidate, Evaluation

NodeState = Literal["open", "closed", "pruned"]
MAX_DIFFICULTY = 5  # the scale's end: 1 is trivial


class EditError(ReplyError):
    """A world-model answer that cannot be read, or that the tree does not allow."""


@dataclass(frozen=True)
class Program:
    """A candidate with the evaluator's verdict on it."""

    candidate: Candidate
    evaluation: Evaluation

    @cached_property  # a mean of logarithms, asked for thousands of times per prompt
    def score(self) -> float | None:
        """Its speedup over the baseline; None unless it passed."""
        return self.evaluation.score


@dataclass(frozen=True)
class Insert:
    """A new open action under `parent`. priority is V, in [0, 1]; difficulty is 1 to 5.

    expected_factor: the model's guess of the speedup over the parent's program, if it gave one.
    """

    parent: str
    title: str
    intent: str
    priority: float
    difficulty: int
    expected_factor: float | None = None
    rationale: str = ""


@dataclass(frozen=True)
class Update:
    """New values for a node; None leaves a value as it is."""

    node: str
    priority: float | None = None
    difficulty: int | None = None
    notes: str | None = None


@dataclass(frozen=True)
class Prune:
    """Give up an open action and everything open below it."""

    node: str
    reason: str = ""


Edit = Insert | Update | Prune


@dataclass(frozen=True)
class Node:
    """One action. attempts: cycles spent on it. round_created: 0 for the initial tree.

    program: what the cycle that closed it attached; None exactly if the node is not closed.
    """

    id: str
    parent: str | None  # None for the root only
    state: NodeState
    title: str
    intent: str
    priority: float
    difficulty: int
    expected_factor: float | None
    rationale: str
    notes: str
    attempts: int
    round_created: int
    program: Program | None

    def __post_init__(self) -> None:
        if (self.state == "closed") != (self.program is not None):
            raise ValueError(f"{self.id}: a node has a program exactly if it is closed")

    @property
    def score(self) -> float | None:
        """Speedup of the attached program over the baseline, None where there is none."""
        return self.program.score if self.program else None


@dataclass(frozen=True)
class WorldModel:
    """The tree, in order of creation (a parent comes before its children), and the model's own
    notes on the whole."""

    nodes: Mapping[str, Node]
    root: str
    kernel_summary: str = ""
    open_questions: tuple[str, ...] = ()

    @staticmethod
    def of_start(start: Program) -> WorldModel:
        """A tree of the root alone."""
        root = Node(
            id="n0",
            parent=None,
            state="closed",
            title="starting program",
            intent="",
            priority=0.0,
            difficulty=1,
            expected_factor=None,
            rationale="",
            notes="",
            attempts=0,
            round_created=0,
            program=start,
        )
        return WorldModel({root.id: root}, root.id)

    @property
    def frontier(self) -> tuple[Node, ...]:
        """Open actions whose parent is closed: the ones that can be tried now."""
        return tuple(
            node
            for node in self.nodes.values()
            if node.state == "open" and node.parent and self.nodes[node.parent].state == "closed"
        )

    @property
    def best(self) -> Node:
        """The closed node with the highest score, the oldest of equals; the root if none has
        one."""
        best = self.nodes[self.root]
        for node in self.nodes.values():
            if node.score is not None and (best.score is None or node.score > best.score):
                best = node
        return best

    def path(self, node_id: str) -> tuple[Node, ...]:
        """The ancestors of a node from the root down, without the node itself."""
        ancestors: list[Node] = []
        parent = self.node(node_id).parent
        while parent is not None:
            ancestors.append(self.nodes[parent])
            parent = self.nodes[parent].parent
        return tuple(reversed(ancestors))

    def parent_program(self, node: Node) -> Program:
        """The program that a frontier node's action changes. Raises ValueError for any other
        node."""
        program = self.nodes[node.parent].program if node.parent else None
        if program is None:
            raise ValueError(f"{node.id} is not below a closed node")
        return program

    def node(self, node_id: str) -> Node:
        """A node by id. Raises EditError if there is none."""
        if node_id not in self.nodes:
            raise EditError(f"there is no node {node_id[:20]!r}; use the ids of the world model")
        return self.nodes[node_id]

    def insert(self, edit: Insert, round_number: int) -> tuple[WorldModel, Node]:
        """The tree with a new open node, and that node. Raises EditError below a pruned node."""
        parent = self.node(edit.parent)
        if parent.state == "pruned":
            raise EditError(f"cannot insert below {parent.id}: it is pruned")
        node = Node(
            id=f"n{len(self.nodes)}",  # nodes are never removed, so the count is a fresh number
            parent=parent.id,
            state="open",
            title=edit.title,
            intent=edit.intent,
            priority=edit.priority,
            difficulty=edit.difficulty,
            expected_factor=edit.expected_factor,
            rationale=edit.rationale,
            notes="",
            attempts=0,
            round_created=round_number,
            program=None,
        )
        return self._with(node), node

    def update(self, edit: Update) -> WorldModel:
        """The tree with a node's V, difficulty or notes changed. Raises EditError if it is
        pruned."""
        node = self.node(edit.node)
        if node.state == "pruned":
            raise EditError(f"cannot update {node.id}: it is pruned")
        return self._with(
            replace(
                node,
                priority=node.priority if edit.priority is None else edit.priority,
                difficulty=node.difficulty if edit.difficulty is None else edit.difficulty,
                notes=node.notes if edit.notes is None else edit.notes,
            )
        )

    def prune(self, edit: Prune) -> tuple[WorldModel, tuple[str, ...]]:
        """The tree with an open node and everything below it pruned, and the ids of these nodes.

        What lies below an open node is open or pruned, so no program is lost. Raises EditError for
        a node that is not open.
        """
        node = self.node(edit.node)
        if node.state != "open":
            raise EditError(f"cannot prune {node.id}: it is {node.state}, only open nodes can go")
        doomed = {node.id: replace(node, state="pruned", notes=edit.reason or node.notes)}
        for other in self.nodes.values():
            if other.parent in doomed and other.state == "open":
                doomed[other.id] = replace(other, state="pruned")
        return replace(self, nodes={**self.nodes, **doomed}), tuple(doomed)

    def attach(self, node_id: str, program: Program) -> WorldModel:
        """Engine only: close an open node with the best program of its cycle.

        Raises ValueError if the node is not open or the program did not pass.
        """
        node = self.nodes[node_id]
        if node.state != "open" or program.score is None:
            raise ValueError(
                f"{node_id}: only a passed program closes a node, and only an open one"
            )
        return self._with(
            replace(node, state="closed", program=program, attempts=node.attempts + 1)
        )

    def demote(self, node_id: str, factor: float) -> WorldModel:
        """Engine only: a cycle without a pass. V shrinks by `factor`, difficulty rises by one, the
        attempt is counted."""
        node = self.nodes[node_id]
        return self._with(
            replace(
                node,
                priority=node.priority * factor,
                difficulty=min(node.difficulty + 1, MAX_DIFFICULTY),
                attempts=node.attempts + 1,
            )
        )

    def _with(self, node: Node) -> WorldModel:
        return replace(self, nodes={**self.nodes, node.id: node})

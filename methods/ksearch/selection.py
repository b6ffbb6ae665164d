"""Which action of the frontier is next: the paper's argmax V, a random action, or UCT.

All three pass through the same gate: actions rated harder than `max_difficulty` wait until no
easier one is left. Ties fall deterministically.

    argmax   V descending, difficulty ascending, expected factor descending, oldest first
    random   uniform over the gated frontier, from the run's own random stream
    uct      from the root, at each closed node to the child with the highest upper confidence bound

A child's bound is  (V + R) / (1 + n) + c * sqrt(ln(1 + N) / (1 + n))  with n the cycles spent in
its subtree, R the sum of their rewards, N the cycles spent below its parent: UCB1 (Auer et al.,
2002) down a tree (Kocsis and Szepesvari, 2006), where V counts as one visit, so that an untried
action is compared instead of always taken first. A cycle's reward is its score over the best score
so far, 0 if it failed, so it lies in [0, 1].

Not covered: what V is worth; the model sets it.
"""

from __future__ import annotations

import math
from random import Random

from methods.ksearch.options import Policy
from methods.ksearch.world_model import Node, WorldModel


def select(
    model: WorldModel, *, policy: Policy, max_difficulty: int, uct_c: float, stream: Random
) -> Node:
    """The next action. Raises ValueError if the frontier is empty.

    stream: read by the policy "random" only.
    """
    candidates = gate(model.frontier, max_difficulty)
    if not candidates:
        raise ValueError("the frontier is empty: planning keeps at least one action on it")
    if policy == "random":
        return stream.choice(candidates)
    if policy == "uct":
        return _uct(model, candidates, uct_c)
    return min(candidates, key=_order)


def gate(frontier: tuple[Node, ...], max_difficulty: int) -> tuple[Node, ...]:
    """The frontier's nodes up to `max_difficulty`; all of them if there is none."""
    easy = tuple(node for node in frontier if node.difficulty <= max_difficulty)
    return easy or frontier


def _order(node: Node) -> tuple[float, int, float]:
    """Ascending; `min` keeps the first of equals, which is the oldest."""
    factor = 1.0 if node.expected_factor is None else node.expected_factor
    return (-node.priority, node.difficulty, -factor)


def _uct(model: WorldModel, candidates: tuple[Node, ...], exploration: float) -> Node:
    open_ids = {node.id for node in candidates}
    best_score = model.best.score or 1.0
    cycles = {node_id: 0 for node_id in model.nodes}
    reward = {node_id: 0.0 for node_id in model.nodes}
    children: dict[str, list[Node]] = {}  # only those from which a candidate can be reached
    reachable = set(open_ids)
    for node in reversed(tuple(model.nodes.values())):  # children before parents
        cycles[node.id] += node.attempts
        if node.attempts and node.score is not None:
            reward[node.id] += node.score / best_score
        if node.parent is not None:
            cycles[node.parent] += cycles[node.id]
            reward[node.parent] += reward[node.id]
            if node.id in reachable:
                reachable.add(node.parent)
                children.setdefault(node.parent, []).append(node)

    def bound(node: Node, cycles_below_parent: int) -> float:
        visits = 1 + cycles[node.id]
        value = (node.priority + reward[node.id]) / visits
        return value + exploration * math.sqrt(math.log(1 + cycles_below_parent) / visits)

    node = model.nodes[model.root]
    while node.id not in open_ids:
        below = cycles[node.id]
        # Reversed, so that the oldest of equals is kept.
        node = max(reversed(children[node.id]), key=lambda child: bound(child, below))
    return node

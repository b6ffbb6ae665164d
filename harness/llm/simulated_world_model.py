"""The simulated model's answers to "world-model" prompts: edits of a tree of optimisation ideas.

It proposes untried choices of the design space with priorities from the same estimate that it
programs by, lowers what failed, re-ranks the rest, and prunes what is hopeless. (The ablation with
noise instead is in simulated_noise.py.)

Covered: edits refer only to nodes in the prompt; a parent is the root or a Closed node; the last
Open node is never pruned; a limit on insertions that the prompt states is kept. What is known of a
node is what the prompt says: its program if it is shown (its id in the heading, or the same score),
else the choices named by the intents on its path from the root.

Not covered: memory. A judgement that is not in the prompt is made afresh by every answer. The
actions are the ideas of simulated_plan.py, whose gains are blurred the more the lower the skill.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from harness.design_space import Configuration, DesignSpace
from harness.llm.simulated_estimate import Estimate, Observation, key, observations_in
from harness.llm.simulated_knobs import Knobs
from harness.llm.simulated_plan import (
    Idea,
    as_sentence,
    blurred_gain,
    design_in_words,
    families,
    ideas,
    in_words,
)
from harness.llm.simulated_programs import ShownProgram
from harness.llm.simulated_prompt import (
    ReadPrompt,
    ShownNode,
    ShownWorldModel,
    choices_in,
    most_inserts,
)
from harness.types import JsonObject

FIRST_INSERTS = 5  # into an empty model: families, one per parameter
LATER_INSERTS = 2
WIDE_FRONTIER = 8  # Open nodes; with so many, one insert is enough
UPDATES = 12  # an answer re-ranks at most so many nodes: those that move most
PRUNES = 12  # and prunes at most so many: the most hopeless
WORTH_AN_UPDATE = 0.02  # smaller changes of a priority are left out
FAILURE_BITS = 1.0  # a failed attempt halves the expected factor
HOPELESS_BITS = -2.0  # pruned if the estimate is this far below the best program
GIVEN_UP_ATTEMPTS = 3  # pruned after so many


@dataclass(frozen=True)
class _Tree:
    """The world model with what the prompt says about each node's design."""

    model: ShownWorldModel
    designs: Mapping[str, Configuration] = field(hash=False)
    best: ShownNode


def informed_edits(
    prompt: ReadPrompt, model: ShownWorldModel, knobs: Knobs, rng: random.Random
) -> JsonObject:
    """The answer of a model that knows the prior and has read the prompt."""
    space = prompt.space
    tree = _tree(prompt, model)
    observations = observations_in(prompt.programs) + [
        Observation(tree.designs[n.id], n.score) for n in model.attached if n.score is not None
    ]
    estimate = Estimate(space, observations if knobs.insight_from_feedback else [])
    base = tree.designs[tree.best.id]
    gain = blurred_gain(estimate, base, knobs, rng)
    gains = {n.id: gain(tree.designs[n.id]) for n in model.open}
    pruned = _hopeless(tree, gains)
    edits = _updates(space, [n for n in model.open if n.id not in pruned], gains)
    edits += [{"op": "prune", "node": n, "reason": reason} for n, reason in pruned.items()]
    known = {key(design) for design in tree.designs.values()}
    known |= {key(p.configuration) for p in prompt.programs}
    actions = ideas(space, base, known, gain)
    if len(model.nodes) == 1:
        chosen = families(actions)[:FIRST_INSERTS]
    else:
        few = len(model.open) - len(pruned) < WIDE_FRONTIER
        chosen = actions[: LATER_INSERTS if few else 1]
    chosen = chosen[: most_inserts(prompt.text, FIRST_INSERTS)]
    edits += [_insert(space, tree.best.id, base, action) for action in chosen]
    return {
        "edits": edits,
        "kernel_summary": _summary(space, base, tree.best.score),
        "open_questions": [
            f"How much does this bring: {in_words(space, a.configuration, a.changed)}?"
            for a in chosen[:2]
        ],
    }


def fenced_json(edits: JsonObject) -> str:
    """The answer's text: one fenced json block."""
    return f"```json\n{json.dumps(edits, indent=2)}\n```\n"


def _tree(prompt: ReadPrompt, model: ShownWorldModel) -> _Tree:
    designs: dict[str, Configuration] = {}
    shown = _shown_designs(prompt.programs, model)
    start = prompt.space.start()
    for node in model.nodes.values():
        path: list[ShownNode] = []
        walked: ShownNode | None = node
        while walked is not None and walked.id not in designs and walked not in path:
            path.append(walked)
            if walked.id in shown:
                break
            walked = model.nodes.get(walked.parent) if walked.parent is not None else None
        design = designs[walked.id] if walked is not None and walked.id in designs else start
        for step in reversed(path):
            design = shown.get(step.id) or {**design, **choices_in(prompt.space, step.intent)}
            designs[step.id] = design
    # max keeps the first of equals: the root, then the order of the prompt.
    best = max(model.attached, key=lambda n: n.score if n.score is not None else 0.0)
    return _Tree(model, designs, best)


def _shown_designs(
    programs: Iterable[ShownProgram], model: ShownWorldModel
) -> dict[str, Configuration]:
    """Designs of the nodes whose programs are in the prompt: named in the heading, or same
    score."""
    found: dict[str, Configuration] = {}
    attached = {n.id: n for n in model.attached}
    for program in programs:
        if program.failed:
            continue
        words = re.findall(r"[\w.-]+", program.heading)
        named = [w for w in words if w in attached]
        same = [
            n.id
            for n in attached.values()
            if n.score is not None
            and program.score is not None
            and math.isclose(n.score, program.score, rel_tol=1e-3)
        ]
        for node in named[-1:] or (same if len(same) == 1 else []):
            found[node] = program.configuration
    return found


def _hopeless(tree: _Tree, gains: Mapping[str, float]) -> dict[str, str]:
    """Open leaves to prune, with reasons; at least one Open node is left."""
    done = {key(tree.designs[n.id]) for n in tree.model.attached}
    reasons: dict[str, str] = {}
    for node in tree.model.open_leaves:
        if node.attempts >= GIVEN_UP_ATTEMPTS:
            reasons[node.id] = f"Failed in {node.attempts} attempts."
        elif key(tree.designs[node.id]) in done:
            reasons[node.id] = "A program of this design exists already."
        elif gains[node.id] < HOPELESS_BITS:
            reasons[node.id] = "Expected to be far slower than the best program."
    most = min(PRUNES, max(0, len(tree.model.open) - 1))
    return dict(sorted(reasons.items(), key=lambda item: gains[item[0]])[:most])


def _updates(
    space: DesignSpace, nodes: Iterable[ShownNode], gains: Mapping[str, float]
) -> list[JsonObject]:
    """New priorities, and difficulties of what failed: the largest moves first.

    A failed attempt costs FAILURE_BITS of the estimate and a step of difficulty, and priority does
    not rise after it. Both follow from the number of attempts, so asking twice lowers nothing
    twice.
    """
    moves: list[tuple[float, JsonObject]] = []
    for node in nodes:
        priority = _squash(gains[node.id] - FAILURE_BITS * node.attempts)
        if node.attempts == 0:
            difficulty = node.difficulty
            notes = "Re-ranked against the best program."
        else:
            priority = min(priority, node.priority)
            named = choices_in(space, node.intent)
            difficulty = max(node.difficulty, min(5, _difficulty(space, named) + node.attempts))
            notes = f"{node.attempts} failed: harder than it looked."
        move = abs(priority - node.priority)
        if move >= WORTH_AN_UPDATE or difficulty != node.difficulty:
            edit = {"priority": priority, "difficulty": difficulty, "notes": notes}
            moves.append((move, {"op": "update", "node": node.id, **edit}))
    moves.sort(key=lambda m: -m[0])
    return [edit for _, edit in moves[:UPDATES]]


def _difficulty(space: DesignSpace, changed: Collection[str]) -> int:
    """Of changing these parameters: the hardest one, one more if they must fit together; 1 to 5."""
    hardest = max((p.difficulty for p in space.parameters if p.name in changed), default=2)
    return max(1, min(5, hardest + (len(changed) > 1)))


def _insert(space: DesignSpace, parent: str, base: Configuration, action: Idea) -> JsonObject:
    changed = [p for p in space.parameters if p.name in action.changed]
    intent = in_words(space, action.configuration, action.changed)
    factor = 2 ** min(7.0, max(-7.0, action.gain))
    return {
        "op": "insert",
        "parent": parent,
        "title": " and ".join(f"{p.title}: {action.configuration[p.name]}" for p in changed),
        "intent": as_sentence(intent),
        "priority": _squash(action.gain),
        "difficulty": _difficulty(space, action.changed),
        "expected_factor": round(factor, 2),
        "rationale": "Instead of: " + in_words(space, base, action.changed) + ".",
    }


def _summary(space: DesignSpace, base: Configuration, score: float | None) -> str:
    level = "no score" if score is None else f"score {score:.4g}"
    return f"Best program so far ({level}): {design_in_words(space, base)}."


def _squash(gain_bits: float) -> float:
    """A gain over the best program as a priority in (0, 1): 0.5 for none, 0.73 for a factor 2."""
    bounded = min(20.0, max(-20.0, gain_bits))
    return round(min(0.99, max(0.01, 1 / (1 + math.exp(-bounded)))), 3)

"""Noise in place of the simulated model's world-model answers: the ablation of what it knows.

Covered: the same form and vocabulary as the informed answers (choices of the design space, wrong
and slow ones included), with choices, titles, parents, priorities, difficulties, factors and prunes
drawn at random. A reader can act on it, and learns nothing from it.

Not covered: invalid answers. Format mistakes happen to noise at the same rate as to anything else.
"""

from __future__ import annotations

import random

from harness.llm.simulated_prompt import ReadPrompt, ShownWorldModel, most_inserts
from harness.llm.simulated_world_model import FIRST_INSERTS, LATER_INSERTS, PRUNES, UPDATES
from harness.types import JsonObject

PRUNE_RATE = 0.15  # of Open leaves, per answer
UPDATE_RATE = 0.5  # of the other Open nodes


def noise_edits(prompt: ReadPrompt, model: ShownWorldModel, rng: random.Random) -> JsonObject:
    """An answer of the same form that knows nothing."""
    space = prompt.space
    edits: list[JsonObject] = []
    doomed = [n.id for n in model.open_leaves if rng.random() < PRUNE_RATE]
    doomed = doomed[: min(PRUNES, max(0, len(model.open) - 1))]
    for node in [n for n in model.open if n.id not in doomed][:UPDATES]:
        if rng.random() < UPDATE_RATE:
            edits.append({"op": "update", "node": node.id, "priority": _random_priority(rng)})
    edits += [{"op": "prune", "node": n, "reason": "Unlikely to help."} for n in doomed]
    first = len(model.nodes) == 1
    wanted = FIRST_INSERTS if first else rng.randint(0, LATER_INSERTS)
    for _ in range(min(wanted, most_inserts(prompt.text, FIRST_INSERTS))):
        parameter = rng.choice(space.parameters)
        intent = rng.choice(parameter.choices).phrase
        edits.append(
            {
                "op": "insert",
                "parent": rng.choice(model.attached).id,
                "title": rng.choice(space.parameters).title,
                "intent": intent,
                "priority": _random_priority(rng),
                "difficulty": rng.randint(1, 5),
                "expected_factor": round(2 ** rng.uniform(-1, 2), 2),
                "rationale": "It may help.",
            }
        )
    return {
        "edits": edits,
        "kernel_summary": f"The kernel depends on its {rng.choice(space.parameters).title}.",
        "open_questions": [f"What about its {rng.choice(space.parameters).title}?"],
    }


def _random_priority(rng: random.Random) -> float:
    return round(rng.uniform(0.01, 0.99), 3)

"""Ideas of the simulated model: changes of a program that are worth trying, and their words.

World-model edits and recommendations are made of the same ideas, so that a method gains nothing by
the form in which it asks for a plan.

Covered: single changes of a design, each with the companions that the prior says it needs, ranked
by a gain that the caller states. Not covered: what becomes of them (simulated_world_model.py,
simulated_review.py), and the ablation with noise (simulated_noise.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from harness.design_space import Configuration, DesignSpace
from harness.llm.simulated_design import companion
from harness.llm.simulated_estimate import Estimate, Key, key
from harness.llm.simulated_knobs import Knobs

MOST_COMPANIONS = 2  # a plan may coordinate 3 choices; a program adds one to what it is asked for


@dataclass(frozen=True)
class Idea:
    """A change of the best program. gain: estimated bits over it, blurred."""

    configuration: Configuration = field(hash=False)
    changed: tuple[str, ...]
    gain: float


def blurred_gain(
    estimate: Estimate, base: Configuration, knobs: Knobs, rng: random.Random
) -> Callable[[Configuration], float]:
    """The estimated gain of a design over `base`, in bits, plus (1 - skill) bits of noise: a model
    of low skill ranks its ideas as badly as it programs. Each call draws once."""
    level = estimate(base)

    def gain(design: Configuration) -> float:
        return estimate(design) - level + (1 - knobs.skill) * rng.gauss(0.0, 1.0)

    return gain


def ideas(
    space: DesignSpace,
    base: Configuration,
    known: Collection[Key],
    gain: Callable[[Configuration], float],
) -> list[Idea]:
    """Single changes of `base`, each with the companions that it needs, best first."""
    found: dict[Key, Idea] = {}
    for parameter in space.parameters:
        for choice in parameter.choices:
            change = {parameter.name: choice.value}
            if choice.value == base[parameter.name]:
                continue
            for _ in range(MOST_COMPANIONS):
                change |= companion(space, base, change)
            design = {**base, **change}
            if key(design) not in known and key(design) not in found:
                found[key(design)] = Idea(design, tuple(change), gain(design))
    return sorted(found.values(), key=lambda a: (-a.gain, key(a.configuration)))


def families(ranked: list[Idea]) -> list[Idea]:
    """The best idea of each parameter first, then the others."""
    heads: dict[str, Idea] = {}
    for idea in ranked:
        heads.setdefault(idea.changed[0], idea)
    first = list(heads.values())
    return first + [idea for idea in ranked if idea not in first]


def in_words(space: DesignSpace, design: Configuration, names: Iterable[str]) -> str:
    """The phrases of a design's choices for these parameters; `choices_in` reads them back."""
    parameters = {p.name: p for p in space.parameters}
    return ", and ".join(parameters[n].choice(design[n]).phrase for n in names)


def design_in_words(space: DesignSpace, design: Configuration) -> str:
    """What distinguishes a design from the naive one."""
    naive = space.start()
    changed = [p.name for p in space.parameters if design[p.name] != naive[p.name]]
    return in_words(space, design, changed) if changed else "the naive design"


def as_sentence(words: str) -> str:
    """With a capital letter at the beginning."""
    return words[:1].upper() + words[1:]

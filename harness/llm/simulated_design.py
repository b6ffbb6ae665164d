"""Which design the simulated model wants next: its neighbours, its recombinations, its repairs.

1. crossover       of two programs, if the prompt asks for that
2. repair          of a program whose verdict in the prompt is a failure
3. intent          the choices that the prompt asks for, what the prior says they need, and
                   further changes where the drawn edit distance leaves room
4. neighbours      designs at the drawn edit distance, of which a skilled answer takes the best by
                   its estimate (simulated_estimate.py)

Covered: everything is computed from the prompt's text and the design space's documented prior. The
form of the wanted answer is not looked at, so that no form gets a better or a worse design.
Not covered: measured times. Nothing here can reach an evaluator, a cache or a table.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping

from harness.design_space import Configuration, DesignSpace
from harness.llm.simulated_estimate import Estimate, Key, key, observations_in
from harness.llm.simulated_knobs import Knobs
from harness.llm.simulated_programs import ShownProgram
from harness.llm.simulated_prompt import ReadPrompt, choices_in

SYNERGY_BITS = 0.05  # a companion must add this much by the prior, beyond its own gain


def neighbours(
    space: DesignSpace,
    base: Configuration,
    *,
    distance: int,
    limit: int,
    rng: random.Random,
    keep: Mapping[str, str] | None = None,
) -> list[dict[str, str]]:
    """At most `limit` designs that differ from `base` in `distance` parameters, none in `keep`.

    All of them if they are few enough, else distinct random ones (parameters uniformly, then
    values uniformly). Where fewer parameters can change, fewer do; empty if none can.
    """
    others = {
        p.name: [c.value for c in p.choices if c.value != base[p.name]]
        for p in space.parameters
        if p.name not in (keep or {})
    }
    free = [name for name, values in others.items() if values]
    distance = min(distance, len(free))
    if distance == 0:
        return []
    subsets = list(itertools.combinations(free, distance))
    if sum(math.prod(len(others[n]) for n in subset) for subset in subsets) <= limit:
        return [
            {**base, **dict(zip(subset, values, strict=True))}
            for subset in subsets
            for values in itertools.product(*(others[n] for n in subset))
        ]
    drawn: dict[Key, dict[str, str]] = {}
    while len(drawn) < limit:
        design = {**base, **{n: rng.choice(others[n]) for n in rng.choice(subsets)}}
        drawn.setdefault(key(design), design)
    return list(drawn.values())


def recombinations(
    space: DesignSpace,
    one: Configuration,
    other: Configuration,
    *,
    limit: int,
    rng: random.Random,
) -> list[dict[str, str]]:
    """At most `limit` designs that take each parameter from one of two designs and equal neither.

    All of them if they are few enough, else distinct random ones, all equally likely. Empty if the
    two differ in fewer than two parameters.
    """
    differing = [p.name for p in space.parameters if one[p.name] != other[p.name]]
    last = 2 ** len(differing) - 2  # a number's bits say what is taken from `other`: 0 is nothing
    if last <= limit:
        numbers = list(range(1, last + 1))
    else:
        drawn: dict[int, None] = {}
        while len(drawn) < limit:
            drawn.setdefault(rng.randint(1, last))
        numbers = list(drawn)
    return [
        {**one, **{name: other[name] for bit, name in enumerate(differing) if number >> bit & 1}}
        for number in numbers
    ]


def companion(space: DesignSpace, base: Configuration, change: Mapping[str, str]) -> dict[str, str]:
    """The one further choice that, by the prior, gains more with `change` than without it.

    Empty if no choice gains at least SYNERGY_BITS more, or if it would not gain at all.
    """
    changed = {**base, **change}
    best: tuple[float, dict[str, str]] = (SYNERGY_BITS, {})
    for parameter in space.parameters:
        if parameter.name in change:
            continue
        for choice in parameter.choices:
            extra = {parameter.name: choice.value}
            if base[parameter.name] == choice.value:
                continue
            gain_with = space.prior({**changed, **extra}) - space.prior(changed)
            gain_without = space.prior({**base, **extra}) - space.prior(base)
            synergy = gain_with - gain_without
            if gain_with > 0 and synergy > best[0]:
                best = (synergy, extra)
    return best[1]


def wanted_design(prompt: ReadPrompt, knobs: Knobs, rng: random.Random) -> dict[str, str]:
    """The design that the answer to this prompt is meant to have."""
    space, current = prompt.space, prompt.current
    skilled = rng.random() < knobs.skill
    distance = rng.choices((1, 2, 3), knobs.edit_distance)[0]
    seen = observations_in(prompt.programs) if knobs.insight_from_feedback else []
    estimate = Estimate(space, seen)
    asked = choices_in(space, prompt.intent)
    target = {**current.configuration, **asked}
    shown = {key(p.configuration) for p in prompt.programs}
    as_asked: list[dict[str, str]] = []

    if prompt.partner is not None:
        crossed = _crossover(prompt, prompt.partner, estimate if skilled else None, knobs, rng)
        if crossed is not None:
            return crossed
    if skilled and current.failed and not current.faithful:
        return target  # writing the design out again removes the fault in its text
    if skilled and current.failed and target == dict(current.configuration):
        target = _revert(prompt, asked)
        if key(target) not in shown:
            return target
    elif key(target) != key(current.configuration):
        if skilled:
            target |= companion(space, current.configuration, asked)
        changed = sum(target[name] != value for name, value in current.configuration.items())
        is_new = not (skilled and key(target) in shown)
        if is_new and changed >= distance:
            return target
        distance = max(1, distance - changed)
        as_asked = [target] if is_new else []

    found = neighbours(
        space, target, distance=distance, limit=knobs.neighbours, rng=rng, keep=asked
    )
    if not found:
        return target
    if not skilled:
        return rng.choice(found)
    untried = as_asked + [c for c in found if key(c) not in shown] or found
    return max(untried, key=lambda c: (round(estimate(c), 9), key(c)))


def slower_design(
    space: DesignSpace, target: Configuration, current: Configuration
) -> dict[str, str] | None:
    """A neighbour of `target` that the prior ranks below `current` if there is one, else the
    lowest-ranked below `target`; never `current` itself. None if `target` is the lowest."""
    near = [
        {**target, p.name: c.value}
        for p in space.parameters
        for c in p.choices
        if c.value != target[p.name]
    ]
    worse = [c for c in near if space.prior(c) < space.prior(target) and key(c) != key(current)]
    below = [c for c in worse if space.prior(c) < space.prior(current)]
    if below:
        return max(below, key=lambda c: (space.prior(c), key(c)))
    return min(worse, key=lambda c: (space.prior(c), key(c)), default=None)


def _crossover(
    prompt: ReadPrompt,
    partner: ShownProgram,
    estimate: Estimate | None,
    knobs: Knobs,
    rng: random.Random,
) -> dict[str, str] | None:
    """A design of the current program's and the partner's choices, except what the intent asks
    for. Without an estimate it is any, with one the best that is not in the prompt yet; None if
    none is."""
    space, one, other = prompt.space, prompt.current.configuration, partner.configuration
    asked = choices_in(space, prompt.intent)
    found = recombinations(space, one, other, limit=knobs.neighbours, rng=rng)
    if not found:
        return None
    if estimate is None:
        return {**rng.choice(found), **asked}
    best_of_both = {
        name: value
        if estimate.of_choice(name, value) >= estimate.of_choice(name, other[name])
        else other[name]
        for name, value in one.items()
    }
    shown = {key(p.configuration) for p in prompt.programs}
    crossed = [{**design, **asked} for design in (*found, best_of_both)]
    untried = [design for design in crossed if key(design) not in shown]
    return max(untried, key=lambda c: (round(estimate(c), 9), key(c)), default=None)


def _revert(prompt: ReadPrompt, asked: Mapping[str, str]) -> dict[str, str]:
    """The failed design with its most suspect parameter as in the best passed program shown (the
    naive design if none is). What was asked for stays; unchanged if nothing else is suspect."""
    space, current = prompt.space, prompt.current.configuration
    passed = [p for p in prompt.programs if p.score is not None]
    best = max(passed, key=lambda p: (p.score or 0.0, key(p.configuration)), default=None)
    safe: Configuration = best.configuration if best else space.start()

    def suspicion(name: str) -> tuple[bool, int]:
        proven = any(p.configuration[name] == current[name] for p in passed)
        difficulty = next(p.difficulty for p in space.parameters if p.name == name)
        return (not proven, difficulty)

    differing = [
        p.name for p in space.parameters if current[p.name] != safe[p.name] and p.name not in asked
    ]
    if not differing:
        return dict(current)
    suspect = max(differing, key=suspicion)
    return {**current, suspect: safe[suspect]}

"""Which design the simulated model wants next: its estimate, its neighbours, its repairs.

1. estimate        the space's prior, corrected by the scores in the prompt (`Estimate`)
2. intent          the choices that the prompt asks for, what the prior says they need, and
                   further changes where the drawn edit distance leaves room
3. neighbours      designs at the drawn edit distance, of which a skilled answer takes the best
4. repair          of a program whose verdict in the prompt is a failure

Covered: everything is computed from the prompt's text and the design space's documented prior.
Not covered: measured times. Nothing here can reach an evaluator, a cache or a table.

The estimate is prior(c) + sum over parameters of theta[p, c[p]], in bits (log2 of a speedup). theta
is the ridge solution of the residuals log2(score) - prior(c) of the passed programs in the prompt,
with an intercept that is not regularised (scores are relative to another baseline than the prior).
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.design_space import Configuration, DesignSpace
from harness.llm.simulated_knobs import Knobs
from harness.llm.simulated_prompt import ReadPrompt, ShownProgram, choices_in

RIDGE = 1.0  # pseudo-observations of "no correction" per choice: one score moves it half-way
SWEEPS = 60  # of coordinate descent; a few dozen scores converge to 1e-9 well before
SUSPICION_BITS = 4.0  # taken from the choices that only failed programs have; more than most gains
SYNERGY_BITS = 0.05  # a companion must add this much by the prior, beyond its own gain

Key = tuple[str, ...]


@dataclass(frozen=True)
class Observation:
    """A design with its score, or None for a design that failed."""

    configuration: Configuration = field(hash=False)
    score: float | None


def key(configuration: Configuration) -> Key:
    """A hashable, ordered form of a configuration."""
    return tuple(f"{name}={value}" for name, value in sorted(configuration.items()))


def observations_in(programs: Sequence[ShownProgram]) -> list[Observation]:
    """What the verdicts in a prompt say about designs.

    A failure of a text that differs from its design's rendering says nothing about the design.
    """
    scored = [Observation(p.configuration, p.score) for p in programs if p.score is not None]
    failed = [Observation(p.configuration, None) for p in programs if p.failed and p.faithful]
    return scored + failed


class Estimate:
    """Estimated log2(speedup) of a design up to a constant; higher is better."""

    def __init__(self, space: DesignSpace, observations: Sequence[Observation]) -> None:
        # Sorted, and equal ones once: the order in the prompt must not matter, not even in the
        # last bit of a sum.
        distinct = {(key(o.configuration), o.score or 0.0): o for o in observations}
        ordered = [distinct[k] for k in sorted(distinct)]
        passed = [(o.configuration, o.score) for o in ordered if o.score is not None]
        failed = [o.configuration for o in ordered if o.score is None]
        self._space = space
        self._corrections = _ridge(space, passed)
        _suspect(space, [c for c, _ in passed], failed, self._corrections)
        self._failed = {key(c) for c in failed}

    def __call__(self, configuration: Configuration) -> float:
        corrections = sum(
            self._corrections[p.name, configuration[p.name]] for p in self._space.parameters
        )
        known_bad = SUSPICION_BITS if key(configuration) in self._failed else 0.0
        return self._space.prior(configuration) + corrections - known_bad


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


def _ridge(
    space: DesignSpace, passed: Sequence[tuple[Configuration, float]]
) -> dict[tuple[str, str], float]:
    theta = {(p.name, c.value): 0.0 for p in space.parameters for c in p.choices}
    if not passed:
        return theta
    left = [math.log2(score) - space.prior(c) for c, score in passed]
    intercept = 0.0
    for _ in range(SWEEPS):
        step = math.fsum(left) / len(left)
        intercept += step
        left = [r - step for r in left]
        for parameter in space.parameters:
            for choice in parameter.choices:
                rows = [i for i, (c, _) in enumerate(passed) if c[parameter.name] == choice.value]
                if rows:
                    old = theta[parameter.name, choice.value]
                    total = math.fsum(left[i] for i in rows) + len(rows) * old
                    new = total / (len(rows) + RIDGE)
                    theta[parameter.name, choice.value] = new
                    for i in rows:
                        left[i] += old - new
    return theta


def _suspect(
    space: DesignSpace,
    passed: Sequence[Configuration],
    failed: Sequence[Configuration],
    theta: dict[tuple[str, str], float],
) -> None:
    """Blame the choices of failed designs that no passed design, and not the naive one, has."""
    cleared = [space.start(), *passed]
    blame: dict[tuple[str, str], float] = {}
    for design in failed:
        suspects = [
            p.name for p in space.parameters if all(c[p.name] != design[p.name] for c in cleared)
        ]
        for name in suspects:
            choice = (name, design[name])
            blame[choice] = max(blame.get(choice, 0.0), SUSPICION_BITS / len(suspects))
    for choice, bits in blame.items():
        theta[choice] -= bits

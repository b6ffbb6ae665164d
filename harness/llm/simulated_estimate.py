"""What the simulated model believes about designs: an estimate from the prior and from the prompt.

The estimate is prior(c) + sum over parameters of theta[p, c[p]], in bits (log2 of a speedup). theta
is the ridge solution of the residuals log2(score) - prior(c) of the passed programs in the prompt,
with an intercept that is not regularised (scores are relative to another baseline than the prior).
Choices that only failed designs have lose SUSPICION_BITS between them.

Covered: what a program in the prompt says about its design. Not covered: anything measured that is
not in the prompt; what is done with the estimate (simulated_design.py, simulated_plan.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.design_space import Configuration, DesignSpace
from harness.llm.simulated_programs import ShownProgram

RIDGE = 1.0  # pseudo-observations of "no correction" per choice: one score moves it half-way
SWEEPS = 60  # of coordinate descent; a few dozen scores converge to 1e-9 well before
SUSPICION_BITS = 4.0  # taken from the choices that only failed programs have; more than most gains

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

    A failure of a text that differs from its design's rendering says nothing about the design. A
    score from a list is left out where a verdict scores the same design: it is the same number
    once more, rounded.
    """
    judged = {key(p.configuration) for p in programs if p.score is not None and not p.listed}
    scored = [
        Observation(p.configuration, p.score)
        for p in programs
        if p.score is not None and not (p.listed and key(p.configuration) in judged)
    ]
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

    def of_choice(self, name: str, value: str) -> float:
        """What one choice is worth by itself: interactions of the prior are left out."""
        gain = next(p for p in self._space.parameters if p.name == name).choice(value).gain
        return gain + self._corrections[name, value]


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

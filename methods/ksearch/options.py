"""The settings of K-Search, each with its range and the reason for its default.

Not covered: sampling of the model (models.toml) and the budget (the comparison's).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Policy = Literal["argmax", "random", "uct"]
WorldModelMode = Literal["evolving", "frozen", "none"]


@dataclass(frozen=True)
class Options:
    """Raises ValueError for a value outside the range that is given here.

    k: a cycle ends after this many evaluations in a row without a new best of the cycle, at least
      1. The paper uses 7 on its FlashInfer tasks and 5 on TriMul.
    cycle_limit: a cycle holds at most cycle_limit * k evaluations, at least 1: a chain of tiny
      gains, which noise alone can make, must not use up the run.
    policy: which action of the frontier is next: "argmax" (the highest V, as in the paper),
      "random" (uniform) or "uct" (upper confidence bounds down the tree).
    uct_c: exploration constant of "uct", 0 to 100; for rewards in [0, 1] UCB1 has sqrt(2)
      and UCT 1 / sqrt(2): the default lies between.
    world_model: "evolving" (the paper), "frozen" (the model writes it once and never changes it) or
      "none" (never written: cycles of refinement on the best program).
    max_difficulty: actions rated harder (1 to 5) wait until no easier one is left. It is used as
      given, whatever the world model says.
    attempt_cap: failed cycles after which an action is pruned, at least 1.
    demotion: factor on V after a failed cycle, in [0, 1); difficulty rises by one as well.
    max_new_nodes: insertions accepted from one answer, at least 3, since the first answer is asked
      for three families.
    projection_tokens: budget of the tree's text in prompts, at least 500.
    world_model_retries: further calls after an unusable world-model answer, 0 to 10.
    """

    k: int = 7
    cycle_limit: int = 5
    policy: Policy = "argmax"
    uct_c: float = 1.0
    world_model: WorldModelMode = "evolving"
    max_difficulty: int = 4
    attempt_cap: int = 2
    demotion: float = 0.5
    max_new_nodes: int = 5
    projection_tokens: int = 6000
    world_model_retries: int = 2

    def __post_init__(self) -> None:
        _at_least("k", self.k, 1)
        _at_least("cycle_limit", self.cycle_limit, 1)
        _one_of("policy", self.policy, get_args(Policy))
        _within("uct_c", self.uct_c, 0.0, 100.0)
        _one_of("world_model", self.world_model, get_args(WorldModelMode))
        _within("max_difficulty", self.max_difficulty, 1, 5)
        _at_least("attempt_cap", self.attempt_cap, 1)
        if not 0.0 <= self.demotion < 1.0:
            raise ValueError(f"demotion must be in [0, 1), got {self.demotion}")
        _at_least("max_new_nodes", self.max_new_nodes, 3)
        _at_least("projection_tokens", self.projection_tokens, 500)
        _within("world_model_retries", self.world_model_retries, 0, 10)


def _at_least(name: str, value: int, low: int) -> None:
    if value < low:
        raise ValueError(f"{name} must be at least {low}, got {value}")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low} to {high}, got {value}")


def _one_of(name: str, value: str, words: tuple[str, ...]) -> None:
    if value not in words:
        raise ValueError(f"{name} must be one of {', '.join(words)}; got {value!r}")

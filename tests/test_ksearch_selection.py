"""Which action K-Search tries next."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from test_ksearch_world_model import toy_program, tree

from methods.ksearch.selection import select
from methods.ksearch.world_model import Update, WorldModel


def choose(
    model: WorldModel, policy: str = "argmax", max_difficulty: int = 4, uct_c: float = 0.5
) -> str:
    return select(
        model, policy=policy, max_difficulty=max_difficulty, uct_c=uct_c, stream=Random(1)
    ).id


def rated(*ratings: tuple[float, int]) -> WorldModel:
    model = tree(*["n0"] * len(ratings))
    for number, (priority, difficulty) in enumerate(ratings, start=1):
        model = model.update(Update(f"n{number}", priority, difficulty))
    return model


def test_argmax_takes_the_highest_v() -> None:
    assert choose(rated((0.2, 1), (0.8, 3), (0.5, 1))) == "n2"


def test_equal_v_goes_to_the_easier_and_then_to_the_older_action() -> None:
    assert choose(rated((0.5, 3), (0.5, 2), (0.5, 2))) == "n2"


def test_equal_v_and_difficulty_goes_to_the_larger_expected_factor() -> None:
    model = rated((0.5, 2), (0.5, 2))
    better = replace(model.nodes["n2"], expected_factor=3.0)
    assert choose(replace(model, nodes={**model.nodes, "n2": better})) == "n2"


@pytest.mark.parametrize("policy", ["argmax", "random", "uct"])
def test_actions_beyond_the_gate_wait_until_no_easier_one_is_left(policy: str) -> None:
    assert choose(rated((0.9, 5), (0.1, 4)), policy) == "n2"
    assert choose(rated((0.9, 5)), policy) == "n1"


def test_an_action_below_an_open_node_is_not_selected() -> None:
    model = tree("n0", "n1").update(Update("n2", priority=1.0))
    assert choose(model) == "n1"


def test_an_empty_frontier_is_refused() -> None:
    with pytest.raises(ValueError, match="frontier is empty"):
        choose(tree())


def test_random_reaches_every_action() -> None:
    model, stream = rated((0.9, 1), (0.1, 1), (0.1, 1)), Random(1)
    chosen = {
        select(model, policy="random", max_difficulty=4, uct_c=0.5, stream=stream).id
        for _ in range(50)
    }
    assert chosen == {"n1", "n2", "n3"}


def test_uct_without_exploration_follows_the_rewards() -> None:
    model = tree("n0", "n0", "n1", "n2")  # n3 below n1, n4 below n2
    model = model.attach("n1", toy_program(1.0)).attach("n2", toy_program(4.0))
    assert choose(model, "uct", uct_c=0.0) == "n4"


def test_uct_with_much_exploration_visits_the_untried_branch() -> None:
    model = tree("n0", "n1", "n0").attach("n1", toy_program(4.0))  # n2 below n1; n3 untried
    model = model.update(Update("n3", priority=0.1))
    assert choose(model, "uct", uct_c=0.0) == "n2"
    assert choose(model, "uct", uct_c=10.0) == "n3"


def test_uct_ties_go_to_the_oldest() -> None:
    assert choose(rated((0.5, 2), (0.5, 2), (0.5, 2)), "uct") == "n1"

"""What prompts show of K-Search's tree: valid JSON, the whole frontier, within the budget."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from test_ksearch_world_model import toy_program, tree

from methods.ksearch.projection import estimated_tokens, project
from methods.ksearch.world_model import Insert, Prune, WorldModel


def grown(size: int, seed: int = 0) -> WorldModel:
    """A random tree of `size` nodes in all states."""
    stream = random.Random(seed)
    model = tree()
    for number in range(1, size):
        parents = [n.id for n in model.nodes.values() if n.state != "pruned"]
        text = f"idea {number} " + "with a longer explanation " * stream.randint(0, 8)
        edit = Insert(stream.choice(parents), text[:100], text, stream.random(), 2, 1.5, text)
        model, node = model.insert(edit, number)
        fate = stream.random()
        if fate < 0.4 and node in model.frontier:
            model = model.attach(node.id, toy_program(round(stream.uniform(0.5, 4), 3)))
        elif fate < 0.6:
            model, _ = model.prune(Prune(node.id, "no use"))
    return model


@pytest.mark.parametrize("budget", [500, 2_000, 6_000, 100_000])
@pytest.mark.parametrize("size", [1, 2, 40, 300])
def test_it_is_valid_json_with_the_whole_frontier_and_its_v(size: int, budget: int) -> None:
    model = grown(size)
    shown = json.loads(project(model, budget))
    nodes = {node["id"]: node for node in shown["nodes"]}
    assert shown["frontier"] == [node.id for node in model.frontier]
    for node in model.frontier:
        assert nodes[node.id]["priority"] == round(node.priority, 3)
        assert nodes[node.id]["difficulty"] == node.difficulty
    assert model.root in nodes
    assert shown["omitted"] == len(model.nodes) - len(nodes)


@pytest.mark.parametrize("size", [40, 300])
def test_it_keeps_the_budget_unless_the_frontier_alone_exceeds_it(size: int) -> None:
    model = grown(size)
    smallest = estimated_tokens(project(model, 0))
    for budget in (500, 1_000, 2_000, 6_000, 20_000):
        assert estimated_tokens(project(model, budget)) <= max(budget, smallest)


def test_with_room_enough_nothing_is_cut() -> None:
    model = tree("n0", "n1", "n0").attach("n1", toy_program(2.0))
    model = replace(model, kernel_summary="s", open_questions=("q?",))
    shown = json.loads(project(model, 6_000))
    assert [node["intent"] for node in shown["nodes"]] == ["", "do 1", "do 2", "do 3"]
    assert (shown["kernel_summary"], shown["open_questions"]) == ("s", ["q?"])
    assert shown["nodes"][1]["status"] == "PASSED"
    assert shown["nodes"][1]["score"] == 2.0


def test_every_node_has_the_same_documented_keys() -> None:
    keys = {
        "id", "parent", "state", "title", "intent", "priority", "difficulty", "status", "score",
        "attempts",
    }  # fmt: skip
    for budget in (500, 100_000):
        for node in json.loads(project(grown(100), budget))["nodes"]:
            assert keys <= node.keys() <= keys | {"expected_factor", "rationale", "notes"}


def test_pruned_detail_goes_before_closed_and_closed_before_the_frontier() -> None:
    model = grown(300)
    counts = []
    for budget in (3_000, 6_000, 9_000, 12_000, 40_000):
        nodes = json.loads(project(model, budget))["nodes"]
        shown = [sum(node["state"] == state for node in nodes) for state in ("closed", "pruned")]
        counts.append(shown)
        closed = sum(node.state == "closed" for node in model.nodes.values())
        assert shown[1] == 0 or shown[0] == closed
    assert counts[0] < counts[-1]


def test_the_best_node_is_shown_before_other_closed_ones() -> None:
    model = grown(300)
    smallest = estimated_tokens(project(model, 0))
    shown = {node["id"] for node in json.loads(project(model, smallest + 3_000))["nodes"]}
    assert model.best.id in shown


def test_equal_trees_have_equal_texts() -> None:
    assert project(grown(100), 2_000) == project(grown(100), 2_000)

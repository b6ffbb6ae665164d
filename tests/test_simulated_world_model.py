"""The simulated model's world-model answers: valid, about nodes that exist, and worth something.

Not covered: what an engine makes of the edits (tests of methods/ksearch).
"""

import json
import math
import re
from dataclasses import replace

import pytest
from toy_design_space import CAREFUL, SPACE, START, answer, design_of, passed, program, prompt

from harness.llm.simulated_prompt import choices_in, read_world_model

# --- the world model ------------------------------------------------------------------------------


def node(identity, state="open", parent="n0", **fields):
    defaults = {
        "title": "idea", "intent": "", "priority": 0.5, "difficulty": 2, "status": None,
        "score": None, "attempts": 0,
    }  # fmt: skip
    return {"id": identity, "parent": parent, "state": state, **defaults, **fields}


ROOT = node("n0", state="closed", parent=None, status="PASSED", score=1.0)


ROOT_PROGRAM = program(START, passed(1.0), heading="Node n0")


def world_prompt(*nodes, programs=(ROOT_PROGRAM,)):
    model = {"root": "n0", "nodes": [ROOT, *nodes], "frontier": [], "kernel_summary": ""}
    form = '```json\n{"edits": [{"op": "insert"}]}\n```'
    block = f"```json\n{json.dumps(model, indent=1)}\n```"
    return "\n\n".join(["# Task", block, *programs, "Answer in this form:", form])


def edits_of(text, knobs=CAREFUL, occurrence=0):
    reply = answer(text, knobs, occurrence, purpose="world-model")
    blocks = re.findall(r"^```json\n(.*?)^```$", reply.text, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1
    data = json.loads(blocks[0])
    assert set(data) == {"edits", "kernel_summary", "open_questions"}
    return data["edits"]


def of_kind(edits, op):
    return [e for e in edits if e["op"] == op]


def test_the_first_world_model_holds_at_least_three_families_ranked_by_the_prior():
    inserts = of_kind(edits_of(world_prompt()), "insert")
    assert len(inserts) >= 3
    assert all(e["parent"] == "n0" and 0 < e["priority"] < 1 for e in inserts)
    best = max(inserts, key=lambda e: e["priority"])
    assert choices_in(SPACE, best["intent"])["order"] == "ikj"
    assert len({e["title"].split(":")[0] for e in inserts}) >= 3


def test_an_inserted_intent_makes_the_model_write_that_design():
    for edit in of_kind(edits_of(world_prompt()), "insert"):
        wanted = choices_in(SPACE, edit["intent"])
        text = prompt(program(START, passed(1.0)), intent=edit["intent"])
        assert wanted
        assert design_of(text, replace(CAREFUL, skill=0.0)) == {**START, **wanted}


def test_the_expected_factor_and_the_priority_come_from_the_prior():
    inserts = of_kind(edits_of(world_prompt()), "insert")
    tile = next(e for e in inserts if choices_in(SPACE, e["intent"]) == {"tile": "4"})
    assert tile["expected_factor"] == round(2**0.4, 2)
    assert tile["priority"] == round(1 / (1 + math.exp(-0.4)), 3)
    assert tile["difficulty"] == 3


FASTER = {**START, "order": "ikj"}
AFTER_A_CYCLE = world_prompt(
    node("n1", "closed", intent="reorder the loops to i-k-j", score=2.5, status="PASSED"),
    node("n2", intent="tile by 4", attempts=1, status="COMPILE_ERROR", priority=0.6),
    node("n3", intent="reorder the loops to j-k-i", priority=0.4),
    node("n4", parent="n1", intent="unroll twice", priority=0.9),
    programs=(
        program(START, passed(1.0), heading="Node n0"),
        program(FASTER, passed(2.5), heading="Node n1"),
    ),
)


def test_later_inserts_go_under_the_best_closed_node_and_are_new():
    inserts = of_kind(edits_of(AFTER_A_CYCLE), "insert")
    assert inserts
    assert {e["parent"] for e in inserts} == {"n1"}
    assert "use vector registers" in inserts[0]["intent"].lower()


def test_a_failed_action_loses_priority_and_gains_difficulty():
    update = next(e for e in of_kind(edits_of(AFTER_A_CYCLE), "update") if e["node"] == "n2")
    assert update["priority"] < 0.6
    assert update["difficulty"] == 4  # that of the tiling, and one more


def test_an_idea_far_below_the_best_program_is_pruned():
    assert [e["node"] for e in of_kind(edits_of(AFTER_A_CYCLE), "prune")] == ["n3"]


def test_the_last_open_node_is_never_pruned():
    text = world_prompt(node("n1", intent="reorder the loops to j-k-i", attempts=5))
    for world_model in ("informed", "noise"):
        for n in range(30):
            knobs = replace(CAREFUL, world_model=world_model)
            assert not of_kind(edits_of(text, knobs, n), "prune")


def test_a_program_without_a_node_id_is_found_by_its_score():
    text = AFTER_A_CYCLE.replace("## Node n1", "## The best").replace(
        '"intent": "reorder the loops to i-k-j"', '"intent": "rewrite it"'
    )
    inserts = of_kind(edits_of(text), "insert")
    assert choices_in(SPACE, inserts[0]["intent"]).get("vector") == "yes"


def test_a_node_without_an_intent_is_understood_by_its_title():
    text = world_prompt(node("n1", title="loop order: ikj and tiling: 4"))
    known = {"order": "ikj", "tile": "4"}
    update = of_kind(edits_of(text), "update")[0]
    assert update["priority"] == round(1 / (1 + math.exp(-SPACE.prior({**START, **known}))), 3)


@pytest.mark.parametrize("world_model", ["informed", "noise"])
def test_the_limit_on_insertions_that_the_prompt_states_is_kept(world_model):
    text = world_prompt() + "\n\nInsert at least 1 and at most 3 open actions."
    knobs = replace(CAREFUL, world_model=world_model)
    assert len(of_kind(edits_of(text, knobs), "insert")) == 3


@pytest.mark.parametrize("world_model", ["informed", "noise"])
@pytest.mark.parametrize("skill", [0.0, 0.5, 1.0])
def test_edits_refer_only_to_nodes_of_the_prompt_and_stay_in_range(world_model, skill):
    knobs = replace(CAREFUL, world_model=world_model, skill=skill)
    model = read_world_model(AFTER_A_CYCLE)
    for n in range(40):
        for edit in edits_of(AFTER_A_CYCLE, knobs, n):
            if edit["op"] == "insert":
                assert model.nodes[edit["parent"]].state == "closed"
                assert edit["title"]
                assert edit["intent"]
                assert edit["expected_factor"] > 0
            else:
                assert model.nodes[edit["node"]].state == "open"
            assert 0 < edit.get("priority", 0.5) < 1
            assert 1 <= edit.get("difficulty", 1) <= 5


def mean_gain_of_the_first_choice(knobs):
    gains = []
    for n in range(100):
        inserts = of_kind(edits_of(world_prompt(), knobs, n), "insert")
        first = max(inserts, key=lambda e: e["priority"])
        gains.append(SPACE.prior({**START, **choices_in(SPACE, first["intent"])}))
    return sum(gains) / len(gains)


def test_noise_ranks_ideas_worse_than_an_informed_model():
    informed = mean_gain_of_the_first_choice(CAREFUL)
    noise = mean_gain_of_the_first_choice(replace(CAREFUL, world_model="noise"))
    assert informed - noise > 1.0


def test_less_skill_ranks_ideas_worse():
    skilled = mean_gain_of_the_first_choice(CAREFUL)
    unskilled = mean_gain_of_the_first_choice(replace(CAREFUL, skill=0.0))
    assert skilled - unskilled > 0.1


def test_a_format_mistake_in_a_world_model_answer_is_not_valid_json():
    knobs = replace(CAREFUL, format_error=1.0)
    for n in range(40):
        text = answer(world_prompt(), knobs, n, purpose="world-model").text
        body = text.removeprefix("```json").rstrip().removesuffix("```")
        with pytest.raises(ValueError):
            json.loads(body)


@pytest.mark.parametrize("world_model", ["informed", "noise"])
def test_a_large_world_model_gets_a_short_answer(world_model):
    nodes = [node(f"n{i}", intent="reorder the loops to j-k-i") for i in range(1, 500)]
    edits = edits_of(world_prompt(*nodes), replace(CAREFUL, world_model=world_model))
    assert 0 < len(edits) <= 32


@pytest.mark.parametrize(
    "nodes",
    [
        [node("n1", parent="n2"), node("n2", parent="n1")],
        [node("n1", parent="gone"), {"id": 3}, {"id": "n4"}, {}, "n5"],
        [node("n1", priority="high", difficulty=None, score=True, attempts=1e300)],
        [node("n1", score=10**400, attempts=-5, priority=-1)],
    ],
    ids=["a cycle", "missing fields", "wrong types", "out of range"],
)
def test_a_malformed_world_model_is_read_as_far_as_it_goes(nodes):
    assert of_kind(edits_of(world_prompt(*nodes)), "insert")

"""The defects of the published K-Search code that this one must not have, numbered as in
docs/ksearch.md. Defect 5 and the rest of 4 and 10 are in test_ksearch_world_model.py; 7 is the run
log's."""

from __future__ import annotations

import json
import random
import re
from itertools import pairwise

import pytest
from conformance_method import (
    Question,
    fenced,
    program,
    run_method,
    shown_tree,
    skilled_model,
    world_model_answer,
)
from test_ksearch import BROKEN, answer, initial, insert, scripted, selected, tree_of

from harness.types import Candidate
from methods.ksearch import method
from methods.ksearch.options import Options
from methods.ksearch.planning import GENERIC_TITLE


def test_defect_1_every_prompt_shows_valid_json_with_the_whole_frontier_and_its_v() -> None:
    problem = run_method(method, skilled_model(4), budget=60, k=1, projection_tokens=500)
    sizes = []
    for question in problem.questions_for("world-model"):
        tree = shown_tree(question.text)
        shown = {node["id"]: node for node in tree["nodes"]}
        assert all(0 <= shown[node_id]["priority"] <= 1 for node_id in tree["frontier"])
        sizes.append(len(tree["frontier"]))
    assert max(sizes) > 20


def test_defect_2_a_failing_action_is_demoted_and_at_last_pruned_whatever_the_model_says() -> None:
    stubborn = answer({"op": "update", "node": "n1", "priority": 1.0, "difficulty": 1})
    problem = run_method(method, scripted([BROKEN], [initial(), stubborn]), budget=9, k=2)
    assert selected(problem)[:3] == ["n1", "n1", "n2"]
    assert tree_of(problem)["n1"]["state"] == "pruned"


def test_defect_2_a_failed_cycle_demotes_without_any_model() -> None:
    problem = run_method(
        method, scripted([BROKEN], [initial()]), budget=2, k=2, variant="frozen", demotion=0.25
    )
    node = tree_of(problem)["n1"]
    assert (node["priority"], node["difficulty"], node["attempts"]) == (0.225, 3, 1)


@pytest.mark.parametrize(
    "field", ["score", "evaluation", "id", "program", "state", "attempts", "candidate"]
)
def test_defect_3_the_model_cannot_write_what_the_engine_owns(field: str) -> None:
    forged = answer({"op": "update", "node": "n1", "notes": "great", field: 99})
    problem = run_method(method, scripted([fenced(program(1.5))], [initial(), forged]), k=1)
    versions = problem.recorded("world_model")
    assert versions[1]["reason"] == "failed update"
    assert field in versions[1]["rejected"][0]
    assert all((n["score"] or 0) <= 1.5 for v in versions for n in v["nodes"])


def test_defect_4_refused_answers_leave_nothing_behind() -> None:
    half_good = answer(insert("good", 0.5), {"op": "prune", "node": "n99"})
    problem = run_method(method, scripted([BROKEN], [initial(), half_good]), budget=4, k=2)
    first_update = problem.recorded("world_model")[1]
    assert len(first_update["rejected"]) == 1 + Options().world_model_retries
    assert len(first_update["nodes"]) == 4
    assert [edit["by"] for edit in first_update["edits"]] == ["engine"]


def test_defect_4_ids_are_never_given_twice() -> None:
    problem = run_method(method, skilled_model(4), budget=30, k=1)
    for version in problem.recorded("world_model"):
        ids = [node["id"] for node in version["nodes"]]
        assert ids == [f"n{number}" for number in range(len(ids))]


def test_defect_6_a_first_world_model_that_cannot_be_read_does_not_end_the_run() -> None:
    model = scripted([fenced(program(1.5))], ["What a nice kernel!"])
    problem = run_method(method, model, budget=10, k=3)
    assert problem.charged == 10
    assert problem.recorded("world_model")[0]["reason"] == "initial"
    assert tree_of(problem, 0)["n1"]["title"] == GENERIC_TITLE


def test_defect_6_an_unreadable_update_is_asked_again_with_the_reason() -> None:
    plans = [initial(), "no json", answer(insert("later", 0.2))]
    problem = run_method(method, scripted([fenced(program(1.5))], plans), budget=4, k=1)
    again = problem.questions_for("world-model")[2].text
    assert "refused and changed nothing: the answer holds no block fenced with ```json" in again
    assert problem.recorded("world_model")[1]["reason"] == "update"


def test_an_empty_frontier_is_refilled_by_the_model_or_else_by_the_engine() -> None:
    nothing_left = answer(*({"op": "prune", "node": f"n{n}"} for n in (2, 3)))
    refill = answer(insert("fresh", 0.5, parent="n1"))
    for last, title in ((refill, "fresh"), (answer(), GENERIC_TITLE)):
        model = scripted([fenced(program(1.5))], [initial(), nothing_left, last])
        problem = run_method(method, model, budget=3, k=1)
        assert problem.recorded("selection")[1]["title"] == title
        assert tree_of(problem, 1)["n4"]["parent"] == "n1"


def test_defect_8_generated_code_reaches_the_evaluator_and_the_next_prompt_unchanged() -> None:
    source = "// value: 1.5\nconst float scale = 0x1.62e43p-1f;\n\tint run(); // ``x`` \\n"
    problem = run_method(method, scripted([fenced(source)], [initial()]), budget=2, k=3)
    assert [p.source for p in problem.proposals] == [source, source]
    assert f"```cpp\n{source}\n```" in problem.questions_for("propose")[1].text


def test_defect_9_the_records_rebuild_the_tree_of_every_round() -> None:
    problem = run_method(method, skilled_model(4), budget=30, k=2)
    versions = problem.recorded("world_model")
    cycles = {record["round"]: record for record in problem.recorded("cycle")}
    selections = {record["round"]: record for record in problem.recorded("selection")}
    assert [v["round"] for v in versions] == [0, *cycles] == [0, *selections]
    programs = {p.id: p for p in problem.proposals if isinstance(p, Candidate)}
    for before, after in pairwise(versions):
        old, new = ({n["id"]: n for n in version["nodes"]} for version in (before, after))
        inserted = [e["node"] for e in after["edits"] if e["op"] == "insert"]
        pruned = {e["node"] for e in after["edits"] if e["op"] == "prune"}
        assert [n for n in new if n not in old] == inserted
        assert {n for n in old if new[n]["state"] == "pruned" != old[n]["state"]} == pruned
        cycle = cycles[after["round"]]
        assert new[cycle["node"]]["score"] == cycle["best_score"]
        assert new[cycle["node"]]["candidate"] == cycle["best_candidate"]
        assert cycle["best_candidate"] is None or cycle["best_candidate"] in programs
        frontier = [
            n["id"]
            for n in old.values()
            if n["state"] == "open" and old[n["parent"]]["state"] == "closed"
        ]
        assert selections[after["round"]]["frontier"] == frontier


def test_defect_10_a_cycle_is_bounded_even_if_every_evaluation_improves() -> None:
    model = scripted([fenced(program(1 + n / 100)) for n in range(40)], [initial()])
    problem = run_method(method, model, budget=20, k=2, cycle_limit=3)
    assert [record["evaluations"] for record in problem.recorded("cycle")] == [6, 6, 6, 2]


def test_defect_10_every_attempt_has_the_same_system_message() -> None:
    problem = run_method(method, skilled_model(1), budget=20, k=3)
    assert len({q.request.messages[0] for q in problem.questions_for("propose")}) == 1


def test_defect_11_a_reply_without_a_program_is_charged_and_not_asked_again() -> None:
    model = scripted(["no program"], [initial()])
    problem = run_method(method, model, budget=6, k=3)
    assert [record["evaluations"] for record in problem.recorded("cycle")] == [3, 3]
    assert len(problem.questions_for("propose")) == 6


@pytest.mark.parametrize(("gate", "first"), [(1, "n2"), (3, "n2"), (4, "n1"), (5, "n1")])
def test_defect_12_the_users_maximum_difficulty_is_used_as_given(gate: int, first: str) -> None:
    plan = answer(insert("hard", 0.9, 4), insert("easy", 0.5, 1), insert("easy too", 0.4, 1))
    problem = run_method(method, scripted([BROKEN], [plan]), budget=1, max_difficulty=gate)
    assert selected(problem) == [first]


def test_a_world_model_of_noise_is_survived() -> None:
    """Priorities, parents and prunes at random, as in the ablation of what a world model knows."""
    stream = random.Random(5)

    def model(question: Question) -> str:
        if question.purpose == "propose":
            return skilled_model(1)(question)
        if stream.random() < 0.3:
            return world_model_answer(question.text, stream)[:-40]
        nodes = shown_tree(question.text)["nodes"]
        prune = {"op": "prune", "node": stream.choice(nodes)["id"]}
        return re.sub(r"\]\}\n```$", f", {json.dumps(prune)}]}}\n```",
                      world_model_answer(question.text, stream))  # fmt: skip

    assert run_method(method, model, budget=40, k=1).charged == 40

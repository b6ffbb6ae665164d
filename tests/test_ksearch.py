"""K-Search: the method contract, the loop, options and variants."""

from __future__ import annotations

import json
import random

import pytest
from conformance_method import (
    MethodContract,
    Model,
    Question,
    ToyProblem,
    fenced,
    program,
    run_method,
    skilled_model,
    values_in,
    world_model_answer,
)

from harness.errors import UsageError
from harness.method import load_method
from harness.types import Candidate
from methods.ksearch import method
from methods.ksearch.options import Options
from methods.ksearch.planning import GENERIC_TITLE

INITIAL = [("family a", 0.9, 2), ("family b", 0.6, 2), ("family c", 0.3, 2)]


class TestKSearch(MethodContract):
    method = method
    variants = (None, *method.variants)
    options = {"k": 3}


def insert(title: str, priority: float, difficulty: int = 2, parent: str = "n0") -> dict:
    return {
        "op": "insert",
        "parent": parent,
        "title": title,
        "intent": f"do {title}",
        "priority": priority,
        "difficulty": difficulty,
    }


def answer(*edits: dict) -> str:
    return f"```json\n{json.dumps({'edits': list(edits)})}\n```"


def scripted(programs: list[str], plans: list[str]) -> Model:
    """Replies in order, per purpose; the last one again and again."""
    scripts = {"propose": iter(programs), "world-model": iter(plans)}
    last = {"propose": programs[-1], "world-model": plans[-1]}

    def reply(question: Question) -> str:
        return next(scripts[question.purpose], last[question.purpose])

    return reply


def initial() -> str:
    return answer(*(insert(*action) for action in INITIAL))


def tree_of(problem: ToyProblem, version: int = -1) -> dict[str, dict]:
    return {node["id"]: node for node in problem.recorded("world_model")[version]["nodes"]}


def selected(problem: ToyProblem) -> list[str]:
    return [record["node"] for record in problem.recorded("selection")]


BROKEN = fenced("int broken();")


# --- the loop -------------------------------------------------------------------------------------


def test_it_is_found_by_its_name() -> None:
    assert load_method("ksearch") is method


def test_a_cycle_ends_after_k_evaluations_without_a_new_best_of_the_cycle() -> None:
    values = [0.5, 0.4, 0.7, 0.6, 0.6]  # all below the start's 1.0: the cycle's own best counts
    model = scripted([fenced(program(v)) for v in values], [initial()])
    problem = run_method(method, model, budget=5, k=2)
    cycle = problem.recorded("cycle")[0]
    assert (cycle["evaluations"], cycle["best_score"], cycle["improved"]) == (5, 0.7, False)


def test_an_equal_score_is_no_improvement() -> None:
    model = scripted([fenced(program(2.0))], [initial()])
    problem = run_method(method, model, budget=3, k=2)
    assert problem.recorded("cycle")[0]["evaluations"] == 3


def test_until_the_first_pass_it_debugs_the_last_program_and_then_improves_the_better_one() -> None:
    programs = [BROKEN, "no program", fenced(program(1.5)), fenced(program(1.2)), BROKEN]
    problem = run_method(method, scripted(programs, [initial()]), budget=5, k=4)
    texts = [question.text for question in problem.questions_for("propose")]
    assert values_in(texts[0]) == [1.0]
    assert "int broken();" in texts[1]
    assert "COMPILE_ERROR" in texts[1]
    assert "int broken();" in texts[2]  # the reply without a program left nothing to debug
    assert values_in(texts[3]) == [1.5]
    assert values_in(texts[4]) == [1.5]


def test_below_a_better_parent_it_improves_the_parent() -> None:
    problem = run_method(method, scripted([fenced(program(0.5))], [initial()]), budget=2, k=4)
    assert values_in(problem.questions_for("propose")[1].text) == [1.0]


def test_every_attempt_of_a_cycle_has_the_same_intent_and_the_program_comes_last() -> None:
    problem = run_method(method, skilled_model(1), budget=3, k=5)
    for question in problem.questions_for("propose"):
        lines = question.text.splitlines()
        assert sum(line.startswith("Intent: ") for line in lines) == 1
        assert question.text.count("```cpp\n") == 1


def test_a_cycle_with_a_pass_closes_its_node_with_the_best_program() -> None:
    model = scripted([fenced(program(v)) for v in (1.5, 1.2, 1.1)], [initial()])
    problem = run_method(method, model, budget=3, k=2)
    node = tree_of(problem)["n1"]
    best = Candidate("cpp", program(1.5))
    assert (node["state"], node["score"], node["candidate"]) == ("closed", 1.5, best.id)


def test_a_child_action_starts_from_its_parents_program() -> None:
    plans = [initial(), answer(insert("next step", 0.95, parent="n1"))]
    model = scripted([fenced(program(1.5)), BROKEN, BROKEN], plans)
    problem = run_method(method, model, budget=3, k=1)
    assert selected(problem)[:2] == ["n1", "n4"]
    third = problem.questions_for("propose")[2].text
    assert values_in(third) == [1.5]
    assert "- family a (speedup over the baseline 1.5)" in third


def test_the_update_prompt_holds_trajectory_and_the_best_programs() -> None:
    plans = [initial(), answer({"op": "update", "node": "n2", "notes": "later"})]
    programs = [fenced(program(3.0)), fenced(program(2.0)), fenced(program(1.5)), BROKEN]
    problem = run_method(method, scripted(programs, plans), budget=5, k=1)
    text = problem.questions_for("world-model")[2].text  # after the second cycle
    assert values_in(text) == [3.0, 1.5]  # the best of all, then the cycle's best, last
    assert "Wanted change: do family b" in text
    assert "attempt 2 (improve): failed, COMPILE_ERROR at build" in text


def test_golden_trajectory_of_selections_and_scores() -> None:
    """The model's answers depend on their order only, so a change of wording changes nothing."""
    stream = random.Random(7)

    def model(question: Question) -> str:
        if question.purpose == "world-model":
            return world_model_answer(question.text, stream)
        value = round(stream.uniform(-0.5, 3.0), 1)
        return fenced(program(value))

    problem = run_method(method, model, budget=24, k=2)
    assert selected(problem) == GOLDEN_SELECTIONS
    assert [None if s is None else round(s, 6) for s in problem.scores] == GOLDEN_SCORES


def test_when_calls_run_out_within_an_update_the_cycles_result_is_still_recorded() -> None:
    model = scripted([fenced(program(1.5))], [initial()])
    problem = run_method(method, model, budget=9, k=1, llm_calls=3)  # a plan and two programs
    last = problem.recorded("world_model")[-1]
    assert (last["round"], last["reason"]) == (1, "update")
    assert tree_of(problem)["n1"]["state"] == "closed"


def test_planning_prompts_leave_out_an_enormous_program_and_say_so() -> None:
    enormous = program(1.5) + " //" + "x" * 100_000
    problem = run_method(method, scripted([fenced(enormous)], [initial()]), budget=3, k=1)
    text = problem.questions_for("world-model")[1].text
    assert f"(A program of {len(enormous)} characters, too long to show here.)" in text
    assert len(text) < 10_000


def test_lists_of_attempts_in_prompts_are_bounded() -> None:
    problem = run_method(method, scripted([BROKEN], [initial()]), budget=90, k=90)
    sizes = [len(question.text) for question in problem.questions_for("propose")]
    assert max(sizes[20:]) - min(sizes[20:]) < 50


# --- options and variants -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("k", 0), ("cycle_limit", 0), ("policy", "best"), ("uct_c", -1.0), ("uct_c", float("nan")),
        ("world_model", "static"), ("max_difficulty", 6), ("attempt_cap", 0), ("demotion", 1.0),
        ("max_new_nodes", 2), ("projection_tokens", 10), ("world_model_retries", 11),
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        Options(**{name: value})
    with pytest.raises(UsageError, match=name):
        method.make_options(None, {name: str(value)})


def test_no_world_model_asks_for_programs_only_and_chains_on_the_best() -> None:
    problem = run_method(method, skilled_model(2), budget=20, k=3, variant="no-world-model")
    assert not problem.questions_for("world-model")
    assert {node["title"] for node in tree_of(problem).values()} == {
        "starting program",
        GENERIC_TITLE,
    }
    for round_number, selection in enumerate(problem.recorded("selection")):
        tree = tree_of(problem, round_number)
        best = max(n["score"] for n in tree.values() if n["score"])
        assert tree[tree[selection["node"]]["parent"]]["score"] == best


def test_a_frozen_world_model_is_written_once() -> None:
    model = scripted([fenced(program(1.5))], [initial()])
    problem = run_method(method, model, budget=20, k=2, variant="frozen")
    assert len(problem.questions_for("world-model")) == 1
    assert selected(problem)[:4] == ["n1", "n2", "n3", "n4"]
    assert tree_of(problem)["n4"]["title"] == GENERIC_TITLE


def test_random_action_selects_by_the_runs_random_stream() -> None:
    runs = [
        run_method(method, scripted([BROKEN], [initial()]), seed=s, k=1, variant="random-action")
        for s in (1, 1, 2)
    ]
    assert selected(runs[0]) == selected(runs[1]) != selected(runs[2])


def test_world_model_calls_cost_no_charge() -> None:
    problem = run_method(method, scripted([fenced(program(1.5))], [initial()]), budget=10, k=2)
    assert len(problem.questions_for("propose")) == 10 == problem.charged
    assert len(problem.questions_for("world-model")) >= 4


GOLDEN_SELECTIONS = ["n1", "n4", "n9", "n10", "n13", "n16", "n20"]
GOLDEN_SCORES = [
    1.0, None, None, None, 0.6, 2.4, 0.1, 1.5, 0.4, 0.1, 2.2, None, 0.6, 1.5, 2.6, 0.6, 1.9, 2.4,
    0.5, 0.9, 1.2, 0.1, 0.9, None,
]  # fmt: skip

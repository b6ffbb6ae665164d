"""best_of_n: the method contract, and what makes its samples independent."""

from __future__ import annotations

from conformance_method import CARD, MethodContract, keys, run_method, skilled_model

from harness.method import load_method
from methods.best_of_n import method


class TestBestOfN(MethodContract):
    method = method


def test_it_is_found_by_its_name() -> None:
    assert load_method("best_of_n") is method


def test_identical_prompts_are_told_apart_by_their_occurrence() -> None:
    problem = run_method(method, skilled_model(0), budget=5)
    assert len({key for key, _ in keys(problem)}) == 1
    assert [occurrence for _, occurrence in keys(problem)] == [0, 1, 2, 3, 4]


def test_every_sample_starts_from_the_starting_program() -> None:
    problem = run_method(method, skilled_model(0), budget=5)
    parents = {getattr(proposal, "parent", problem.start.id) for proposal in problem.proposals}
    assert parents == {problem.start.id}
    assert CARD.start_source in problem.questions[-1].text
    assert problem.start_evaluation.feedback in problem.questions[-1].text


def test_the_verdict_on_the_start_can_be_left_out() -> None:
    problem = run_method(method, skilled_model(0), budget=1, show_feedback="no")
    assert problem.start_evaluation.feedback not in problem.questions[0].text


def test_it_spends_the_whole_budget() -> None:
    assert run_method(method, skilled_model(0), budget=30).charged == 30

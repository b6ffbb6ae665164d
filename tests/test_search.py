"""The search loop: what is charged, what ends a run, and what a broken method can do to it."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest
from toy_run import (
    CARD,
    START,
    ToyClient,
    ToyEvaluator,
    essence,
    run,
    toy_evaluation,
    toy_spec,
    walk,
)

from harness.budget import Budget
from harness.errors import BudgetExhausted, EnvironmentMissing, UsageError
from harness.evaluate import machine
from harness.llm.client import Message, Reply
from harness.runlog import read_blob, read_events, read_manifest
from harness.search import read_summary
from harness.types import Candidate, Evaluation, Failed, NoCode, Phase, Stage, Status, Usage


def evaluations(folder):
    return [e for e in read_events(folder) if e["kind"] == "evaluation"]


def program(score, extra=""):
    return Candidate("cpp", f"// score {score}\n{extra}")


def test_a_run_makes_exactly_the_charges_of_its_budget_after_the_uncharged_start(tmp_path):
    summary = run(toy_spec(tmp_path, budget=Budget(charges=8)))
    assert (summary.status, summary.reason, summary.charges) == ("finished", "budget: charges", 8)
    assert [e["charge"] for e in evaluations(tmp_path)] == list(range(9))
    assert evaluations(tmp_path)[0]["candidate"] == START.id


def test_the_start_is_taken_as_given_and_not_evaluated(tmp_path):
    def propose(problem):
        yield program(1.2)

    evaluator = ToyEvaluator()
    run(toy_spec(tmp_path, propose), evaluator=evaluator)
    assert evaluator.evaluated == [program(1.2).id]


def test_the_same_run_twice_writes_the_same_events(tmp_path):
    run(toy_spec(tmp_path / "one"))
    run(toy_spec(tmp_path / "two"))
    assert essence(tmp_path / "one") == essence(tmp_path / "two")


def test_a_list_is_evaluated_concurrently_and_answered_in_order(tmp_path):
    answers = []
    meeting = threading.Barrier(3, timeout=5)

    class Meeting(ToyEvaluator):
        def evaluate(self, task, candidate):
            meeting.wait()
            time.sleep(0.03 if "1.3" in candidate.source else 0.0)
            return super().evaluate(task, candidate)

    def propose(problem):
        answers.extend((yield [program(1.3), program(1.1), NoCode("none"), program(1.2)]))

    run(toy_spec(tmp_path, propose), evaluator=Meeting())
    assert [a.score for a in answers] == [1.3, 1.1, None, 1.2]
    assert [e["score"] for e in evaluations(tmp_path)] == [1.0, 1.3, 1.1, None, 1.2]


def test_a_list_longer_than_the_charges_left_is_cut_and_ends_the_run(tmp_path):
    answered = []

    def propose(problem):
        answered.append((yield [program(1.1), program(1.2)]))
        answered.append((yield [program(1.3), program(1.4), program(1.5)]))

    summary = run(toy_spec(tmp_path, propose, Budget(charges=3)))
    assert (summary.charges, summary.best_score, summary.reason) == (3, 1.3, "budget: charges")
    assert len(answered) == 1


def test_a_proposal_without_a_program_costs_one_charge_and_is_answered(tmp_path):
    answers = []

    def propose(problem):
        answers.append((yield NoCode("the patch does not apply")))

    summary = run(toy_spec(tmp_path, propose))
    assert summary.charges == 1
    assert answers[0].status is Status.NO_CODE
    assert answers[0].feedback == "NO_CODE at parse: the patch does not apply"
    assert evaluations(tmp_path)[1]["failure"]["check"] == "no_code"


@pytest.mark.parametrize("source", ["", "a\0b", "\ud800", "x" * 300_000])
def test_a_program_that_is_no_text_for_a_compiler_is_no_code(tmp_path, source):
    evaluator = ToyEvaluator()

    def propose(problem):
        yield Candidate("cpp", source)

    summary = run(toy_spec(tmp_path, propose), evaluator=evaluator)
    assert summary.charges == 1
    assert evaluator.evaluated == []
    assert evaluations(tmp_path)[1]["status"] == "NO_CODE"


@pytest.mark.parametrize("finish", ["refusal", "length", "empty"])
def test_a_reply_without_a_program_is_a_result_with_its_finish_reason(tmp_path, finish):
    class Unwilling(ToyClient):
        def complete(self, request, occurrence):
            return Reply("" if finish == "empty" else "No.", Usage(1, 1), 0.1, finish)

    def propose(problem):
        while True:
            yield problem.candidate_from(problem.llm.complete("x", purpose="propose"))

    summary = run(toy_spec(tmp_path, propose, Budget(charges=2)), Unwilling())
    assert (summary.charges, summary.status) == (2, "finished")
    replies = [e for e in read_events(tmp_path) if e["kind"] == "llm"]
    assert [e["finish_reason"] for e in replies] == [finish, finish]


def propose_one_per_call(problem):
    while True:
        yield problem.candidate_from(problem.llm.complete("x", purpose="propose"))


@pytest.mark.parametrize(
    ("limit", "calls"),
    [
        ({"llm_calls": 3}, 3),
        ({"tokens": 22}, 2),  # 11 tokens a call
        ({"tokens": 23}, 3),  # the call that goes over is not known before
        ({"dollars": 0.0015}, 2),
        ({"seconds": 0.9}, 2),  # 0.25 a call and up to 0.625 an evaluation
    ],
)
def test_every_kind_of_budget_ends_the_run_by_its_name(tmp_path, limit, calls):
    summary = run(toy_spec(tmp_path, propose_one_per_call, Budget(charges=50, **limit)))
    assert summary.reason == f"budget: {next(iter(limit))}"
    assert summary.llm_calls == calls


def test_the_candidate_of_the_last_permitted_call_is_still_evaluated(tmp_path):
    summary = run(toy_spec(tmp_path, propose_one_per_call, Budget(charges=50, llm_calls=3)))
    assert summary.charges == 3


@pytest.mark.parametrize("swallowed", [Exception, BaseException])
def test_no_method_outlives_its_budget_by_catching_the_error(tmp_path, swallowed):
    def stubborn(problem):
        while True:
            with contextlib.suppress(swallowed):
                problem.llm.complete("x", purpose="propose")
            yield program(1.1)

    summary = run(toy_spec(tmp_path, stubborn, Budget(charges=50, llm_calls=2)))
    assert (summary.reason, summary.charges) == ("budget: llm_calls", 2)


def test_a_dollar_budget_with_an_unknown_price_is_a_usage_error_and_pauses(tmp_path):
    with pytest.raises(UsageError, match="known prices"):
        run(
            toy_spec(tmp_path, propose_one_per_call, Budget(charges=5, dollars=1.0)),
            ToyClient(dollars=None),
        )
    assert read_summary(tmp_path).status == "paused"


def test_fifty_calls_without_a_proposal_stall_the_run(tmp_path):
    def thinker(problem):
        for _ in range(50):
            problem.llm.complete("x", purpose="world-model")
        yield program(1.1)
        while True:
            problem.llm.complete("x", purpose="world-model")

    client = ToyClient()
    summary = run(toy_spec(tmp_path, thinker), client)
    assert summary.reason == "stalled: 50 LLM calls without a proposal"
    assert (summary.charges, client.calls) == (1, 100)


def test_a_method_may_finish_early(tmp_path):
    def one(problem):
        yield program(1.1)

    assert run(toy_spec(tmp_path, one)).reason == "method finished"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("a text", "yielded str, expected a Candidate"),
        (None, "yielded NoneType"),
        ([], "empty list"),
        ([program(1.1), 3], "yielded int"),
        ((program(1.1),), "yielded tuple"),
        (Candidate("python", "pass"), "searched in cpp"),
        (Candidate("cpp", 5), "no text"),
        (NoCode(5), "no text"),
    ],
)
def test_a_yield_of_another_type_fails_the_run_with_a_clear_reason(tmp_path, wrong, words):
    def broken(problem):
        yield program(1.1)
        yield wrong

    summary = run(toy_spec(tmp_path, broken))
    assert (summary.status, summary.charges) == ("failed", 1)
    assert words in summary.reason


def test_a_search_function_that_is_no_generator_fails_the_run(tmp_path):
    summary = run(toy_spec(tmp_path, lambda problem: [program(1.1)]))
    assert summary.reason.startswith("failed: toy returned list, expected a generator")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_generator_that_ignores_its_end_does_not_hold_the_run(tmp_path):
    def immortal(problem):
        while True:
            with contextlib.suppress(GeneratorExit):
                yield program(1.1)

    summary = run(toy_spec(tmp_path, immortal, Budget(charges=2)))
    assert (summary.status, summary.charges) == ("finished", 2)


def test_clean_up_code_may_record_but_not_call_the_model(tmp_path):
    client = ToyClient()

    def tidy(problem):
        try:
            while True:
                yield program(1.1)
        finally:
            problem.record("last", {"left": problem.charges_left})
            problem.llm.complete("x", purpose="propose")

    assert run(toy_spec(tmp_path, tidy, Budget(charges=2)), client).status == "finished"
    assert client.calls == 0
    assert [e["kind"] for e in read_events(tmp_path)][-2:] == ["record", "finished"]


def test_a_missing_compiler_is_raised_on_and_leaves_a_resumable_run(tmp_path):
    class NoCompiler(ToyEvaluator):
        def evaluate(self, task, candidate):
            raise EnvironmentMissing("no C++ compiler")

    with pytest.raises(EnvironmentMissing):
        run(toy_spec(tmp_path), evaluator=NoCompiler())
    assert read_summary(tmp_path).reason == "no C++ compiler"
    assert run(toy_spec(tmp_path)).status == "finished"


def test_an_infrastructure_verdict_is_never_charged_or_shown(tmp_path):
    class Lost(ToyEvaluator):
        def evaluate(self, task, candidate):
            lost = Failed(Status.INFRA_ERROR, Stage.TIMING, "device", "off the bus")
            return Evaluation(candidate.id, Phase.SEARCH, lost, "the device fell off the bus")

    shown = []

    def propose(problem):
        shown.append((yield program(1.1)))

    summary = run(toy_spec(tmp_path, propose), evaluator=Lost())
    assert (summary.status, summary.charges, shown) == ("paused", 0, [])
    assert summary.reason == "the device fell off the bus"


def test_the_schedule_decides_the_model_by_the_charges_so_far(tmp_path):
    run(toy_spec(tmp_path, propose_one_per_call, Budget(charges=6)))
    calls = [e for e in read_events(tmp_path) if e["kind"] == "llm"]
    assert [e["model"] for e in calls] == ["early"] * 4 + ["late"] * 2
    assert [e["charges"] for e in calls] == list(range(6))


def test_equal_requests_are_told_apart_by_their_occurrence(tmp_path):
    run(toy_spec(tmp_path, propose_one_per_call, Budget(charges=3)))
    calls = [e for e in read_events(tmp_path) if e["kind"] == "llm"]
    assert len({e["key"] for e in calls}) == 1
    assert [e["occurrence"] for e in calls] == [0, 1, 2]


def test_random_streams_depend_on_seed_method_task_and_name_only(tmp_path):
    draws = []

    def dice(problem):
        first = problem.random("a")
        assert problem.random("a") is first
        problem.random("unused").random()
        draws.append((first.random(), problem.random("b").random()))
        yield program(1.1)

    run(toy_spec(tmp_path / "one", dice))
    run(toy_spec(tmp_path / "two", dice))
    assert draws[0] == draws[1]
    assert draws[0][0] != draws[0][1]


def test_candidates_name_their_parent_and_note(tmp_path):
    run(toy_spec(tmp_path))
    first = evaluations(tmp_path)[1]
    assert (first["parent"], first["note"]) == (START.id, "step 1")


@pytest.mark.parametrize("bad", [5, [], ["text"], [Message("user", "x"), 3]])
def test_a_malformed_prompt_is_the_methods_error(tmp_path, bad):
    def wrong(problem):
        with pytest.raises(TypeError):
            problem.llm.complete(bad, purpose="propose")
        with pytest.raises(ValueError, match="purpose"):
            problem.llm.complete("x", purpose="two words")
        yield program(1.1)

    summary = run(toy_spec(tmp_path, wrong))
    assert (summary.status, summary.llm_calls) == ("finished", 0)


@pytest.mark.parametrize("bad", [{"x": float("nan")}, {"x": object()}])
def test_a_record_that_is_not_json_is_the_methods_error(tmp_path, bad):
    def wrong(problem):
        with pytest.raises((TypeError, ValueError)):
            problem.record("kind", bad)
        yield program(1.1)

    assert run(toy_spec(tmp_path, wrong)).status == "finished"


def test_large_records_go_to_a_blob_and_small_ones_stay_inline(tmp_path):
    def recorder(problem):
        problem.record("small", {"a": 1})
        problem.record("large", {"a": "x" * 2000})
        yield program(1.1)

    run(toy_spec(tmp_path, recorder))
    small, large = [e for e in read_events(tmp_path) if e["kind"] == "record"]
    assert (small["data"], small["blob"], large["data"]) == ({"a": 1}, None, None)
    assert b"x" * 2000 in read_blob(tmp_path, large["blob"])


def test_the_machine_is_held_while_the_method_computes_and_free_while_it_waits(tmp_path):
    held = []

    def depth():
        return getattr(machine._held, "depth", 0)

    class Watching(ToyClient):
        def complete(self, request, occurrence):
            held.append(("client", depth()))
            return super().complete(request, occurrence)

    class WatchingEvaluator(ToyEvaluator):
        def evaluate(self, task, candidate):
            held.append(("evaluator", depth()))
            return super().evaluate(task, candidate)

    def propose(problem):
        held.append(("method", depth()))
        problem.llm.complete("x", purpose="propose")
        yield program(1.1)

    run(toy_spec(tmp_path / "a", propose), Watching(), WatchingEvaluator())
    run(toy_spec(tmp_path / "b", propose), Watching(waits=True), WatchingEvaluator())
    assert held[:3] == [("method", 1), ("client", 2), ("evaluator", 0)]
    assert held[3:] == [("method", 1), ("client", 0), ("evaluator", 0)]


def test_progress_tells_charges_best_score_failures_and_phase(tmp_path):
    reports = []
    summary = run(toy_spec(tmp_path), on_progress=reports.append)
    last = reports[-1]
    assert (last.charges, last.best_score, last.phase) == (8, summary.best_score, "budget: charges")
    failed = [e for e in evaluations(tmp_path) if e["score"] is None]
    assert (last.failures, last.usage) == (len(failed), summary.usage)
    assert {"asking the model", "evaluating", "searching"} <= {r.phase for r in reports}


def test_the_best_is_the_start_until_something_beats_it(tmp_path):
    def slow(problem):
        yield program(0.9)

    summary = run(toy_spec(tmp_path, slow))
    assert (summary.best_charge, summary.best_score, summary.best) == (0, 1.0, START)


def test_the_manifest_says_which_run_it_is_and_holds_the_methods_code(tmp_path):
    run(toy_spec(tmp_path))
    manifest = read_manifest(tmp_path)
    assert (manifest["kind"], manifest["task"], manifest["seed"]) == ("run", CARD.name, 7)
    assert b"def walk" in read_blob(tmp_path, manifest["source"])


def test_a_method_that_raises_the_budgets_error_itself_ends_its_run(tmp_path):
    def quitter(problem):
        yield program(1.1)
        raise BudgetExhausted("patience")

    assert run(toy_spec(tmp_path, quitter)).reason == "budget: patience"


def test_totals_in_evaluation_events_are_the_sums_of_the_calls_before(tmp_path):
    run(toy_spec(tmp_path, walk))
    calls = tokens = 0
    for event in read_events(tmp_path):
        if event["kind"] == "llm":
            calls, tokens = calls + 1, tokens + event["prompt_tokens"]
        elif event["kind"] == "evaluation":
            assert (event["llm_calls"], event["prompt_tokens"]) == (calls, tokens)


def test_an_evaluation_takes_its_recorded_seconds_from_the_evaluator(tmp_path):
    def one(problem):
        yield program(1.1)

    run(toy_spec(tmp_path, one))
    assert evaluations(tmp_path)[1]["evaluation_seconds"] == toy_evaluation(program(1.1)).seconds


def test_a_method_that_exits_is_an_error_of_the_method(tmp_path):
    def leave(problem):
        yield program(1.1)
        raise SystemExit(3)

    with pytest.raises(RuntimeError, match=r"sys\.exit\(3\)"):
        run(toy_spec(tmp_path, leave))
    assert read_summary(tmp_path).reason.startswith("method raised RuntimeError")

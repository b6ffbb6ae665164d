"""What every search method must do, as a test class to inherit, and the toy world it runs in.

    class TestMyMethod(MethodContract):
        method = my_package.method

The toy world: a program is a text with one line `// value: 1.5`, and its score is that number. A
program without the line does not compile, one with a value of 0 or less is wrong. Models are
functions from a question to a text; none of them knows which method asks.

Covered: reproducibility, charges, unusable replies, prompts. Not covered: resume, budgets other
than charges and LLM calls, foreign programs (tests of the search loop).
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import BudgetExhausted
from harness.llm.client import FinishReason, Message, Reply, Request
from harness.method import Method, TaskCard
from harness.types import (
    Candidate,
    Evaluation,
    Failed,
    JsonObject,
    Measurement,
    NoCode,
    Passed,
    Phase,
    Proposal,
    Stage,
    Status,
    Usage,
)

CARD = TaskCard(
    name="toy",
    suite="tests",
    language="cpp",
    prose="Return a larger value.",
    start_source="// value: 1.0\nint run();",
    baseline="torch",
    workloads=("w0",),
)
MAX_CALLS_WITHOUT_A_PROPOSAL = 50  # the harness ends a run that asks more often


def program(value: float) -> str:
    """A toy program of a given score."""
    return f"// value: {value}\nint run();"


def fenced(source: str) -> str:
    """A reply that holds a program."""
    return f"```cpp\n{source}\n```\n"


def values_in(prompt: str) -> list[float]:
    """The scores of the toy programs in a prompt, in order."""
    return [float(v) for v in re.findall(r"^// value: (-?[\d.]+)$", prompt, re.MULTILINE)]


def evaluate(proposal: Proposal) -> Evaluation:
    """The toy evaluator."""
    if isinstance(proposal, NoCode):
        return _failed(None, Status.NO_CODE, Stage.PARSE, proposal.reason)
    values = values_in(proposal.source)
    if not values:
        return _failed(proposal.id, Status.COMPILE_ERROR, Stage.BUILD, "line 1: no value")
    if values[0] <= 0:
        return _failed(proposal.id, Status.INCORRECT_NUMERICAL, Stage.CORRECTNESS, "1 of 4 off")
    speedup = values[0]
    measured = Measurement("w0", 100.0 / speedup, 100.0, speedup, speedup, speedup, 0.1, 10)
    feedback = f"PASSED: score {speedup:.4f} (toy)"
    return Evaluation(proposal.id, Phase.SEARCH, Passed((measured,), speedup, speedup), feedback)


def _failed(candidate_id: str | None, status: Status, stage: Stage, message: str) -> Evaluation:
    feedback = f"{status.value} at {stage.value}: {message}"
    outcome = Failed(status, stage, "toy", message)
    return Evaluation(candidate_id, Phase.SEARCH, outcome, feedback)


@dataclass(frozen=True)
class Question:
    """What a toy model is asked: the request and how often it came before in this run."""

    request: Request
    occurrence: int

    @property
    def purpose(self) -> str:
        return self.request.purpose

    @property
    def text(self) -> str:
        return "\n\n".join(message.content for message in self.request.messages)


Model = Callable[[Question], str]


def skilled_model(seed: int) -> Model:
    """Mostly better programs, some bad ones; plausible edits of any world model that it is
    shown."""

    def answer(question: Question) -> str:
        text = f"{seed} {question.request.key} {question.occurrence}"
        stream = random.Random(hashlib.blake2b(text.encode()).digest())
        if question.purpose == "world-model":
            return world_model_answer(question.text, stream)
        kind = stream.random()
        if kind < 0.1:
            return "I would rather talk about it."
        if kind < 0.2:
            return fenced(f"int broken_{stream.randrange(1000)}();")
        if kind < 0.3:
            return fenced(program(-round(stream.uniform(1, 2), 3)))
        last = (values_in(question.text) or [1.0])[-1]
        return fenced(program(round(max(0.1, last * stream.uniform(0.8, 1.3)), 3)))

    return answer


def world_model_answer(prompt: str, stream: random.Random) -> str:
    """Three insertions and one update that fit the world model in the prompt."""
    tree = shown_tree(prompt)
    parents = [node["id"] for node in tree["nodes"] if node["state"] == "closed"]
    edits: list[JsonObject] = [
        {
            "op": "insert",
            "parent": stream.choice(parents),
            "title": f"idea {stream.randrange(10**6)}",
            "intent": f"try idea {stream.randrange(10**6)}",
            "priority": round(stream.random(), 3),
            "difficulty": stream.randint(1, 5),
        }
        for _ in range(3)
    ]
    for node_id in tree["frontier"][:1]:
        edits.append({"op": "update", "node": node_id, "priority": round(stream.random(), 3)})
    return f"```json\n{json.dumps({'edits': edits})}\n```"


def shown_tree(prompt: str) -> JsonObject:
    """The world model in a prompt. Fails if it is not valid JSON."""
    blocks = re.findall(r"^```json\n(.*?)^```$", prompt, re.MULTILINE | re.DOTALL)
    tree: JsonObject = json.loads(blocks[-1])
    return tree


@dataclass
class ToyProblem:
    """A Problem with a toy task. Counts charges like the harness: when a proposal is yielded."""

    model: Model
    options: Any
    budget: int
    seed: int = 0
    finish_reason: FinishReason = "stop"
    llm_calls: int = 10**9  # budget of LLM calls
    task: TaskCard = CARD
    start: Candidate = field(default_factory=lambda: Candidate("cpp", CARD.start_source))
    charged: int = 0
    calls_since_proposal: int = 0
    questions: list[Question] = field(default_factory=list)
    proposals: list[Proposal] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    records: list[tuple[str, JsonObject]] = field(default_factory=list)
    streams: dict[str, random.Random] = field(default_factory=dict)
    occurrences: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.start_evaluation = evaluate(self.start)

    @property
    def llm(self) -> ToyProblem:
        return self

    @property
    def charges_left(self) -> int:
        return self.budget - self.charged

    def complete(self, prompt: str | list[Message], *, purpose: str) -> Reply:
        if len(self.questions) >= self.llm_calls:
            raise BudgetExhausted("llm_calls")
        messages = [Message("user", prompt)] if isinstance(prompt, str) else prompt
        request = Request("toy", tuple(messages), purpose)
        question = Question(request, self.occurrences[request.key])
        self.occurrences[request.key] += 1
        self.questions.append(question)
        self.calls_since_proposal += 1
        assert self.calls_since_proposal <= MAX_CALLS_WITHOUT_A_PROPOSAL
        return Reply(self.model(question), Usage(), 0.0, self.finish_reason)

    def random(self, name: str) -> random.Random:
        return self.streams.setdefault(name, random.Random(f"{self.seed} {name}"))

    def candidate_from(
        self, reply: Reply, *, parent: Candidate | None = None, note: str = ""
    ) -> Proposal:
        blocks = re.findall(r"^```cpp\n(.*?)^```$", reply.text, re.MULTILINE | re.DOTALL)
        if not blocks:
            return NoCode("the reply holds no code block")
        return Candidate("cpp", blocks[-1].rstrip("\n"), parent.id if parent else None, note)

    def record(self, kind: str, data: JsonObject) -> None:
        self.records.append((kind, json.loads(json.dumps(data, allow_nan=False))))

    def recorded(self, kind: str) -> list[JsonObject]:
        return [data for its_kind, data in self.records if its_kind == kind]

    def questions_for(self, purpose: str) -> list[Question]:
        return [question for question in self.questions if question.purpose == purpose]

    @property
    def scores(self) -> list[float | None]:
        return [evaluation.score for evaluation in self.evaluations]


def run_method(
    method: Method,
    model: Model,
    *,
    budget: int = 20,
    seed: int = 0,
    variant: str | None = None,
    finish_reason: FinishReason = "stop",
    llm_calls: int = 10**9,
    **overrides: object,
) -> ToyProblem:
    """Drive a method until it returns, stops proposing or meets a budget of LLM calls.

    Asserts that it proposes nothing once the charges are used up.
    """
    options = method.make_options(variant, {key: str(value) for key, value in overrides.items()})
    problem = ToyProblem(model, options, budget, seed, finish_reason, llm_calls)
    search = method.search(problem)
    try:
        yielded = next(search)
        while True:
            proposals = yielded if isinstance(yielded, list) else [yielded]
            assert len(proposals) <= problem.charges_left, "proposed beyond the budget"
            assert proposals, "proposed an empty list"
            problem.charged += len(proposals)
            problem.calls_since_proposal = 0
            answers = [evaluate(proposal) for proposal in proposals]
            problem.proposals += proposals
            problem.evaluations += answers
            yielded = search.send(answers if isinstance(yielded, list) else answers[0])
    except (StopIteration, BudgetExhausted):
        return problem


def keys(problem: ToyProblem) -> list[tuple[str, int]]:
    """Identity of every request of a run."""
    return [(question.request.key, question.occurrence) for question in problem.questions]


_EDIT_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from(["n0", "n1", "insert", "update", "prune"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["op", "node", "parent", "title", "intent", "priority", "difficulty",
                         "edits", "score", "id", "notes", "expected_factor"]), inner, max_size=7),
    max_leaves=12,
)  # fmt: skip
MALFORMED = st.one_of(
    st.text(max_size=200),
    st.builds(lambda text: f"```cpp\n{text}", st.text(max_size=60)),
    st.builds(lambda text: f"```json\n{text}\n```", st.text(max_size=60)),
    st.builds(lambda value: json.dumps({"edits": [value]}), _EDIT_VALUES),
    st.builds(lambda value: f"```json\n{json.dumps(value)}\n```", _EDIT_VALUES),
    st.builds(lambda depth: '{"edits": ' + "[" * depth, st.integers(1, 50_000)),
    st.builds(
        lambda cut: '```json\n{"edits": [{"op": "insert", "parent": "n0", "title": "t"}]}\n```'[
            :cut
        ],
        st.integers(0, 60),
    ),
)


class MethodContract:
    """Inherit it and set `method`. variants: those to test besides the default."""

    method: Method
    variants: tuple[str | None, ...] = (None,)
    options: Mapping[str, object] = {}

    def run(self, model: Model, **arguments: Any) -> ToyProblem:
        return run_method(self.method, model, **{**self.options, **arguments})

    def test_the_same_seed_gives_the_same_run(self) -> None:
        for variant in self.variants:
            one = self.run(skilled_model(3), seed=3, variant=variant)
            two = self.run(skilled_model(3), seed=3, variant=variant)
            assert keys(one) == keys(two)
            assert one.proposals == two.proposals
            assert one.records == two.records

    def test_another_seed_gives_another_run(self) -> None:
        for variant in self.variants:
            one = self.run(skilled_model(3), seed=3, variant=variant)
            two = self.run(skilled_model(4), seed=4, variant=variant)
            assert one.proposals != two.proposals

    def test_the_seed_does_not_change_the_first_prompt(self) -> None:
        one, two = (self.run(skilled_model(s), seed=s) for s in (3, 4))
        assert keys(one)[0] == keys(two)[0]

    @pytest.mark.parametrize("budget", [0, 1, 2, 7, 20])
    def test_it_uses_its_budget_and_no_more(self, budget: int) -> None:
        for variant in self.variants:
            problem = self.run(skilled_model(1), budget=budget, variant=variant)
            assert problem.charged <= budget
            assert budget > 0 or not problem.questions

    def test_a_budget_of_calls_ends_it_at_any_point(self) -> None:
        for calls in range(12):
            problem = self.run(skilled_model(1), llm_calls=calls)
            assert len(problem.questions) <= calls

    def test_replies_without_a_program_cost_one_charge_each(self) -> None:
        for variant in self.variants:
            problem = self.run(lambda _: "Sorry, no.", variant=variant)
            assert problem.charged == problem.budget == len(problem.questions_for("propose"))
            assert all(e.status is Status.NO_CODE for e in problem.evaluations)

    @pytest.mark.parametrize("reason", ["length", "refusal", "empty"])
    def test_replies_that_ended_early_are_survived(self, reason: FinishReason) -> None:
        problem = self.run(skilled_model(1), finish_reason=reason)
        assert problem.charged == problem.budget

    def test_every_proposal_is_a_candidate_or_no_code(self) -> None:
        problem = self.run(skilled_model(5))
        assert all(isinstance(p, Candidate | NoCode) for p in problem.proposals)

    def test_generated_code_is_passed_on_as_it_is(self) -> None:
        source = "// value: 1.5\nconst float a = 0x1.8p+3f; // \\u00e9 \t"
        problem = self.run(lambda _: fenced(source))
        assert {p.source for p in problem.proposals if isinstance(p, Candidate)} == {source}

    def test_prompts_hold_the_task_and_name_no_method(self) -> None:
        for question in self.run(skilled_model(2)).questions:
            assert CARD.prose in question.text
            assert self.method.name not in question.text.casefold()
            assert question.request.messages[0].role == "system"

    @settings(
        max_examples=100,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(replies=st.lists(MALFORMED, min_size=20, max_size=20))
    def test_2000_malformed_replies_crash_nothing(self, replies: list[str]) -> None:
        asked = iter(range(10**9))
        problem = self.run(lambda _: replies[next(asked) % len(replies)], budget=20)
        assert problem.charged == 20 == len(problem.questions_for("propose"))

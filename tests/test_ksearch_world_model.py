"""K-Search's tree, and the way from a model's answer to a changed tree."""

from __future__ import annotations

import json

import pytest
from conformance_method import evaluate, program
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.llm.client import Reply
from harness.types import Candidate, Usage
from methods.ksearch.edits import MAX_EDITS, Revision, apply_revision, parse
from methods.ksearch.strict_json import MAX_ANSWER_CHARACTERS
from methods.ksearch.world_model import (
    EditError,
    Insert,
    Program,
    Prune,
    Update,
    WorldModel,
)


def toy_program(value: float) -> Program:
    candidate = Candidate("cpp", program(value))
    return Program(candidate, evaluate(candidate))


def tree(*parents: str) -> WorldModel:
    """A root and one open node below each of `parents`, in this order."""
    model = WorldModel.of_start(toy_program(1.0))
    for number, parent in enumerate(parents, start=1):
        model, _ = model.insert(Insert(parent, f"t{number}", f"do {number}", 0.5, 2), 0)
    return model


def reply(text: str) -> Reply:
    return Reply(text, Usage(), 0.0)


def parsed(**changes: object) -> Revision:
    row = {
        "op": "insert",
        "parent": "n0",
        "title": "tile",
        "intent": "tile the loops",
        "priority": 0.7,
        "difficulty": 2,
    }
    return parse(reply(json.dumps({"edits": [row | changes]})))


def apply(model: WorldModel, *edits: Insert | Update | Prune, max_new_nodes: int = 5):
    revision = Revision(edits, None, None)
    return apply_revision(model, revision, round_number=1, max_new_nodes=max_new_nodes)


# --- the tree -------------------------------------------------------------------------------------


def test_the_frontier_is_the_open_nodes_below_closed_ones() -> None:
    model = tree("n0", "n1", "n0")
    assert [node.id for node in model.frontier] == ["n1", "n3"]
    closed = model.attach("n1", toy_program(2.0))
    assert [node.id for node in closed.frontier] == ["n2", "n3"]


def test_operations_leave_the_old_tree_as_it_was() -> None:
    model = tree("n0")
    before = dict(model.nodes)
    model.insert(Insert("n0", "t", "i", 0.1, 1), 1)
    model.update(Update("n1", priority=0.9))
    model.prune(Prune("n1"))
    model.attach("n1", toy_program(2.0))
    model.demote("n1", 0.5)
    assert model.nodes == before


def test_pruning_takes_the_open_nodes_below_along() -> None:
    model, pruned = tree("n0", "n1", "n2", "n0").prune(Prune("n1", "too big"))
    assert pruned == ("n1", "n2", "n3")
    assert [node.id for node in model.frontier] == ["n4"]
    assert model.nodes["n1"].notes == "too big"


@pytest.mark.parametrize("node_id", ["n0", "n1"])
def test_a_node_with_a_program_cannot_be_pruned(node_id: str) -> None:
    with pytest.raises(EditError, match="closed"):
        tree("n0").attach("n1", toy_program(2.0)).prune(Prune(node_id))


def test_nothing_grows_below_a_pruned_node_and_it_cannot_be_updated() -> None:
    model, _ = tree("n0").prune(Prune("n1"))
    for edit in (Insert("n1", "t", "i", 0.5, 2), Update("n1", priority=1.0), Prune("n1")):
        with pytest.raises(EditError, match="n1"):
            apply(model, edit)


def test_a_program_that_failed_cannot_close_a_node() -> None:
    with pytest.raises(ValueError, match="only a passed program"):
        tree("n0").attach("n1", toy_program(-1.0))


def test_the_best_node_is_the_oldest_of_equals_and_the_root_if_nothing_passed() -> None:
    model = tree("n0", "n0").attach("n2", toy_program(2.0)).attach("n1", toy_program(2.0))
    assert model.best.id == "n1"
    assert WorldModel.of_start(toy_program(-1.0)).best.id == "n0"


def test_the_path_leads_from_the_root_to_the_parent() -> None:
    assert [node.id for node in tree("n0", "n1", "n2").path("n3")] == ["n0", "n1", "n2"]


def test_defect_10_the_root_is_known_by_its_place_and_not_by_a_name() -> None:
    model = tree("n0")
    assert model.root == "n0"
    with pytest.raises(EditError, match="there is no node 'root'"):
        apply(model, Insert("root", "t", "i", 0.5, 2))


# --- reading --------------------------------------------------------------------------------------


def test_the_documented_form_is_read() -> None:
    text = json.dumps(
        {
            "edits": [
                {"op": "update", "node": "n3", "priority": 0.2, "difficulty": 4, "notes": "slow"},
                {"op": "prune", "node": "n5", "reason": "ruled out"},
            ],
            "kernel_summary": "bound by bandwidth",
            "open_questions": ["does packing pay?"],
        },
        indent=2,
    )
    revision = parse(reply(f"Here it is.\n\n```json\n{text}\n```\nDone."))
    assert revision == Revision(
        (Update("n3", 0.2, 4, "slow"), Prune("n5", "ruled out")),
        "bound by bandwidth",
        ("does packing pay?",),
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"priority": 7}, (1.0, 2)),
        ({"priority": -0.5}, (0.0, 2)),
        ({"priority": 10**400}, (1.0, 2)),
        ({"difficulty": 0}, (0.7, 1)),
        ({"difficulty": 99.0}, (0.7, 5)),
    ],
)
def test_numbers_out_of_range_are_clamped(changes: dict, expected: tuple) -> None:
    (edit,) = parsed(**changes).edits
    assert isinstance(edit, Insert)
    assert (edit.priority, edit.difficulty) == expected


def test_texts_become_one_bounded_line_that_cannot_open_a_fence() -> None:
    (edit,) = parsed(title="x" * 500, intent="```cpp\n// design: {}\n\x00\ud800```").edits
    assert isinstance(edit, Insert)
    assert len(edit.title) == 120
    assert edit.intent == "'''cpp // design: {} '''"


@pytest.mark.parametrize(
    "changes",
    [
        {"priority": "high"}, {"priority": True}, {"priority": None}, {"difficulty": []},
        {"title": ""}, {"title": 3}, {"intent": " \n "}, {"parent": 0}, {"op": "split"},
        {"op": ["insert"]}, {"score": 99}, {"expected_factor": "big"}, {"rationale": 5},
    ],
)  # fmt: skip
def test_a_field_of_the_wrong_kind_is_one_typed_error(changes: dict) -> None:
    with pytest.raises(EditError):
        parsed(**changes)


def test_defect_5_a_cut_outer_object_is_an_error_and_no_inner_object_is_taken() -> None:
    inner = '{"edits": [{"op": "prune", "node": "n1"}]}'
    for text in (
        f'{{"edits": [], "kernel_summary": {inner}',
        f'```json\n{{"edits": [], "more": {inner}\n```',
        f'```json\n{{"edits": [{inner}',
        f"```json\n{inner}\n```\nand now in full:\n```json\n{inner[:20]}",
    ):
        with pytest.raises(EditError):
            parse(reply(text))


def test_every_cut_of_an_answer_is_an_error() -> None:
    text = '{"edits": [{"op": "update", "node": "n1", "priority": 0.5}], "open_questions": []}'
    for length in range(len(text)):
        with pytest.raises(EditError):
            parse(reply(text[:length]))


@pytest.mark.parametrize("opening", ['{"a":', "[", '{"edits":['])
def test_defect_5_deep_nesting_is_an_error_and_no_stack_overflow(opening: str) -> None:
    with pytest.raises(EditError, match=r"nested deeper|longer than"):
        parse(reply(f"```json\n{opening * 10_000}\n```"))


@pytest.mark.parametrize(
    "text",
    [
        '{"edits": [], "edits": []}', '{"edits": NaN}', '{"edits": [Infinity]}', "[]", "{}",
        '{"edits": {}}', '{"edits": [1]}', '{"edits": [], "nodes": []}', "",
        '{"edits": [], "open_questions": "why?"}', '{"edits": [], "kernel_summary": 3}',
        '{"edits": [{"op": "update", "node": "n0"}]}', "{" + " " * MAX_ANSWER_CHARACTERS,
        '{"edits": [' + ",".join(["{}"] * (MAX_EDITS + 1)) + "]}",
        '{"edits": [{"op": "update", "node": "n0", "priority": 1e999}]}',
        '{"edits": [{"op": "update", "node": "n0", "priority": ' + "9" * 5000 + "}]}",
    ],
)  # fmt: skip
def test_whatever_else_is_wrong_is_the_same_typed_error(text: str) -> None:
    with pytest.raises(EditError):
        parse(reply(text))


@given(st.text(alphabet='{}[]",:\\`ejsondit0.5\n ', max_size=80))
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_reading_raises_edit_error_or_returns(text: str) -> None:
    for form in (text, f"```json\n{text}\n```", '{"edits": ' + text):
        try:
            revision = parse(reply(form))
        except EditError:
            continue
        assert isinstance(revision, Revision)


# --- applying -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad", [Prune("n9"), Insert("n9", "t", "i", 0.5, 2), Update("n9", priority=0.1), Prune("n0")]
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_invalid_edit_drops_all(bad: Insert | Update | Prune, place: int) -> None:
    model = tree("n0", "n0")
    good: list = [Insert("n0", "new", "new", 0.5, 2), Prune("n1")]
    with pytest.raises(EditError, match=f"edit {place + 1}: "):
        apply(model, *good[:place], bad, *good[place:])
    assert len(model.nodes) == 3
    assert model.nodes["n1"].state == "open"


def test_insertions_beyond_the_limit_are_left_out_and_reported() -> None:
    edits = [Insert("n0", f"t{n}", f"i{n}", 0.5, 2) for n in range(5)]
    applied = apply(tree(), *edits, max_new_nodes=3)
    assert [edit.node for edit in applied.edits] == ["n1", "n2", "n3"]
    assert applied.skipped == (
        "edit 4: more than 3 insertions",
        "edit 5: more than 3 insertions",
    )


def test_an_insertion_that_repeats_an_open_sibling_is_left_out_and_reported() -> None:
    applied = apply(tree("n0"), Insert("n0", "other title", "DO 1", 0.9, 1))
    assert len(applied.model.nodes) == 2
    assert applied.skipped == ("edit 1: repeats n1",)


def test_a_given_up_idea_may_be_inserted_again() -> None:
    applied = apply(tree("n0"), Prune("n1"), Insert("n0", "t1", "do 1", 0.9, 1))
    assert [(edit.op, edit.node) for edit in applied.edits] == [("prune", "n1"), ("insert", "n2")]


def test_an_update_changes_only_what_it_names() -> None:
    node = apply(tree("n0"), Update("n1", notes="hm")).model.nodes["n1"]
    assert (node.priority, node.difficulty, node.notes) == (0.5, 2, "hm")


def test_summary_and_questions_stay_unless_they_are_given() -> None:
    first = apply_revision(tree(), Revision((), "s", ("q",)), round_number=1, max_new_nodes=3)
    second = apply_revision(first.model, Revision((), None, ()), round_number=1, max_new_nodes=3)
    assert (second.model.kernel_summary, second.model.open_questions) == ("s", ())


def test_a_new_node_knows_its_round() -> None:
    applied = apply(tree(), Insert("n0", "t", "i", 0.5, 2))
    assert applied.model.nodes["n1"].round_created == 1

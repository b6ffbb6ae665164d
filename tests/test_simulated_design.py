"""Which design the simulated model wants: prior, feedback, intents, repairs, and their parts.

Not covered: mistakes and determinism (test_simulated.py).
"""

import random
from dataclasses import replace

from toy_design_space import (
    CAREFUL,
    SPACE,
    START,
    answer,
    design_of,
    passed,
    program,
    prompt,
    source_in,
)

from harness.llm.simulated_design import companion, neighbours, recombinations
from harness.llm.simulated_estimate import Estimate, Observation, key
from harness.llm.simulated_faults import (
    with_compile_error,
    with_wrong_result,
)
from harness.llm.simulated_prompt import choices_in, read_prompt

# --- what it wants --------------------------------------------------------------------------------


def test_full_skill_takes_the_neighbour_that_the_prior_ranks_first():
    assert design_of(prompt(program(START))) == {**START, "order": "ikj"}


def test_a_skilled_choice_does_not_depend_on_the_arrangement_of_the_prompt():
    a = program({**START, "order": "ikj"}, passed(0.9))
    b = program({**START, "tile": "4"}, passed(0.1), heading="Another one")
    c = program({**START, "vector": "yes"}, passed(0.3))
    last = program(START, passed(0.2))
    orders = [(a, b, c), (c, b, a), (b, "Some words in between.", a, c)]
    chosen = [design_of(prompt(*order, last)) for order in orders]
    assert chosen[0] == chosen[1] == chosen[2]


def test_with_insight_a_choice_that_scored_badly_is_avoided():
    seen = [
        program({**START, "order": "ikj", "unroll": "2"}, passed(0.01)),
        program({**START, "order": "ikj", "tile": "8"}, passed(0.012)),
        program({**START, "order": "ikj", "vector": "yes"}, passed(0.011)),
    ]
    text = prompt(*seen, program(START, passed(1.0)))
    assert design_of(text)["order"] != "ikj"
    assert design_of(text, replace(CAREFUL, insight_from_feedback=False))["order"] == "ikj"


def test_with_insight_a_choice_that_failed_is_avoided():
    failed = program({**START, "order": "ikj", "tile": "4"}, "RUNTIME_ERROR at smoke: signal 11")
    text = prompt(program({**START, "tile": "4"}, passed(1.2)), failed, program(START, passed(1)))
    assert design_of(text)["order"] != "ikj"


def test_a_failure_of_a_program_that_was_miswritten_is_not_held_against_its_design():
    design = {**START, "order": "ikj", "unroll": "2"}
    broken = with_compile_error(SPACE.render(design), random.Random(0))
    text = prompt(
        program(design, "COMPILE_ERROR at build: error", text=broken), program(START, passed(1.0))
    )
    assert design_of(text)["order"] == "ikj"


def test_an_intent_is_followed_whatever_the_skill():
    text = prompt(program(START, passed(1.0)), intent="Please  TILE by\t48, as planned.")
    for skill in (0.0, 1.0):
        assert design_of(text, replace(CAREFUL, skill=skill)) == {**START, "tile": "48"}


def test_the_last_intent_counts():
    text = prompt("Intent: tile by 48\n", program(START), intent="unroll twice")
    assert design_of(text, replace(CAREFUL, skill=0.0)) == {**START, "unroll": "2"}


def test_a_skilled_answer_adds_the_companion_that_the_intent_needs():
    text = prompt(program(START, passed(1.0)), intent="use vector registers")
    assert design_of(text) == {**START, "vector": "yes", "order": "ikj"}
    assert design_of(text, replace(CAREFUL, skill=0.0)) == {**START, "vector": "yes"}


def test_an_intent_leaves_room_for_further_changes_at_a_larger_edit_distance():
    text = prompt(program(START, passed(1.0)), intent="tile by 48")
    for skill in (0.0, 1.0):
        design = design_of(text, replace(CAREFUL, skill=skill, edit_distance=(0.0, 1.0, 0.0)))
        assert design["tile"] == "48"
        assert sum(design[name] != START[name] for name in START) == 2


def test_an_intent_that_is_already_met_is_kept_while_something_else_changes():
    text = prompt(program({**START, "tile": "48"}, passed(1.0)), intent="tile by 48")
    assert design_of(text) == {**START, "tile": "48", "order": "ikj"}


def test_an_intent_without_a_known_phrase_leaves_the_choice_to_the_model():
    text = prompt(program(START, passed(1.0)), intent="make it wonderful")
    assert design_of(text) == {**START, "order": "ikj"}


def test_a_phrase_inside_a_longer_phrase_or_word_is_not_an_intent():
    assert choices_in(SPACE, "tile by 4 in two levels") == {"tile": "8"}
    assert choices_in(SPACE, "tile by 48") == {"tile": "48"}
    assert choices_in(SPACE, "tile by 48, then tile by 4") == {"tile": "4"}


def test_a_skilled_answer_removes_a_fault_from_the_text_and_keeps_the_design():
    design = {**START, "order": "ikj"}
    broken = with_wrong_result(SPACE.render(design), random.Random(3))
    text = prompt(program(design, "INCORRECT_NUMERICAL at correctness: 3 of 64", text=broken))
    assert source_in(answer(text)).rstrip() == SPACE.render(design).rstrip()


def test_a_skilled_answer_reverts_the_suspect_choice_of_a_design_that_fails():
    known_good = {**START, "order": "ikj"}
    bad = {**known_good, "tile": "48", "vector": "yes"}
    text = prompt(
        program({**known_good, "tile": "48"}, passed(1.0)),
        program(bad, "INCORRECT_NUMERICAL at correctness: 3 of 64"),
    )
    repaired = design_of(text)
    assert repaired["vector"] == "no"
    assert repaired["tile"] != "48" or repaired["unroll"] == "2"  # a step on from what is known


def test_a_repair_is_the_reverted_design_itself_where_that_is_new():
    bad = {**START, "order": "ikj", "tile": "48"}
    text = prompt(program(bad, "TIMEOUT at smoke: 10 s"))
    assert design_of(text) == {**bad, "tile": "none"}


def test_a_repair_keeps_what_was_asked_for():
    bad = {**START, "order": "ikj", "tile": "48"}
    text = prompt(program(bad, "TIMEOUT at smoke: 10 s"), intent="tile by 48")
    assert design_of(text) == {**bad, "order": "ijk"}


def test_a_program_that_is_already_in_the_prompt_is_not_proposed_again_by_a_skilled_answer():
    text = prompt(program({**START, "order": "ikj"}, passed(2.0)), program(START, passed(1.0)))
    assert design_of(text) != {**START, "order": "ikj"}


def test_the_last_program_is_the_one_that_is_changed():
    base = {**START, "tile": "8"}
    text = prompt(program({**START, "order": "jki"}, passed(3.0)), program(base))
    assert design_of(text) == {**base, "order": "ikj"}


# --- crossover ------------------------------------------------------------------------------------

ONE = {**START, "order": "ikj", "unroll": "2"}
OTHER = {**START, "tile": "4", "vector": "yes"}


def crossing(one, other, score=1.0):
    """A prompt that asks to combine two programs, the current one first."""
    return prompt(
        program(one, passed(1.0), heading="Current program"),
        program(other, passed(score), heading="Crossover inspiration"),
    )


def test_a_crossover_takes_each_parameter_from_one_of_the_two_programs():
    for skill in (0.0, 1.0):
        for n in range(40):
            design = design_of(crossing(ONE, OTHER), replace(CAREFUL, skill=skill), n)
            assert all(value in (ONE[name], OTHER[name]) for name, value in design.items())
            assert design not in (ONE, OTHER)


def test_a_skilled_crossover_takes_the_best_combination_that_it_looks_at():
    by_prior = replace(CAREFUL, insight_from_feedback=False)
    best = {**START, **OTHER, "order": "ikj", "unroll": "2"}
    assert design_of(crossing(ONE, OTHER), by_prior) == best
    # Few are looked at, and the sum of both programs' best choices always.
    few = replace(by_prior, neighbours=1)
    designs = [design_of(crossing(ONE, OTHER), few, n) for n in range(30)]
    additive = {**START, "order": "ikj", "tile": "4", "unroll": "2"}
    assert min(SPACE.prior(design) for design in designs) == SPACE.prior(additive)


def test_an_unskilled_crossover_is_any_combination():
    unskilled = replace(CAREFUL, skill=0.0)
    found = {key(design_of(crossing(ONE, OTHER), unskilled, n)) for n in range(300)}
    assert len(found) == 2**4 - 2


def test_a_skilled_crossover_does_not_propose_what_is_in_the_prompt():
    best = {**START, **OTHER, "order": "ikj", "unroll": "2"}
    text = program(best, passed(1.0)) + crossing(ONE, OTHER)
    assert design_of(text) not in (best, ONE, OTHER)


def test_programs_that_leave_nothing_to_combine_get_an_ordinary_answer():
    ordinary = design_of(prompt(program(ONE, passed(1.0))))
    assert design_of(crossing(ONE, ONE)) == ordinary
    assert design_of(crossing(ONE, {**ONE, "tile": "48"})) not in (ONE, {**ONE, "tile": "48"})


def test_recombinations_are_distinct_and_all_of_them_if_they_are_few():
    everything = recombinations(SPACE, ONE, OTHER, limit=14, rng=random.Random(0))
    some = recombinations(SPACE, ONE, OTHER, limit=5, rng=random.Random(0))
    assert len({key(c) for c in everything}) == 14
    assert len({key(c) for c in some}) == 5
    assert recombinations(SPACE, ONE, {**ONE, "tile": "4"}, limit=5, rng=random.Random(0)) == []


# --- parts ----------------------------------------------------------------------------------------


def test_neighbours_are_distinct_at_the_asked_distance_and_keep_what_they_must():
    rng = random.Random(5)
    found = neighbours(SPACE, START, distance=2, limit=7, rng=rng, keep={"order": "ijk"})
    assert len({key(c) for c in found}) == len(found) == 7
    assert all(sum(c[n] != START[n] for n in START) == 2 for c in found)
    assert all(c["order"] == "ijk" for c in found)
    assert neighbours(SPACE, START, distance=1, limit=7, rng=rng, keep=START) == []


def test_the_companion_is_the_choice_that_interacts():
    assert companion(SPACE, START, {"vector": "yes"}) == {"order": "ikj"}
    assert companion(SPACE, START, {"tile": "4"}) == {}


def test_one_score_moves_the_estimate_towards_it_without_overshooting():
    better = {**START, "tile": "48"}
    seen = [Observation(START, 1.0), Observation(better, 8.0)]
    before, after = Estimate(SPACE, []), Estimate(SPACE, seen)
    gain_before = before(better) - before(START)
    gain_after = after(better) - after(START)
    assert gain_before < gain_after < 3.0


def test_verdicts_belong_to_the_program_before_them():
    text = prompt(
        program(START, passed(1.25)),
        program({**START, "tile": "4"}, "REJECTED at timing, check floor: too fast"),
        program({**START, "tile": "48"}),
    )
    read = read_prompt(text, {SPACE.name: SPACE})
    assert [(p.status, p.score, p.failed) for p in read.programs] == [
        ("PASSED", 1.25, False),
        ("REJECTED", None, True),
        (None, None, False),
    ]

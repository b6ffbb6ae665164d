"""Prompts in the format of two upstream packages, and what the simulated model reads in them.

Built by hand: our own task, programs and verdicts between the few lines by which the packages mark
what is what (OpenEvolve 0.4.0, ShinkaEvolve 0.0.7). Other test files use the builders.

Not covered: the answers (test_simulated_forms.py), and the packages themselves.
"""

from dataclasses import replace

import pytest
from toy_design_space import CAREFUL, SPACE, START, design_of, passed, program, prompt, request

from harness.design_space import configurations_in
from harness.llm.client import Message
from harness.llm.simulated import SimulatedModel
from harness.llm.simulated_estimate import observations_in
from harness.llm.simulated_prompt import choices_in, read_prompt

SCALED = "You write kernels. Lists show the score times 100, and 0 for a failure."
PLAIN = "You write kernels."
WRONG = "INCORRECT_NUMERICAL at correctness, workload n8, check tolerance: 3 of 64"
BLOCKS = "<<<<<<< SEARCH\n# what stands there\n=======\n# what shall stand there\n>>>>>>> REPLACE"


def text_of(design, text=None):
    return (text or SPACE.render(design)).rstrip()


def evolving(design, text=None, comment="//"):
    """A program as ShinkaEvolve keeps it."""
    return f"{comment} EVOLVE-BLOCK-START\n{text_of(design, text)}\n{comment} EVOLVE-BLOCK-END"


def openevolve(current, verdict="", tops=(), form="diff", text=None, system=SCALED, fitness=None):
    """tops: (design, listed score). The verdict stands above all programs, the current one last."""
    listed = "\n\n".join(
        f"### Program {n} (Score: {score:.4f})\n```cpp\n{text_of(design)}\n```\n"
        f"Key features: Performs well on combined_score ({score:.4f})"
        for n, (design, score) in enumerate(tops, start=1)
    )
    wanted = {
        "diff": f"# Task\nAnswer in the SEARCH/REPLACE format:\n\n{BLOCKS}",
        "full": "# Task\nGive the complete new program code.\n\n```cpp\n# your program\n```",
    }[form]
    return "\n\n".join(
        [
            system,
            "# Current Program Information",
            f"- Fitness: {fitness:.4f}\n- Feature coordinates: " if fitness is not None else "",
            f"## Last Execution Output\n\n### verdict\n```\n{verdict}\n```" if verdict else "",
            "# Program Evolution History\n## Previous Attempts\n\n### Attempt 1\n"
            "- Changes: Change 1: Replace:\n  // design: {}\nwith:\n  // design: {}\n"
            "- Metrics: combined_score: 12.0000",
            f"## Top Performing Programs\n\n{listed}",
            f"# Current Program\n```cpp\n{text_of(current, text)}\n```",
            wanted,
        ]
    )


def shinka_system(form, system=SCALED, recommendation=""):
    tag = "DIFF" if form == "diff" else "CODE"
    body = f"{BLOCKS}\n" if form == "diff" else "```{language}\n# your program\n```"
    about = f"\n\n# Potential Recommendations\nSome ideas:\n\n{recommendation}"
    return (
        f"{system}{about if recommendation else ''}\n"
        f"Answer like this:\n\n<NAME>\na_name\n</NAME>\n\n<DESCRIPTION>\nWhy.\n</DESCRIPTION>\n\n"
        f'<{tag}>\n{body}\n</{tag}>\n\n* Keep the markers "EVOLVE-BLOCK-START" in the code.'
    )


def shinka(
    current,
    verdict="",
    priors=(),
    form="diff",
    text=None,
    system=SCALED,
    recommendation="",
    partner=None,
    metrics=0.0,
    comment="//",
    fence="cpp",
):
    """priors: (design, verdict). partner: (design, listed score), for form "cross"."""
    shown = "\n\n".join(
        f"```{fence}\n{evolving(design, comment=comment)}\n\n```\n\nPerformance metrics:\n"
        f"Combined score to maximize: 1.00\n\nText feedback:\n{feedback}"
        for design, feedback in priors
    )
    heading = "Here is the current program we are trying to improve (you will change it):"
    about = f"The metrics of the program:\n\nCombined score to maximize: {metrics:.2f}\nx: 1"
    if form == "fix":
        heading = "The following program has failed validation and needs to be fixed:"
        about = "## Error Information\n\nThe program is marked as **incorrect** and failed."
    feedback = f"More feedback about the current program:\n\n{verdict}" if verdict else ""
    task = {
        "diff": "# Task\n\nDescribe the changes in SEARCH/REPLACE blocks.",
        "full": "# Task\n\nGive the complete new program code.",
        "fix": "# Task\n\nFind the error and repair the program.",
        "cross": "# Task\n\nPerform a cross-over of the code above and the one below.\n"
        "Give the complete new program code.",
    }[form]
    parts = [
        shinka_system(form, system, recommendation),
        f"Here are earlier programs:\n\n# Prior programs\n\n{shown}" if shown else "",
        f"# Current program\n\n{heading}\n\n```{fence}\n{evolving(current, text, comment)}\n\n```",
        about,
        feedback,
        task,
    ]
    if partner is not None:
        design, score = partner
        parts.append(
            f"# Crossover Inspiration Programs\n```{fence}\n{evolving(design)}\n\n```\n\n"
            f"Performance metrics: Combined score to maximize: {score:.2f}"
        )
    return "\n\n".join(parts)


def read(text):
    return read_prompt(text, {SPACE.name: SPACE})


IKJ = {**START, "order": "ikj"}
TILED = {**START, "tile": "4"}


# --- which program is to be changed ---------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        openevolve(IKJ, passed(2.0), [(START, 100.0), (TILED, 120.0)]),
        shinka(IKJ, passed(2.0), [(START, passed(1.0)), (TILED, passed(1.2))]),
        shinka(IKJ, WRONG, [(START, passed(1.0))], form="fix"),
        shinka(IKJ, passed(2.0), [(START, passed(1.0))], form="cross", partner=(TILED, 120.0)),
    ],
    ids=["openevolve", "shinka", "shinka, a repair", "shinka, a crossover"],
)
def test_the_program_that_is_called_current_is_the_one_to_change(text):
    assert read(text).current.configuration == IKJ
    assert read(text).current.text == text_of(IKJ)


def test_of_two_programs_that_are_called_current_the_last_one_is_meant():
    first, second = (f"## Current program\n\n```cpp\n{text_of(d)}\n```\n" for d in (IKJ, TILED))
    assert read(f"{first}\n{second}\n{program(START)}").current.configuration == TILED


def test_the_program_below_a_crossover_heading_is_the_partner():
    text = shinka(IKJ, passed(2.0), form="cross", partner=(TILED, 120.0))
    assert read(text).partner.configuration == TILED
    assert read(text).partner.score == pytest.approx(1.2)
    assert read(shinka(IKJ, passed(2.0), [(TILED, passed(1.0))])).partner is None


@pytest.mark.parametrize("comment", ["//", "#"])
def test_evolve_block_lines_are_no_part_of_a_program(comment):
    shown = read(shinka(IKJ, passed(2.0), comment=comment)).current
    assert shown.faithful
    assert shown.heading.startswith("Here is the current program")
    assert shown.evolve_lines == (f"{comment} EVOLVE-BLOCK-START", f"{comment} EVOLVE-BLOCK-END")


# --- verdicts and scores --------------------------------------------------------------------------


def outcomes(text):
    return [(p.configuration, p.status, p.failed, p.score) for p in read(text).programs]


def test_a_verdict_above_all_programs_belongs_to_the_current_one():
    for form in ("diff", "full"):
        text = openevolve(IKJ, WRONG, [(START, 100.0)], form)
        assert outcomes(text) == [
            (START, None, False, 1.0),
            (IKJ, "INCORRECT_NUMERICAL", True, None),
        ]


def test_a_verdict_below_the_current_program_goes_before_one_above_all_programs():
    text = f"{WRONG}\n\n{prompt(program(IKJ, passed(1.5), heading='Current program'))}"
    assert outcomes(text) == [(IKJ, "PASSED", False, 1.5)]


def test_prose_above_the_programs_is_no_verdict():
    text = openevolve(IKJ, tops=[(START, 100.0)], system=f"A kernel that is {WRONG} gets 0.")
    assert read(text).current.status is None


def test_the_verdicts_of_shinkas_programs_stand_below_them():
    priors = [(START, passed(1.0)), (TILED, WRONG)]
    assert outcomes(shinka(IKJ, passed(2.5), priors)) == [
        (START, "PASSED", False, 1.0),
        (TILED, "INCORRECT_NUMERICAL", True, None),
        (IKJ, "PASSED", False, 2.5),
    ]


def test_listed_scores_are_divided_by_100_only_if_the_prompt_says_that_they_are_scaled():
    tops = [(START, 123.4567)]
    assert read(openevolve(IKJ, passed(2.0), tops)).programs[0].score == pytest.approx(1.234567)
    plain = read(openevolve(IKJ, passed(2.0), tops, system=PLAIN))
    assert plain.programs[0].score == pytest.approx(123.4567)
    assert plain.current.score == 2.0  # a verdict's own score is never scaled


def test_the_sentence_about_the_scale_is_found_across_a_line_break():
    system = "Lists show the score\ntimes 100."
    text = openevolve(IKJ, passed(2.0), [(START, 50.0)], system=system)
    assert read(text).programs[0].score == 0.5


def test_a_listed_score_of_0_is_a_failure_of_unknown_kind():
    text = openevolve(IKJ, passed(2.0), [(START, 100.0), (TILED, 0.0)])
    assert outcomes(text)[1] == (TILED, None, True, None)
    assert outcomes(shinka(IKJ, metrics=0.0)) == [(IKJ, None, True, None)]


def test_the_current_programs_listed_score_counts_where_it_has_no_verdict():
    assert outcomes(shinka(IKJ, metrics=250.0)) == [(IKJ, None, False, 2.5)]
    assert outcomes(openevolve(IKJ, fitness=250.0))[-1] == (IKJ, None, False, 2.5)
    assert outcomes(openevolve(IKJ, passed(2.4), fitness=250.0))[-1] == (IKJ, "PASSED", False, 2.4)


def test_a_program_that_is_called_incorrect_has_failed():
    assert outcomes(shinka(IKJ, form="fix")) == [(IKJ, None, True, None)]


def test_a_rounded_score_from_a_list_does_not_count_beside_the_verdict_on_the_same_design():
    text = openevolve(IKJ, passed(2.3456), [(IKJ, 234.5612), (START, 100.0)])
    scores = [(o.configuration, o.score) for o in observations_in(read(text).programs)]
    assert scores == [(START, 1.0), (IKJ, 2.3456)]


# --- wanted changes -------------------------------------------------------------------------------


def test_a_recommendation_is_followed_like_an_intent_whatever_the_skill():
    for form in ("diff", "full"):
        text = shinka(START, passed(1.0), form=form, recommendation="Tile by 48. It may pay.")
        model = SimulatedModel(replace(CAREFUL, skill=0.0), {"toy": SPACE})
        reply = model.complete(request(text), 0)
        assert configurations_in(reply.text)[-1][2] == {**START, "tile": "48"}


def test_an_intent_goes_before_recommendations():
    text = shinka(START, passed(1.0), recommendation="Tile by 48.") + "\n\nIntent: unroll twice\n"
    assert choices_in(SPACE, read(text).intent) == {"unroll": "2"}


def test_of_several_recommendations_the_first_that_is_not_followed_yet_is_the_intent():
    listed = "1. Tile by 4. It pays.\n2. Unroll twice.\n3. Reorder the loops to i-k-j."
    intent = read(shinka(TILED, passed(1.0), recommendation=listed)).intent
    assert choices_in(SPACE, intent) == {"unroll": "2"}


def test_recommendations_end_where_the_form_of_the_answer_begins():
    text = shinka(START, passed(1.0), recommendation="Nothing in particular.")
    text = text.replace("# what shall stand there", "unroll twice")
    assert choices_in(SPACE, read(text).intent) == {}


# --- conversations --------------------------------------------------------------------------------


def test_what_the_model_said_before_is_no_evidence():
    text = shinka(START, passed(1.0), form="full")
    asked = request(text)
    earlier = Message("assistant", f"```cpp\n{text_of(IKJ)}")
    again = Message("user", "The previous edit was not successful. Try again.")
    asked = replace(asked, messages=(*asked.messages, earlier, again))
    reply = SimulatedModel(CAREFUL, {"toy": SPACE}).complete(asked, 0)
    assert configurations_in(reply.text)[-1][2] == IKJ == design_of(prompt(program(START)))

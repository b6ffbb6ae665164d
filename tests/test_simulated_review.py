"""The simulated model's judgements, summaries, insights and recommendations.

Prompts are built by hand in the format of ShinkaEvolve 0.0.7. Not covered: how a method uses them;
programs and world models (other files).
"""

import random
import re
from collections import Counter
from dataclasses import replace

import pytest
from scipy.stats import binomtest
from test_simulated_foreign import IKJ, TILED, WRONG, evolving, shinka
from toy_design_space import CAREFUL, SPACE, START, answer, passed

from harness.design_space import configurations_in
from harness.llm.simulated_faults import with_wrong_result
from harness.llm.simulated_prompt import choices_in


def pair(one, other):
    return (
        f"Is the second program new?\n\n**EXISTING CODE:**\n```cpp\n{one}\n\n```\n\n"
        f"**PROPOSED CODE:**\n```cpp\n{other}\n\n```\n\nAnswer NOVEL or NOT_NOVEL."
    )


def judged(one, other, knobs=CAREFUL, occurrence=0):
    return answer(pair(one, other), knobs, occurrence, purpose="judge").text.split()[0]


def about(design, verdict, score):
    return (
        f"# Program to Analyze\n\n```cpp\n{evolving(design)}\n\n```\n\nPerformance metrics:\n"
        f"Combined score to maximize: {score:.2f}\nx: 1\n\nText feedback:\n{verdict}"
    )


SUMMARY = (
    "# Instructions\n\nUse this form:\n\n**Program Name: [a name]**\n"
    "- **Implementation**: [details]\n- **Performance**: [score]\n- **Feedback**: [insight]"
)
SECTIONS = (
    "Successful Algorithmic Patterns",
    "Ineffective Approaches",
    "Implementation Insights",
    "Performance Analysis",
)
INSIGHTS = "# Instructions\n\n" + "\n\n".join(f"## {title}\n- say something" for title in SECTIONS)


def recommending(*shown, number=5):
    return "\n\n".join(
        [
            "# Global Insights\n## Successful Algorithmic Patterns\n- Tiles.",
            *shown,
            f"From the insights above generate {number} recommendations.\n\n"
            "Format as a numbered list:\n\n1. [first]\n2. [second]\n...",
        ]
    )


def asked(text, knobs=CAREFUL, occurrence=0):
    return answer(text, knobs, occurrence, purpose="summary").text


def items(text):
    lines = text.strip().splitlines()
    assert [line.split(".")[0] for line in lines] == [str(n + 1) for n in range(len(lines))]
    return [re.sub(r"^\d+\.\s*", "", line) for line in lines]


# --- is it new? -----------------------------------------------------------------------------------


def test_another_design_is_novel_and_the_same_one_is_not():
    assert judged(evolving(START), evolving(IKJ)) == "NOVEL"
    assert judged(evolving(IKJ), evolving(IKJ)) == "NOT_NOVEL"


def test_a_miswritten_text_is_another_program_unless_both_are_the_same():
    broken = with_wrong_result(SPACE.render(IKJ), random.Random(3))
    assert judged(evolving(IKJ), evolving(IKJ, broken)) == "NOVEL"
    assert judged(evolving(IKJ, broken), evolving(IKJ, broken)) == "NOT_NOVEL"


def test_programs_of_no_known_space_are_compared_as_texts():
    assert judged("int a;", "int b;") == "NOVEL"
    assert judged("// EVOLVE-BLOCK-START\nint a;\n", "int a;  ") == "NOT_NOVEL"


def test_a_judgement_knows_neither_chance_nor_mistakes():
    knobs = replace(CAREFUL, skill=0.0, format_error=1.0)
    assert {judged(evolving(START), evolving(IKJ), knobs, n) for n in range(20)} == {"NOVEL"}


# --- summaries and insights -----------------------------------------------------------------------


def test_a_summary_has_the_demanded_form_and_states_what_is_shown():
    text = asked(f"{about(IKJ, passed(1.25), 125.0)}\n\n{SUMMARY}")
    name, implementation, performance, feedback = text.strip().splitlines()
    assert re.fullmatch(r"\*\*Program Name: (\S+ ?){1,10}\*\*", name)
    assert "Reorder the loops to i-k-j." in implementation
    assert performance == "- **Performance**: Score 1.25, higher is better."
    assert feedback.startswith("- **Feedback**: ")


def test_the_summary_of_a_failure_says_so():
    assert "Failed with INCORRECT_NUMERICAL." in asked(f"{about(IKJ, WRONG, 0.0)}\n\n{SUMMARY}")


def test_insights_have_their_four_sections_and_use_the_summaries():
    summaries = [
        asked(f"{about(*shown)}\n\n{SUMMARY}")
        for shown in ((TILED, passed(1.2), 120.0), (IKJ, WRONG, 0.0))
    ]
    best = about(TILED, passed(1.2), 120.0)
    text = asked("\n\n".join(["# Summaries", *summaries, "# Current Best Program", best, INSIGHTS]))
    parts = dict(re.findall(r"^## (.*)\n((?:- .*\n)+)", text, re.MULTILINE))
    assert tuple(parts) == SECTIONS
    assert "tile by 4" in parts["Successful Algorithmic Patterns"]
    assert "order ikj: Failed" in parts["Ineffective Approaches"]
    assert "tile 4: Score 1.2" in parts["Performance Analysis"]


@pytest.mark.parametrize("form", [SUMMARY, INSIGHTS, recommending()])
def test_where_no_known_program_is_shown_the_form_is_kept_and_the_words_are_general(form):
    text = asked(form)
    known = asked(f"{about(IKJ, passed(1.0), 100.0)}\n\n{form}")
    assert re.findall(r"^(?:## .*|1\.|\*\*Program|- \*\*)", text, re.MULTILINE) == re.findall(
        r"^(?:## .*|1\.|\*\*Program|- \*\*)", known, re.MULTILINE
    )
    assert not choices_in(SPACE, text)


def test_a_request_for_something_else_gets_a_short_text():
    assert len(asked("Summarise your day.")) < 500


# --- recommendations ------------------------------------------------------------------------------


def recommended(*shown, knobs=CAREFUL, occurrence=0, number=5):
    text = asked(recommending(*shown, number=number), knobs, occurrence)
    return [choices_in(SPACE, item) for item in items(text)]


def test_recommendations_are_the_best_changes_of_the_best_program_first():
    assert recommended(about(START, passed(1.0), 100.0)) == [
        {"order": "ikj", "vector": "yes"},
        {"tile": "4"},
        {"unroll": "2"},
        {"tile": "48"},
    ]


def test_recommendations_start_from_the_best_program_and_repeat_none_of_its_choices():
    shown = [about(IKJ, passed(2.0), 200.0), about(START, passed(1.0), 100.0)]
    first = recommended(*shown)[0]
    assert first == {"vector": "yes"}


def test_the_prompts_number_of_recommendations_is_kept():
    assert len(recommended(about(START, passed(1.0), 100.0), number=2)) == 2


def test_what_should_not_gain_is_not_recommended_unless_nothing_should():
    best = {"order": "ikj", "tile": "4", "vector": "yes", "unroll": "2"}
    assert len(recommended(about(best, passed(3.0), 300.0))) == 1


def test_each_recommendation_is_followed_when_a_later_prompt_shows_it():
    text = asked(recommending(about(START, passed(1.0), 100.0)))
    for item in items(text):
        prompt = shinka(START, passed(1.0), form="full", recommendation=item)
        unskilled = replace(CAREFUL, skill=0.0)
        [(_, _, design)] = configurations_in(answer(prompt, unskilled).text)
        assert choices_in(SPACE, item)
        assert design == {**START, **choices_in(SPACE, item)}


def mean_gain_of_the_first(knobs):
    gains = []
    for n in range(100):
        first = recommended(about(START, passed(1.0), 100.0), knobs=knobs, occurrence=n)[0]
        gains.append(SPACE.prior({**START, **first}))
    return sum(gains) / len(gains)


def test_less_skill_recommends_worse_and_noise_knows_nothing():
    skilled = mean_gain_of_the_first(CAREFUL)
    unskilled = mean_gain_of_the_first(replace(CAREFUL, skill=0.0))
    noise = mean_gain_of_the_first(replace(CAREFUL, world_model="noise"))
    assert skilled > unskilled + 0.1
    assert unskilled > noise + 0.1


def test_noise_recommends_every_choice():
    knobs = replace(CAREFUL, world_model="noise")
    found = Counter()
    for n in range(200):
        for choices in recommended(about(START, passed(1.0), 100.0), knobs=knobs, occurrence=n):
            found.update(choices.items())
    assert len(found) == sum(len(p.choices) for p in SPACE.parameters)


def test_recommendations_are_unusable_at_the_rate_of_format_errors():
    knobs = replace(CAREFUL, format_error=0.2)
    text = recommending(about(START, passed(1.0), 100.0))
    unusable = sum("1." not in asked(text, knobs, n) for n in range(500))
    assert binomtest(unusable, 500, 0.2).pvalue > 1e-5

"""The forms of the simulated model's answers: each gives exactly the program that was meant, none
changes which program that is, and each is unusable at the stated rate.

The packages' rules for applying an answer are written again here, as strictly as they are known:
`apply_lines` (OpenEvolve), `apply_text` and `apply_region` (ShinkaEvolve).

Not covered: what is read in a prompt (test_simulated_foreign.py); the packages themselves.
"""

import random
import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chi2_contingency
from test_simulated_foreign import (
    IKJ,
    TILED,
    WRONG,
    evolving,
    openevolve,
    read,
    shinka,
    text_of,
)
from toy_design_space import CAREFUL, SPACE, START, ToySpace, passed, program, prompt, request

from harness.design_space import configurations_in
from harness.llm.simulated import Knobs, SimulatedModel
from harness.llm.simulated_design import wanted_design
from harness.llm.simulated_diff import blocks_between
from harness.llm.simulated_faults import with_compile_error, with_wrong_result
from harness.llm.simulated_forms import form_asked_for

COUNTED = 500
CHANGING = replace(CAREFUL, skill=0.5, neighbours=4, edit_distance=(0.4, 0.3, 0.3))


def complete(text, knobs=CHANGING, occurrence=0):
    return SimulatedModel(knobs, {"toy": SPACE}).complete(request(text), occurrence)


# --- the packages' rules --------------------------------------------------------------------------


def pieces(answer):
    """(search, replace) of every complete block; raises ValueError for any other marker line."""
    marks = {"<<<<<<< SEARCH": 0, "=======": 1, ">>>>>>> REPLACE": 2}
    found, lines = [], answer.split("\n")
    at = [(n, marks[line]) for n, line in enumerate(lines) if line in marks]
    if [mark for _, mark in at] != [0, 1, 2] * (len(at) // 3):
        raise ValueError("unmatched marker")
    places = [n for n, _ in at]
    for start, middle, end in zip(places[::3], places[1::3], places[2::3], strict=True):
        found.append(("\n".join(lines[start + 1 : middle]), "\n".join(lines[middle + 1 : end])))
    return found


def apply_lines(original, answer):
    """Whole lines; blank lines at the end of a side are dropped; the first place counts."""
    lines = original.split("\n")
    for search, replacement in pieces(answer):
        wanted = search.rstrip().split("\n")
        places = range(len(lines) - len(wanted) + 1)
        at = next((n for n in places if lines[n : n + len(wanted)] == wanted), None)
        if at is None:
            raise ValueError("not found")
        lines[at : at + len(wanted)] = replacement.rstrip().split("\n")
    return "\n".join(lines)


def apply_text(original, answer):
    """A piece of the text between the markers; blank lines around a side are dropped."""
    text = original
    for search, replacement in pieces(answer):
        wanted, given_instead = (
            re.sub(r"\A(?:[ \t]*\n)+|(?:\n[ \t]*)+\Z", "", side) for side in (search, replacement)
        )
        start = text.index("EVOLVE-BLOCK-START") + len("EVOLVE-BLOCK-START")
        end = re.search(r"(?://|#) EVOLVE-BLOCK-END", text).start()
        at = text.find(wanted)
        if not wanted.strip() or not given_instead.strip() or not start <= at <= end - len(wanted):
            raise ValueError("not found")
        text = text[:at] + given_instead + text[at + len(wanted) :]
    return text


def region(text):
    start = re.search(r"(?://|#) EVOLVE-BLOCK-START", text).end()
    return start, re.search(r"(?://|#) EVOLVE-BLOCK-END", text).start()


def apply_region(original, answer, fence="cpp"):
    """What the first fenced block has between its markers takes the place of what is there."""
    found = re.search(rf"```{fence}\s*(.*?)\s*```", answer, re.DOTALL)
    if found is None:
        raise ValueError("no code")
    code = found.group(1)
    (start, end), (new_start, new_end) = region(original), region(code)
    return original[:start] + code[new_start:new_end] + original[end:]


def first_block(original, answer):
    """OpenEvolve's complete rewrite: the first block with the language's tag, without margins."""
    found = re.search(r"```cpp\n(.*?)```", answer, re.DOTALL)
    if found is None:
        raise ValueError("no code")
    return found.group(1).strip()


def between_markers(applied):
    start, end = region(applied)
    assert applied[start] == "\n" == applied[end - 1]
    return applied[start + 1 : end - 1]


# Each builds a prompt from the same arguments; applies the answer to what the package holds; takes
# the program out of that.
WAYS = {
    "our own": (
        lambda current, verdict, text: prompt(program(current, verdict, text=text)),
        first_block,
        lambda applied: applied,
    ),
    "openevolve, complete": (
        lambda current, verdict, text: openevolve(current, verdict, form="full", text=text),
        first_block,
        lambda applied: applied,
    ),
    "openevolve, blocks": (
        lambda current, verdict, text: openevolve(current, verdict, form="diff", text=text),
        apply_lines,
        lambda applied: applied,
    ),
    "shinka, complete": (
        lambda current, verdict, text: shinka(current, verdict, form="full", text=text),
        lambda original, answer: apply_region(evolving(START, original), answer),
        between_markers,
    ),
    "shinka, a repair": (
        lambda current, verdict, text: shinka(current, verdict, form="fix", text=text),
        lambda original, answer: apply_region(evolving(START, original), answer),
        between_markers,
    ),
    "shinka, blocks": (
        lambda current, verdict, text: shinka(current, verdict, form="diff", text=text),
        lambda original, answer: apply_text(evolving(START, original), answer),
        between_markers,
    ),
}
every_way = pytest.mark.parametrize("way", WAYS)


def result(way, current, verdict, text, occurrence=0, knobs=CHANGING):
    """The program that a package has after an answer."""
    ask, apply, take = WAYS[way]
    reply = complete(ask(current, verdict, text), knobs, occurrence)
    return take(apply(text_of(current, text), reply.text))


# --- what is applied is what was meant ------------------------------------------------------------


@every_way
def test_an_answer_gives_exactly_a_rendered_program(way):
    for n in range(100):
        got = result(way, START, passed(1.0), None, n)
        [(_, _, design)] = configurations_in(got)
        assert got == text_of(design)


@every_way
def test_an_answer_to_a_miswritten_program_removes_the_fault(way):
    for n in range(60):
        break_it = with_compile_error if n % 2 else with_wrong_result
        text = break_it(SPACE.render(IKJ), random.Random(n))
        got = result(way, IKJ, WRONG, text, n)
        [(_, _, design)] = configurations_in(got)
        assert got == text_of(design)


@every_way
def test_a_mistake_inside_the_program_reaches_the_package(way):
    for mistake in ("compile_error", "wrong_result"):
        knobs = replace(CHANGING, **{mistake: 1.0})
        for n in range(20):
            got = result(way, START, passed(1.0), None, n, knobs)
            [(_, _, design)] = configurations_in(got)
            assert got != text_of(design)


LINES = st.lists(st.sampled_from(["a", "  a", "b", "", "}", "  }", "ab", "   "]), max_size=14)


@settings(max_examples=300, deadline=None)
@given(LINES, LINES)
def test_blocks_between_any_two_texts_give_the_second_under_both_rules(old, new):
    shown, wanted = ("\n".join(["first", *lines, "last"]) for lines in (old, new))
    answer = "\n\n".join(str(block) for block in blocks_between(shown, wanted))
    assert apply_lines(shown, answer) == wanted
    assert between_markers(apply_text(evolving(START, shown), answer)) == wanted


def test_blocks_are_small_where_little_changes():
    blocks = blocks_between(SPACE.render(START), SPACE.render({**START, "unroll": "2"}))
    assert [block.search.count("\n") for block in blocks] == [0, 0]  # the marker, and one line


def test_equal_programs_give_one_block_that_replaces_the_first_line_by_itself():
    [block] = blocks_between(text_of(START), text_of(START))
    assert block.search == block.replace == text_of(START).splitlines()[0]


def test_blocks_never_hold_evolve_block_lines():
    for n in range(30):
        assert "EVOLVE-BLOCK" not in complete(shinka(START, passed(1.0)), occurrence=n).text


def test_a_complete_program_keeps_the_evolve_block_lines_of_the_shown_one():
    class PythonSpace(ToySpace):
        language = "python"

    space = PythonSpace()
    text = shinka(
        START, passed(1.0), form="full", text=space.render(START), comment="#", fence="python"
    )
    reply = SimulatedModel(CHANGING, {"toy": space}).complete(request(text), 0)
    assert "```python\n# EVOLVE-BLOCK-START\n# design: " in reply.text
    assert "\n# EVOLVE-BLOCK-END\n```\n</CODE>" in reply.text


# --- which form -----------------------------------------------------------------------------------


def test_the_form_that_is_asked_for_last_is_used():
    diff, full = "Answer with SEARCH/REPLACE blocks.", "Answer with the complete program."
    assert form_asked_for(f"{full}\n{diff}").name == "blocks"
    assert form_asked_for(f"{diff}\n{full}").name == "complete program"
    assert form_asked_for("Do what you like.").name == "complete program"


@pytest.mark.parametrize("form", ["diff", "full", "fix", "cross"])
def test_a_prompt_that_wants_tags_gets_them_and_another_one_does_not(form):
    reply = complete(shinka(START, passed(1.0), form=form)).text
    name = re.search(r"<NAME>\n(.*)\n</NAME>", reply).group(1)
    assert re.fullmatch(r"[a-z0-9_]{1,60}", name)
    assert re.search(r"<DESCRIPTION>\nWhat I changed: .*\n</DESCRIPTION>", reply)
    assert f"</{'DIFF' if form == 'diff' else 'CODE'}>" in reply
    assert "<NAME>" not in complete(openevolve(START, passed(1.0))).text


def test_the_fence_tag_is_the_shown_programs_where_the_prompts_own_is_not_filled_in():
    text = shinka(START, passed(1.0), form="full", fence="cu")
    assert "```{language}" in text
    assert "```cu\n" in complete(text).text
    assert "```c++\n" in complete(f"{text}\nIn one block fenced with ```c++, please.").text


# --- the form changes nothing else ----------------------------------------------------------------

KNOWN = [(IKJ, 1.5), (TILED, 0.9), ({**START, "vector": "yes"}, None)]
SAME_KNOWLEDGE = {
    "our own": prompt(
        *(program(design, passed(score) if score else WRONG) for design, score in KNOWN),
        program(START, passed(1.0), heading="Current program"),
    ),
    **{
        f"openevolve, {form}": openevolve(
            START, passed(1.0), [(d, 100 * (score or 0.0)) for d, score in KNOWN], form
        )
        for form in ("full", "diff")
    },
    **{
        f"shinka, {form}": shinka(
            START, passed(1.0), [(d, passed(score) if score else WRONG) for d, score in KNOWN], form
        )
        for form in ("full", "diff")
    },
}


@pytest.mark.parametrize("skill", [0.0, 0.5, 1.0])
def test_equal_knowledge_and_chance_give_the_same_design_whatever_the_form(skill):
    knobs = replace(CHANGING, skill=skill)
    prompts = [read(text) for text in SAME_KNOWLEDGE.values()]
    for seed in range(300):
        designs = [wanted_design(p, knobs, random.Random(seed)) for p in prompts]
        assert all(design == designs[0] for design in designs)


def test_the_designs_of_complete_answers_are_distributed_alike_in_every_form():
    model = SimulatedModel(replace(CHANGING, edit_distance=(1.0, 0.0, 0.0)), {"toy": SPACE})
    table = []
    for text in SAME_KNOWLEDGE.values():
        found = Counter()
        for n in range(COUNTED):
            design = configurations_in(model.complete(request(text), n).text)[-1][2]
            found[str(sorted(design.items()))] += 1
        table.append(found)
    designs = sorted(set().union(*table))
    assert len(designs) == 7
    assert chi2_contingency([[row[d] for d in designs] for row in table]).pvalue > 1e-4


# --- unusable answers -----------------------------------------------------------------------------


@every_way
def test_an_unusable_answer_gives_no_new_program_in_any_form(way):
    knobs = replace(CHANGING, format_error=1.0)
    for n in range(60):
        try:
            got = result(way, START, passed(1.0), None, n, knobs)
        except (ValueError, AttributeError):  # refused, or its markers are not there
            continue
        complete_ones = [d for _, _, d in configurations_in(got) if text_of(d) == got]
        assert complete_ones == ([START] if "blocks" in way else [])  # no block: no change


@every_way
def test_format_errors_happen_at_their_rate_in_every_form(way):
    ask, _, _ = WAYS[way]
    knobs = replace(CHANGING, format_error=0.2)
    model = SimulatedModel(knobs, {"toy": SPACE})
    clean = SimulatedModel(replace(knobs, format_error=0.0), {"toy": SPACE})
    asked = request(ask(START, passed(1.0), None))
    spoilt = sum(model.complete(asked, n) != clean.complete(asked, n) for n in range(COUNTED))
    assert binomtest(spoilt, COUNTED, 0.2).pvalue > 1e-5


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200), st.sampled_from(sorted(WAYS)), st.booleans())
def test_no_text_around_a_foreign_prompt_makes_the_model_raise(noise, way, spoil):
    ask, _, _ = WAYS[way]
    text = noise.encode(errors="replace").decode()
    knobs = Knobs(format_error=1.0 if spoil else 0.0, compile_error=0.0, wrong_result=0.0, slower=0)
    complete(f"{text}\n{ask(START, text, None)}\n{text}", knobs)
    complete(ask(START, passed(1.0), f"{SPACE.marker(START)}\n{text}"), knobs)

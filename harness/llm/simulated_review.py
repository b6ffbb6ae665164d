"""The simulated model's texts about programs: is one new, what is one like, what to try next.

    "judge"     two programs: NOVEL or NOT_NOVEL, by a rule without chance. They are the same if
                their designs are equal and their texts too, or both as their designs render.
    "summary"   the last form that the prompt asks for: a summary of one program; insights in four
                sections; a numbered list of recommendations

Recommendations are the ideas of simulated_plan.py with a positive estimated gain over the best
program shown, the best idea of each parameter first. Their phrases are found again in a later
prompt that shows them. With the knob world_model = "noise" insights and recommendations name
random choices; a summary of one program states what is shown and has no such form.

Covered: prompts that show programs of a known space, or none (then general remarks in the same
form). Not covered: other texts under these purposes; what an earlier text of the prompt says,
beyond names and results of summaries that are in the form above.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.design_space import DesignSpace
from harness.llm.simulated_estimate import Estimate, key, observations_in
from harness.llm.simulated_knobs import Knobs
from harness.llm.simulated_plan import (
    as_sentence,
    blurred_gain,
    design_in_words,
    families,
    ideas,
    in_words,
)
from harness.llm.simulated_programs import ShownProgram, same_text, without_evolve_lines
from harness.llm.simulated_prompt import ReadPrompt, read_prompt
from harness.llm.simulated_unusable import ONLY_PROSE, Answer

RECOMMENDATIONS = 5  # where the prompt names no number
BULLETS = 4  # of a section of insights
NAME_WORDS = 10

_BLOCK = re.compile(r"^```[^\n`]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
_WANTED_NUMBER = re.compile(r"\bgenerate (\d{1,2}) ", re.IGNORECASE)
_SUMMARY = re.compile(
    r"^\*\*Program Name: ([^\[\]\n]+?)\*\*[ \t]*$.*?^- \*\*Performance\*\*: ([^\[\]\n]+)$",
    re.MULTILINE | re.DOTALL,
)
_GENERAL = (
    "keep what is reused close to the arithmetic",
    "make the innermost loop walk along memory",
    "share the work evenly between the cores",
)


def judgement(text: str, spaces: Mapping[str, DesignSpace]) -> Answer | None:
    """NOVEL or NOT_NOVEL about the last two programs of the prompt; None if it shows fewer."""
    prompt = read_prompt(text, spaces)
    if prompt is not None and len(prompt.programs) > 1:
        one, other = prompt.programs[-2:]
        if key(one.configuration) != key(other.configuration):
            words = design_in_words(prompt.space, other.configuration)
            return Answer(f"NOVEL\n\nThe proposed program is another design: {words}.")
        same = (one.faithful and other.faithful) or same_text(one.text, other.text)
    else:
        blocks = [without_evolve_lines(block) for block in _BLOCK.findall(text)[-2:]]
        if len(blocks) < 2:
            return None
        same = same_text(*blocks)
    if same:
        return Answer("NOT_NOVEL\n\nBoth programs are the same.")
    return Answer("NOVEL\n\nThe two texts differ in more than their layout.")


def review(
    text: str, spaces: Mapping[str, DesignSpace], knobs: Knobs, rng: random.Random
) -> Answer | None:
    """The summary, insights or recommendations that the prompt asks for last; None if it asks for
    nothing of the kind."""
    asked = [(m.start(), form) for form in _FORMS for m in form.asked_by.finditer(text)]
    if not asked:
        return None
    form = max(asked, key=lambda a: a[0])[1]
    unusable = rng.random() < knobs.format_error
    if unusable and form.must_be_parsed:
        return Answer(ONLY_PROSE)
    return Answer(form.write(text, read_prompt(text, spaces), knobs, rng))


def _summary(text: str, prompt: ReadPrompt | None, knobs: Knobs, rng: random.Random) -> str:
    if prompt is None:
        name, design = "A program of an unknown kind", "I do not recognise how it works"
        result, insight = "No score that I can relate to a design", as_sentence(_GENERAL[0])
    else:
        program, space = prompt.current, prompt.space
        naive = space.start()
        words = [
            word
            for name, value in program.configuration.items()
            if value != naive[name]
            for word in (name, value)
        ]
        name = " ".join(words[:NAME_WORDS]) or "naive design"
        design = as_sentence(design_in_words(space, program.configuration))
        result = as_sentence(_result(program))
        insight = (
            "It is written as its design says"
            if program.faithful
            else "Its text differs from what its design says, so a slip is likely"
        )
    return (
        f"**Program Name: {name}**\n- **Implementation**: {design}.\n"
        f"- **Performance**: {result}.\n- **Feedback**: {insight}.\n"
    )


def _insights(text: str, prompt: ReadPrompt | None, knobs: Knobs, rng: random.Random) -> str:
    results = _SUMMARY.findall(text)
    failed = [f"{name}: {result}" for name, result in results if "failed" in result.casefold()]
    passed = [f"{name}: {result}" for name, result in results if "failed" not in result.casefold()]
    if prompt is None:
        patterns, effective = [as_sentence(_GENERAL[0])], [as_sentence(_GENERAL[1])]
    else:
        best = _best(prompt)
        if knobs.world_model == "noise":
            words = _random_phrase(prompt.space, rng)
            patterns = [f"The current best program depends on its choice to {words}"]
            effective = [as_sentence(_random_phrase(prompt.space, rng))]
        else:
            words = design_in_words(prompt.space, best.configuration)
            patterns = [f"The current best program: {words}"]
            effective = [f"The current best program: {_result(best)}"]
    return _sections(
        {
            "Successful Algorithmic Patterns": patterns,
            "Ineffective Approaches": failed or ["No summary above tells of a failure"],
            "Implementation Insights": effective,
            "Performance Analysis": passed or ["No summary above tells of a score"],
        }
    )


def _recommendations(text: str, prompt: ReadPrompt | None, knobs: Knobs, rng: random.Random) -> str:
    numbers = _WANTED_NUMBER.findall(text)
    wanted = max(1, int(numbers[-1]) if numbers else RECOMMENDATIONS)
    if prompt is None:
        lines = [f"{as_sentence(general)}." for general in _GENERAL]
    elif knobs.world_model == "noise":
        lines = [f"{as_sentence(_random_phrase(prompt.space, rng))}." for _ in range(wanted)]
    else:
        lines = _informed(prompt, knobs, rng)
    return "".join(f"{n}. {line}\n" for n, line in enumerate(lines[:wanted], start=1))


def _informed(prompt: ReadPrompt, knobs: Knobs, rng: random.Random) -> list[str]:
    space, base = prompt.space, _best(prompt).configuration
    observations = observations_in(prompt.programs) if knobs.insight_from_feedback else []
    gain = blurred_gain(Estimate(space, observations), base, knobs, rng)
    known = {key(p.configuration) for p in prompt.programs}
    ranked = families(ideas(space, base, known, gain))
    # A list has no priorities, and its reader takes any line: only what should gain is in it.
    chosen = [idea for idea in ranked if idea.gain > 0] or ranked[:1]
    return [
        f"{as_sentence(in_words(space, idea.configuration, idea.changed))}. "
        f"I expect {2 ** min(7.0, max(-7.0, idea.gain)):.2f} times the speed of the best program."
        for idea in chosen
    ]


@dataclass(frozen=True)
class _Form:
    """asked_by: finds the demand in the prompt. must_be_parsed: somebody reads it by a rule."""

    asked_by: re.Pattern[str]
    write: Callable[[str, ReadPrompt | None, Knobs, random.Random], str]
    must_be_parsed: bool


_FORMS = (
    _Form(re.compile(r"^\*\*Program Name: \[", re.MULTILINE), _summary, False),
    _Form(re.compile(r"^## Successful Algorithmic Patterns$", re.MULTILINE), _insights, False),
    _Form(re.compile(r"^Format as a numbered list", re.MULTILINE), _recommendations, True),
)


def _best(prompt: ReadPrompt) -> ShownProgram:
    """The program with the highest score, else the one that the prompt is about."""
    scored = [p for p in prompt.programs if p.score is not None]
    return max(scored, key=lambda p: p.score or 0.0, default=prompt.current)


def _result(program: ShownProgram) -> str:
    if program.score is not None:
        return f"score {program.score:.4g}, higher is better"
    if program.failed:
        return f"failed with {program.status}" if program.status else "failed"
    return "no score is known"


def _random_phrase(space: DesignSpace, rng: random.Random) -> str:
    return rng.choice(rng.choice(space.parameters).choices).phrase


def _sections(sections: Mapping[str, list[str]]) -> str:
    return "\n".join(
        f"## {title}\n" + "".join(f"- {line.rstrip('.')}.\n" for line in lines[:BULLETS])
        for title, lines in sections.items()
    )

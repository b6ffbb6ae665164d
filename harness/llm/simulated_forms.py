"""The forms in which a program can be asked for, and how each is written.

    complete program    one fenced block; inside <CODE> tags if the prompt asks for them
    blocks              SEARCH/REPLACE blocks against the shown program; inside <DIFF> tags likewise

The last form that a prompt asks for is used, wherever it says so. A prompt that wants the tags
<NAME> and <DESCRIPTION> gets them in both forms. The form is chosen after the design and never
changes it; each form is unusable at the same rate.

Covered: the prompts of our own methods and of the two foreign packages. A complete program keeps
the EVOLVE-BLOCK lines of the shown program; blocks never touch them. Not covered: several files;
unified diffs; what a method makes of an answer.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from harness.design_space import Configuration, DesignSpace
from harness.llm.simulated_diff import blocks_between
from harness.llm.simulated_programs import ShownProgram
from harness.llm.simulated_prompt import ReadPrompt
from harness.llm.simulated_unusable import Answer, without_blocks, without_program
from harness.prompt import FENCES

NAME_CHARACTERS = 60  # of the short name, which ends up in names of folders

_FENCE_ASKED_FOR = re.compile(r"fenced with\s+```([A-Za-z+]+)")
_TAGS_ASKED_FOR = re.compile(r"^<NAME>[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class Draft:
    """What an answer says, before its form. program: the new one. shown: the one that it changes.
    explanation: in a sentence. name: the same as an identifier."""

    program: str
    shown: ShownProgram
    fence: str
    explanation: str
    name: str


@dataclass(frozen=True)
class Form:
    """One form of an answer that a prompt can ask for.

    asked_by: finds the instruction in the prompt. write: the draft as text. spoil: an answer of
    this form that cannot be used. tag: what the text stands in, if the prompt wants tags.
    """

    name: str
    asked_by: re.Pattern[str]
    write: Callable[[Draft], str]
    spoil: Callable[[Draft, random.Random], Answer]
    tag: str


def make_draft(prompt: ReadPrompt, design: Configuration, program: str) -> Draft:
    """The draft of an answer with this program, which was written for this design."""
    space, current = prompt.space, prompt.current
    asked = _FENCE_ASKED_FOR.findall(prompt.text)
    # A prompt may show an unfilled place for the tag; then the shown program has the right one.
    fence = asked[-1] if asked else current.fence or FENCES[space.language]
    return Draft(
        program,
        current,
        fence,
        _explain(space, current.configuration, design),
        _name(space, current.configuration, design),
    )


def form_asked_for(text: str) -> Form:
    """The form that the prompt asks for last."""
    asked = [(m.start(), form) for form in FORMS for m in form.asked_by.finditer(text)]
    return max(asked, key=lambda a: a[0])[1] if asked else FORMS[0]


def written(text: str, draft: Draft) -> Answer:
    """The draft in the form that the prompt asks for. text: the prompt."""
    form = form_asked_for(text)
    if not _TAGS_ASKED_FOR.search(text):
        return Answer(f"{draft.explanation}\n\n{form.write(draft)}")
    return Answer(_tagged(draft, form.tag, form.write(draft), closed=True))


def spoilt(text: str, draft: Draft, rng: random.Random) -> Answer:
    """An answer in the form that the prompt asks for, but unusable."""
    form = form_asked_for(text)
    answer = form.spoil(draft, rng)
    if not _TAGS_ASKED_FOR.search(text):
        return answer
    closed = answer.finish_reason != "length"
    return Answer(_tagged(draft, form.tag, answer.text, closed=closed), answer.finish_reason)


def _complete_program(draft: Draft) -> str:
    return f"```{draft.fence}\n{_with_evolve_lines(draft).rstrip()}\n```\n"


def _no_program(draft: Draft, rng: random.Random) -> Answer:
    return without_program(_with_evolve_lines(draft), draft.fence, rng)


def _with_evolve_lines(draft: Draft) -> str:
    before, after = draft.shown.evolve_lines
    return f"{before}\n{draft.program.rstrip()}\n{after}" if before else draft.program


def _blocks(draft: Draft) -> str:
    blocks = blocks_between(draft.shown.text, draft.program)
    return "".join(f"{block}\n\n" for block in blocks)


def _no_blocks(draft: Draft, rng: random.Random) -> Answer:
    blocks = blocks_between(draft.shown.text, draft.program)
    program = draft.program.rstrip()
    return without_blocks(blocks, draft.shown.text, program, draft.fence, rng)


# The last form that a prompt asks for is used, the first row if it asks for none.
FORMS: tuple[Form, ...] = (
    Form(
        "complete program",
        re.compile(r"complete (?:new )?program|<CODE>", re.IGNORECASE),
        _complete_program,
        _no_program,
        "CODE",
    ),
    Form(
        "blocks",
        re.compile(r"SEARCH/REPLACE|<DIFF>|^<{7} SEARCH", re.MULTILINE),
        _blocks,
        _no_blocks,
        "DIFF",
    ),
)


def _tagged(draft: Draft, tag: str, body: str, *, closed: bool) -> str:
    text = (
        f"<NAME>\n{draft.name}\n</NAME>\n\n"
        f"<DESCRIPTION>\n{draft.explanation}\n</DESCRIPTION>\n\n<{tag}>\n{body}"
    )
    return f"{text.rstrip()}\n</{tag}>\n" if closed else text


def _explain(space: DesignSpace, before: Configuration, after: Configuration) -> str:
    changed = [p for p in space.parameters if before[p.name] != after[p.name]]
    if not changed:
        return "I wrote the same design again, with care for the details."
    return "What I changed: " + "; ".join(p.choice(after[p.name]).phrase for p in changed) + "."


def _name(space: DesignSpace, before: Configuration, after: Configuration) -> str:
    changed = [p.name for p in space.parameters if before[p.name] != after[p.name]]
    words = "_".join(f"{name}_{after[name]}" for name in changed) or "same_design"
    return re.sub(r"[^a-z0-9]+", "_", words.casefold())[:NAME_CHARACTERS].strip("_")

"""The one reply parser: from a model's text to a program, the same for every method.

The program is the content of the last complete fenced block whose tag names the language; if no
block is tagged so, of the last complete block without a tag. It is taken as it stands: the fence
lines go, and the fence's own indentation where every line of the block has it (that is Markdown's
notation, not the program's). Nothing else is edited.

Covered: ``` and ~~~ fences of any length, any indentation, CRLF, info strings after the tag, a
fence inside a longer one, tagged fences inside a block, bare fences inside a block comment or a
triple-quoted string, blocks that are not closed, empty and oversized programs, NUL bytes and text
that is not valid Unicode. Time is linear in the length of the reply.

Not covered: whether the program compiles; fences inside C++ raw strings; patches (a method that
asks for one applies it itself and makes the candidate).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.types import Candidate, Language, NoCode, Proposal

MAX_SOURCE_BYTES = 256 * 1024  # far above any real kernel; bounds what reaches a compiler

_C_TAGS = frozenset({"cpp", "c++", "cxx", "cc", "c", "h", "hpp", "c++17", "c++20", "c++23"})
_PYTHON_TAGS = frozenset({"python", "py", "python3"})
_TAGS: dict[Language, frozenset[str]] = {
    "cpp": _C_TAGS,
    "cuda": _C_TAGS | {"cuda", "cu", "cuda-cpp"},
    "python": _PYTHON_TAGS,
    "triton": _PYTHON_TAGS | {"triton"},
}
_NEUTRAL_TAGS = frozenset({"", "code"})

_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})([^\r]*)\r?\Z")

# Tokens that decide whether a line lies inside a block comment or a triple-quoted string. Every
# quoted alternative also ends at the end of the line, so that no input makes the scan quadratic.
_C_TOKEN = re.compile(r"""//.*|"(?:\\.|[^"\\])*(?:"|\\?\Z)|'(?:\\.|[^'\\])'|/\*""", re.DOTALL)
_PYTHON_TOKEN = re.compile(
    r"""\"{3}|'{3}|\#.*|"(?:\\.|[^"\\])*(?:"|\\?\Z)|'(?:\\.|[^'\\])*(?:'|\\?\Z)""", re.DOTALL
)
_SPAN_ENDS = {"/*": "*/", '"""': '"""', "'''": "'''"}


@dataclass(frozen=True)
class _Fence:
    """A line that can open or close a block. tag: None where it cannot be an opening line."""

    mark: str
    length: int
    tag: str | None
    bare: bool
    indentation: str


@dataclass
class _Open:
    fence: _Fence
    first_line: int
    span_end: str | None = None  # what ends the comment or string that the current line lies in


@dataclass(frozen=True)
class _Block:
    tag: str
    first_line: int
    after_last_line: int
    indentation: str


def candidate_from(
    text: str, language: Language, parent: str | None = None, note: str = ""
) -> Proposal:
    """The program in a reply, or NoCode with the reason. Raises nothing.

    parent: the id of the program that it was derived from. note: see `Candidate`.
    """
    lines = text.split("\n")
    blocks, unclosed = _blocks(lines, language, guard_spans=True)
    if unclosed:
        # A comment or string that never ends would hide the closing fence: read without the guard.
        blocks, unclosed = _blocks(lines, language, guard_spans=False)
    chosen = _choose(blocks, language)
    if chosen is None:
        return NoCode(_why_nothing(text, blocks, unclosed, language))
    source = _content(lines, chosen)
    reason = unusable_source(source)
    return NoCode(reason) if reason else Candidate(language, source, parent, note)


def submitted(text: str, language: Language, parent: str | None = None, note: str = "") -> Proposal:
    """What a foreign program hands in. Raises nothing.

    It has read its model's reply with a parser of its own. A text that still holds an opening fence
    of the language is a whole reply: then the one parser reads it. A first line that is nothing but
    a fence's tag is what such parsers leave behind: it goes. Anything else is taken as it stands.
    """
    lines = text.split("\n")
    fences = (fence for line in lines if (fence := _fence(line)) is not None)
    if any(fence.tag in _TAGS[language] and not fence.indentation for fence in fences):
        return candidate_from(text, language, parent, note)
    if len(lines) > 1 and lines[0].strip().lower() in _TAGS[language]:
        text = "\n".join(lines[1:])
    reason = unusable_source(text)
    return NoCode(reason) if reason else Candidate(language, text, parent, note)


def unusable_source(source: str) -> str | None:
    """Why a program cannot even be handed to a compiler, or None. Applies to every candidate, also
    to one that a method made itself."""
    if not source.strip():
        return "the program is empty"
    if "\0" in source:
        return "the program holds a NUL byte"
    try:
        size_bytes = len(source.encode("utf-8"))
    except UnicodeEncodeError:
        return "the program is not valid Unicode (a lone surrogate)"
    if size_bytes > MAX_SOURCE_BYTES:
        return f"the program has {size_bytes} bytes, more than the {MAX_SOURCE_BYTES} allowed"
    return None


def _choose(blocks: list[_Block], language: Language) -> _Block | None:
    for tags in (_TAGS[language], _NEUTRAL_TAGS):
        matching = [block for block in blocks if block.tag in tags]
        if matching:
            return matching[-1]
    return None


def _why_nothing(text: str, blocks: list[_Block], unclosed: bool, language: Language) -> str:
    if not text.strip():
        return "the reply is empty"
    if unclosed:
        return "the reply's code block is not closed; the reply was probably cut off"
    if blocks:
        tags = ", ".join(sorted({block.tag[:20] for block in blocks})[:5])
        return f"the reply has no {language} code block, only: {tags}"
    return "the reply has no code block"


def _content(lines: list[str], block: _Block) -> str:
    content = lines[block.first_line : block.after_last_line]
    width = len(block.indentation)
    if width and all(line.startswith(block.indentation) for line in content if line.strip()):
        content = [line[width:] if line.strip() else line for line in content]
    return "".join(f"{line}\n" for line in content)


def _blocks(lines: list[str], language: Language, guard_spans: bool) -> tuple[list[_Block], bool]:
    """Complete blocks in the order of their closing lines, and whether one was left open.

    An open block is a stack: a tagged fence inside it opens an inner block, so that both a fence
    quoted in a program and a block that was abandoned and begun again are read as they were meant.
    """
    blocks: list[_Block] = []
    stack: list[_Open] = []
    for number, line in enumerate(lines):
        fence = _fence(line)
        top = stack[-1] if stack else None
        if top is None:
            if fence is not None and fence.tag is not None:
                stack.append(_Open(fence, number + 1))
            continue
        counts = (
            fence is not None
            and fence.mark == top.fence.mark
            and fence.length >= top.fence.length
            and not (guard_spans and top.span_end)
        )
        if counts and fence is not None and fence.bare:
            stack.pop()
            blocks.append(
                _Block(top.fence.tag or "", top.first_line, number, top.fence.indentation)
            )
        elif counts and fence is not None and fence.tag:
            stack.append(_Open(fence, number + 1))
        elif guard_spans:
            top.span_end = _span_after(line, top.span_end, language)
    return blocks, bool(stack)


def _fence(line: str) -> _Fence | None:
    match = _FENCE.match(line)
    if match is None:
        return None
    marks, info = match.group(1), match.group(2).strip()
    words = info.split(None, 1)
    tag: str | None = words[0].strip("{}.").lower() if words else ""
    if marks[0] == "`" and "`" in info:
        tag = None  # inline code, by Markdown's rule
    return _Fence(marks[0], len(marks), tag, not info, line[: match.start(1)])


def _span_after(line: str, span_end: str | None, language: Language) -> str | None:
    """What ends the comment or string that is open after this line, or None."""
    token = _C_TOKEN if language in ("cpp", "cuda") else _PYTHON_TOKEN
    position = 0
    while True:
        if span_end is not None:
            found = line.find(span_end, position)
            if found < 0:
                return span_end
            position = found + len(span_end)
        match = token.search(line, position)
        if match is None:
            return None
        span_end = _SPAN_ENDS.get(match.group())
        position = match.end()

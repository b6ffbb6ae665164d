"""Mistakes of the simulated model inside its programs: textual faults in correct ones.

Covered, for C-like programs (C++, CUDA; Python and Triton: simulated_faults_python.py):

    does not compile   undeclared identifier, undeclared function, missing semicolon, wrong type,
                       missing brace
    wrong result       a loop that skips its first or its last element, an accumulation that
                       overwrites, a last indexed store that is off by a factor

A fault is a change of the program's text only: its design marker stays, since its author believes
that it wrote that design. Sites are looked for outside comments, strings and preprocessor lines.

Not covered: answers without a program (simulated_unusable.py); other languages; that a wrong-result
fault changes an output (a loop that it shortens may be one whose last element does not matter);
faults that read or write out of bounds, race, or hang.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from harness.llm import simulated_faults_python as python
from harness.llm.simulated_edits import Fault, replaced
from harness.types import Language

C_LIKE: tuple[Language, ...] = ("cpp", "cuda")
"""Languages whose programs this module's faults are defined for."""

_SKIPPED = re.compile(
    r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])+'|^[ \t]*#(?:\\\n|[^\n])*",
    re.MULTILINE | re.DOTALL,
)
_RETURN = re.compile(r"\breturn\b[^;{}]*;")
_STATEMENT_END = re.compile(r"[\w\])];(?=[ \t]*\n\s*[A-Za-z_}])")
_BARE_KEYWORD = re.compile(r"(?:^|[\s;{}])return$")
# for (int i = 0; i < n; ++i): counts from 0 in steps of one, so that every element is visited by
# an iteration of its own.
_COUNTING_LOOP = re.compile(
    r"\bfor\s*\([^;()]*?\b(?P<name>\w+)\s*=\s*(?P<first>0);"
    r"\s*(?P=name)\s*<(?P<bound>[^=;&|?][^;&|?]*);"
    r"\s*(?:\+\+\s*(?P=name)|(?P=name)\s*\+\+|(?P=name)\s*\+=\s*1)\s*\)"
)
_THREADS = re.compile(r"thr|worker", re.IGNORECASE)  # a missing join is no wrong result
_ACCUMULATION = re.compile(r"(?:\][ \t]*(?P<a>\+=))|(?:\w[ \t]*(?P<b>\+=)[^;\n]*\w\[)")
_INDEXED_STORE = re.compile(r"\][ \t]*=(?P<value>[^=;{][^;{]*);")
_CLEARING_BODY = re.compile(r"\s*\{?[^=;]*=\s*-?[\d.]+[fFuUlL]*\s*;")  # often clears what is clear
_CONSTANT = re.compile(r"\s*-?[\d.]+(?:[eE][+-]?\d+)?[fFuUlL]*\s*")


def code_only(program: str) -> str:
    """The program with comments, strings and preprocessor lines blanked; offsets stay the same."""
    return _SKIPPED.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), program)


def with_compile_error(program: str, rng: random.Random, language: Language = "cpp") -> str:
    """The program with one fault that no compiler accepts."""
    faults = COMPILE_FAULTS if language in C_LIKE else python.COMPILE_FAULTS
    broken = _first_that_applies(list(faults.values()), program, rng)
    # A program without a return statement, a semicolon or a brace still gets one brace too many.
    return broken if broken is not None else program.rstrip() + "\n}\n"


def with_wrong_result(program: str, rng: random.Random, language: Language = "cpp") -> str | None:
    """The program with one fault that compiles and computes something else; None where the text has
    no place for any."""
    faults = WRONG_RESULT_FAULTS if language in C_LIKE else python.WRONG_RESULT_FAULTS
    return _first_that_applies(list(faults.values()), program, rng)


def _undeclared_identifier(program: str, rng: random.Random) -> str | None:
    return _before_a_return(program, "remaining_rows -= 1; ", rng)


def _undeclared_function(program: str, rng: random.Random) -> str | None:
    return _before_a_return(program, "flush_accumulators(0); ", rng)


def _wrong_type(program: str, rng: random.Random) -> str | None:
    return _before_a_return(program, "float* row_scale = 1.5f; ", rng)


def _missing_semicolon(program: str, rng: random.Random) -> str | None:
    code = code_only(program)
    sites = [
        m.end() - 1
        for m in _STATEMENT_END.finditer(code)
        # "return;" without its semicolon takes the next statement as its value and may compile.
        if not _BARE_KEYWORD.search(code[: m.end() - 1])
    ]
    return replaced(program, sites, 1, "", rng)


def _missing_brace(program: str, rng: random.Random) -> str | None:
    last = code_only(program).rfind("}")
    return None if last < 0 else program[:last] + program[last + 1 :]


def _skips_first(program: str, rng: random.Random) -> str | None:
    sites = [m.start("first") for m in _counting_loops(program)]
    return replaced(program, sites, 1, "1", rng)


def _skips_last(program: str, rng: random.Random) -> str | None:
    loops = _counting_loops(program)
    if not loops:
        return None
    loop = rng.choice(loops)
    start, end = loop.span("bound")
    return f"{program[:start]} ({program[start:end].strip()}) - 1{program[end:]}"


def _overwrites(program: str, rng: random.Random) -> str | None:
    code = code_only(program)
    sites = [max(m.start("a"), m.start("b")) for m in _ACCUMULATION.finditer(code)]
    return replaced(program, sites, 2, "=", rng)


def _scaled_store(program: str, rng: random.Random) -> str | None:
    stores = [
        m
        for m in _INDEXED_STORE.finditer(code_only(program))
        if not _CONSTANT.fullmatch(m.group("value"))
    ]
    if not stores:
        return None
    start, end = stores[-1].span("value")
    return f"{program[:start]} 1.0625f * ({program[start:end].strip()}){program[end:]}"


COMPILE_FAULTS: dict[str, Fault] = {
    "undeclared identifier": _undeclared_identifier,
    "undeclared function": _undeclared_function,
    "missing semicolon": _missing_semicolon,
    "wrong type": _wrong_type,
    "missing brace": _missing_brace,
}

WRONG_RESULT_FAULTS: dict[str, Fault] = {
    "skips the first element": _skips_first,
    "skips the last element": _skips_last,
    "overwrites an accumulation": _overwrites,
    "scales the last store": _scaled_store,
}


def _first_that_applies(faults: Sequence[Fault], program: str, rng: random.Random) -> str | None:
    for fault in rng.sample(list(faults), len(faults)):
        changed = fault(program, rng)
        if changed is not None and changed != program:
            return changed
    return None


def _counting_loops(program: str) -> list[re.Match[str]]:
    code = code_only(program)
    return [
        m
        for m in _COUNTING_LOOP.finditer(code)
        if not _THREADS.search(m.group()) and not _CLEARING_BODY.match(code, m.end())
    ]


def _before_a_return(program: str, statement: str, rng: random.Random) -> str | None:
    sites = [m.start() for m in _RETURN.finditer(code_only(program))]
    return replaced(program, sites, 0, statement, rng)

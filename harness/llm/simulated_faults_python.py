"""Mistakes of the simulated model inside Python and Triton programs (simulated_faults.py: C-like).

Covered:

    does not compile   a name that nothing defines, a misspelt function of the language, a missing
                       colon, a missing bracket
    wrong result       a loop that skips its first or its last step, an accumulation that
                       overwrites, a last store that is off by a factor

In a Triton program the names are put into its kernels, where the compiler finds them; in a plain
Python program into `run`, where the interpreter does.

Not covered: what simulated_faults.py says it does not cover.
"""

from __future__ import annotations

import random
import re

from harness.llm.simulated_edits import Fault, replaced

_SKIPPED = re.compile(r'"""(?:.|\n)*?"""|#[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'')
_STATEMENT = re.compile(r"^(?P<indent>[ ]{4,})[a-z_]\w*\s*=\s*[^=\n]+[^,(\[\n]$", re.MULTILINE)
_HEADER = re.compile(r"^\s*(?:for|if|def)\b[^\n]*(?P<colon>:)$", re.MULTILINE)
_LANGUAGE_CALL = re.compile(r"\btl\.(?P<name>load|store|dot|sum|arange)\(")
_CLOSING = re.compile(r"\)(?=\n)")
# range(0, bound) or range(0, bound, step): visits every element once.
_LOOP = re.compile(
    r"\bfor\s+\w+\s+in\s+(?:tl\.)?range\((?P<first>0),\s*(?P<bound>[^,:\n]+?)"
    r"(?:,\s*(?P<step>[^,:\n]+?))?\):$",
    re.MULTILINE,
)
_ACCUMULATION = re.compile(r"\w\s*(?P<op>\+=)\s*(?=[^\n]*(?:dot|sum|\[|@|\*))")
_DOT_ACCUMULATION = re.compile(r"\b(?P<name>\w+) = tl\.dot\([^\n]*?,\s*(?P<sum>(?P=name))[,)]")
_STORE = re.compile(r"tl\.store\(\s*(?P<where>[^\n]+?),\s*(?P<value>[\w.]+(?:\([^()]*\))?)(?=[,)])")
_RESULT = re.compile(r"\b(?:outputs\.\w+\.copy_\(|return )(?P<value>[^\n]+?)(?=\)?$)", re.MULTILINE)


def code_only(program: str) -> str:
    """The program with comments and strings blanked; offsets stay the same."""
    return _SKIPPED.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), program)


def _kernel_spans(program: str) -> list[tuple[int, int]]:
    """Where the program's kernels lie; the whole program where it has none."""
    starts = [m.start() for m in re.finditer(r"^@triton\.jit$", program, re.MULTILINE)]
    spans = []
    for start in starts:
        body = program.find("):\n", start)
        end = re.compile(r"^\S", re.MULTILINE).search(program, body + 3) if body >= 0 else None
        spans.append((start, end.start() if end else len(program)))
    return spans or [(0, len(program))]


def _inside(program: str, position: int) -> bool:
    return any(start <= position < end for start, end in _kernel_spans(program))


def _undefined_name(program: str, rng: random.Random) -> str | None:
    sites = [m for m in _STATEMENT.finditer(code_only(program)) if _inside(program, m.start())]
    if not sites:
        return None
    site = rng.choice(sites)
    line = f"{site['indent']}remaining = remaining_rows - 1\n"
    return program[: site.start()] + line + program[site.start() :]


def _misspelt_function(program: str, rng: random.Random) -> str | None:
    sites = [m.start("name") for m in _LANGUAGE_CALL.finditer(code_only(program))]
    return replaced(program, sites, 0, "fast_", rng)


def _missing_colon(program: str, rng: random.Random) -> str | None:
    sites = [m.start("colon") for m in _HEADER.finditer(code_only(program))]
    return replaced(program, sites, 1, "", rng)


def _missing_bracket(program: str, rng: random.Random) -> str | None:
    sites = [m.start() for m in _CLOSING.finditer(code_only(program))]
    return replaced(program, sites, 1, "", rng)


def _skips_first(program: str, rng: random.Random) -> str | None:
    loops = list(_LOOP.finditer(code_only(program)))
    if not loops:
        return None
    loop = rng.choice(loops)
    start, end = loop.span("first")
    return f"{program[:start]}{loop['step'] or 1}{program[end:]}"


def _skips_last(program: str, rng: random.Random) -> str | None:
    loops = list(_LOOP.finditer(code_only(program)))
    if not loops:
        return None
    loop = rng.choice(loops)
    start, end = loop.span("bound")
    return f"{program[:start]}({loop['bound']}) - {loop['step'] or 1}{program[end:]}"


def _overwrites(program: str, rng: random.Random) -> str | None:
    code = code_only(program)
    sums = [m.span("op") for m in _ACCUMULATION.finditer(code)]
    dots = [m.span("sum") for m in _DOT_ACCUMULATION.finditer(code)]
    if not sums and not dots:
        return None
    start, end = rng.choice([*sums, *dots])
    text = "=" if (start, end) in sums else f"{program[start:end]} * 0"
    return program[:start] + text + program[end:]


def _scaled_store(program: str, rng: random.Random) -> str | None:
    code = code_only(program)
    stores = list(_STORE.finditer(code)) or list(_RESULT.finditer(code))
    if not stores:
        return None
    start, end = stores[-1].span("value")
    return f"{program[:start]}1.0625 * ({program[start:end]}){program[end:]}"


COMPILE_FAULTS: dict[str, Fault] = {
    "undefined name": _undefined_name,
    "misspelt function": _misspelt_function,
    "missing colon": _missing_colon,
    "missing bracket": _missing_bracket,
}

WRONG_RESULT_FAULTS: dict[str, Fault] = {
    "skips the first step": _skips_first,
    "skips the last step": _skips_last,
    "overwrites an accumulation": _overwrites,
    "scales the last store": _scaled_store,
}

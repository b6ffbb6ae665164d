"""Changes of a program's text, which the simulated model's faults are made of, in any language.

Covered: a text put in the place of another, at a random site. Not covered: where the sites are
(simulated_faults.py, simulated_faults_python.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

Fault = Callable[[str, random.Random], str | None]
"""A fault of a program, at a random site of those that fit; None where the text has none."""


def replaced(
    program: str, sites: Sequence[int], length: int, text: str, rng: random.Random
) -> str | None:
    """The program with `length` characters at one of the sites replaced; None without a site."""
    if not sites:
        return None
    start = rng.choice(sites)
    return program[:start] + text + program[start + length :]

"""A design space: the finite, documented set of programs that the simulated model writes for a
task.

A space lists parameters with structural choices, a documented prior (a machine-independent ranking
that its author wrote down before measuring; its rank correlation with measured times is reported),
and a renderer to a real program. Every rendered program starts with the marker line

    // design: {"space": "cpu/matmul", "order": "ikj", ...}

by which the simulated model, which sees prompt text only, recognises the programs in its prompt.

Not covered: measured times. A space never holds any, and its prior never reads the evaluator or its
cache.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from harness.types import Language

Configuration = Mapping[str, str]  # parameter name -> choice value

_MARKER = re.compile(r"^(?://|#) design: (\{.*\})\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Choice:
    """One value of a parameter.

    phrase: how a person would say it in an optimisation intent, e.g. "reorder the loops to i-k-j".
    Unique within the space: the simulated model finds an intended edit in a prompt by this phrase.
    gain: the prior's guess of log2(speedup) of this choice over the parameter's first choice, other
    things equal.
    """

    value: str
    phrase: str
    gain: float


@dataclass(frozen=True)
class Parameter:
    """One structural decision. The first choice is the naive one. difficulty: 1 (trivial) to 5."""

    name: str
    title: str
    choices: tuple[Choice, ...]
    difficulty: int = 2

    def choice(self, value: str) -> Choice:
        for choice in self.choices:
            if choice.value == value:
                return choice
        raise KeyError(f"{self.name} has no choice {value!r}")


class DesignSpace(ABC):
    """What a suite ships for one task and language."""

    name: str  # "<suite>/<task>"
    language: Language
    parameters: tuple[Parameter, ...]
    prior_source: str  # one paragraph: where the gains come from

    @abstractmethod
    def render(self, configuration: Configuration) -> str:
        """The program of a configuration: marker line first, deterministic, self-contained."""

    def prior(self, configuration: Configuration) -> float:
        """Expected log2(speedup) over the start. Override to express interactions between
        parameters."""
        return sum(p.choice(configuration[p.name]).gain for p in self.parameters)

    def start(self) -> dict[str, str]:
        """The naive configuration: the first choice of every parameter."""
        return {p.name: p.choices[0].value for p in self.parameters}

    def marker(self, configuration: Configuration) -> str:
        """The first line of a rendered C++ or CUDA program ('#' instead of '//' for Python)."""
        ordered = {"space": self.name} | {p.name: configuration[p.name] for p in self.parameters}
        comment = "#" if self.language in ("python", "triton") else "//"
        return f"{comment} design: {json.dumps(ordered)}"

    def size(self) -> int:
        """Number of configurations, wrong and invalid ones included."""
        total = 1
        for parameter in self.parameters:
            total *= len(parameter.choices)
        return total


def configurations_in(text: str) -> list[tuple[int, str, dict[str, str]]]:
    """Every design marker in `text`, in order: (offset, space name, configuration). Bad ones are
    skipped."""
    found = []
    for match in _MARKER.finditer(text):
        try:
            data = json.loads(match.group(1))
        except ValueError:
            continue
        if (
            isinstance(data, dict)
            and all(isinstance(v, str) for v in data.values())
            and "space" in data
        ):
            space = data.pop("space")
            found.append((match.start(), space, data))
    return found

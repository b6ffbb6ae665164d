"""What the simulated model can read in a prompt: programs, verdicts, the intent, the world model.

Covered: the conventions of docs/architecture.md, "The prompt conventions", and nothing else. A
program is found by its design marker; its verdict is the first status line between its closing
fence and the next program; the last line that starts with "Intent:" is the intent; the world model
is the last ```json block with a "nodes" list.

Not covered: programs without a marker, or with a marker that does not fit its space (skipped);
verdicts in other words; anything that is not in the text. Who asks is not known and never matters.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.design_space import Configuration, DesignSpace, configurations_in
from harness.types import Status

_FENCE_END = re.compile(r"^[ \t]*```[ \t]*$", re.MULTILINE)
_VERDICT = re.compile(
    r"^[ \t>*-]*("
    + "|".join(s.value for s in Status if s is not Status.INFRA_ERROR)
    + r")\b(?:[*]*: score (\d+(?:\.\d+)?(?:[eE][+-]?\d+)?))?",
    re.MULTILINE,
)
_INTENT = re.compile(r"^[ \t>*-]*Intent:[*]*[ \t]*(\S.*)$", re.MULTILINE)
_JSON_BLOCK = re.compile(r"^```json[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
_LIMIT = re.compile(r"\bat most (\d{1,3}) (?:open |new )*(?:actions|insert|nodes)", re.IGNORECASE)


@dataclass(frozen=True)
class ShownProgram:
    """One program of the prompt.

    faithful: the shown text is what its design renders to; otherwise somebody changed it, a mistake
    included. status: its verdict, None where the prompt has none. score: of a passed program.
    heading: the last non-blank line before its code block.
    """

    configuration: Configuration = field(hash=False)
    faithful: bool
    status: Status | None
    score: float | None
    heading: str

    @property
    def failed(self) -> bool:
        return self.status is not None and self.status is not Status.PASSED


@dataclass(frozen=True)
class ReadPrompt:
    """A prompt about one design space. programs: at least one; the last is the one to change."""

    text: str
    space: DesignSpace
    programs: tuple[ShownProgram, ...]
    intent: str

    @property
    def current(self) -> ShownProgram:
        return self.programs[-1]


@dataclass(frozen=True)
class ShownNode:
    """One node of the world model in the prompt; fields that it lacks have neutral values."""

    id: str
    parent: str | None
    state: str  # "open" | "closed" | "pruned", or what the prompt says
    intent: str
    priority: float
    difficulty: int
    score: float | None
    attempts: int


@dataclass(frozen=True)
class ShownWorldModel:
    """The world model in the prompt. root is the id of a node in it."""

    root: str
    nodes: Mapping[str, ShownNode] = field(hash=False)

    @property
    def open(self) -> list[ShownNode]:
        return [n for n in self.nodes.values() if n.state == "open" and n.id != self.root]

    @property
    def open_leaves(self) -> list[ShownNode]:
        """Open nodes that nothing but pruned nodes hangs under."""
        parents = {n.parent for n in self.nodes.values() if n.state != "pruned"}
        return [n for n in self.open if n.id not in parents]

    @property
    def attached(self) -> list[ShownNode]:
        """Nodes that have a program: the root first, then the Closed ones."""
        closed = [n for n in self.nodes.values() if n.state == "closed" and n.id != self.root]
        return [self.nodes[self.root], *closed]


def read_prompt(text: str, spaces: Mapping[str, DesignSpace]) -> ReadPrompt | None:
    """The prompt as the simulated model sees it, or None if it shows no program of a known space.

    spaces: by their own name. If programs of several spaces are shown, those of the last program's
    space count.
    """
    marked = [
        (offset, spaces[name], {p.name: configuration[p.name] for p in spaces[name].parameters})
        for offset, name, configuration in configurations_in(text)
        if name in spaces and _fits(spaces[name], configuration)
    ]
    if not marked:
        return None
    ends = [offset for offset, _, _ in marked[1:]] + [len(text)]
    space = marked[-1][1]
    programs = tuple(
        _program(text, start, end, space, configuration)
        for (start, its_space, configuration), end in zip(marked, ends, strict=True)
        if its_space is space
    )
    intents = _INTENT.findall(text)
    return ReadPrompt(text, space, programs, intents[-1].strip() if intents else "")


def choices_in(space: DesignSpace, intent: str) -> dict[str, str]:
    """The choices (parameter -> value) whose phrases, or "title: value", an intent contains.

    Case and white space do not matter; a phrase inside a longer matching phrase does not count; of
    two choices of one parameter the last one mentioned counts.
    """
    said = _plain(intent)
    spans: list[tuple[int, int, str, str]] = []
    for parameter in space.parameters:
        for choice in parameter.choices:
            named = (choice.phrase, f"{parameter.title}: {choice.value}")
            said_so = "|".join(re.escape(_plain(n)) for n in named)
            pattern = rf"(?<!\w)(?:{said_so})(?!\w)"
            spans += [
                (m.start(), m.end(), parameter.name, choice.value)
                for m in re.finditer(pattern, said)
            ]
    # "tile by 4 in two levels" is not also "tile by 4".
    outermost = [
        s
        for s in spans
        if not any(o[0] <= s[0] and s[1] <= o[1] and o[1] - o[0] > s[1] - s[0] for o in spans)
    ]
    return {name: value for _, _, name, value in sorted(outermost)}


def most_inserts(text: str, unless_said: int) -> int:
    """The limit on insertions into the world model that the prompt states last."""
    limits = _LIMIT.findall(text)
    return int(limits[-1]) if limits else unless_said


def read_world_model(text: str) -> ShownWorldModel | None:
    """The last world model in the prompt, or None. Nodes without an id are skipped."""
    for block in reversed(_JSON_BLOCK.findall(text)):
        try:
            data = json.loads(block)
        except (ValueError, RecursionError):
            continue
        if not isinstance(data, dict) or not isinstance(data.get("nodes"), list):
            continue
        nodes = [_node(n) for n in data["nodes"] if isinstance(n, dict)]
        by_id = {n.id: n for n in nodes if n is not None}
        roots = [data.get("root"), *(n.id for n in by_id.values() if n.parent is None)]
        for root in roots:
            if isinstance(root, str) and root in by_id:
                return ShownWorldModel(root, by_id)
    return None


def _fits(space: DesignSpace, configuration: Configuration) -> bool:
    return sorted(configuration) == sorted(p.name for p in space.parameters) and all(
        any(c.value == configuration[p.name] for c in p.choices) for p in space.parameters
    )


def _program(
    text: str, start: int, end: int, space: DesignSpace, configuration: Configuration
) -> ShownProgram:
    closing = _FENCE_END.search(text, start, end)
    source = text[start : closing.start() if closing else end]
    verdict = _VERDICT.search(text, closing.end() if closing else start, end)
    before = [line for line in text[max(0, start - 2_000) : start].splitlines() if line.strip()]
    heading = next((line for line in reversed(before) if not line.startswith("```")), "")
    status = Status(verdict.group(1)) if verdict else None
    score = float(verdict.group(2)) if verdict and verdict.group(2) else None
    return ShownProgram(
        configuration,
        _same_text(source, space.render(configuration)),
        status,
        score if score is not None and math.isfinite(score) and score > 0 else None,
        heading.strip(),
    )


def _same_text(shown: str, rendered: str) -> bool:
    def lines(text: str) -> list[str]:
        return [line.rstrip() for line in text.strip().splitlines()]

    return lines(shown) == lines(rendered)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _node(data: Mapping[str, object]) -> ShownNode | None:
    identity, parent = data.get("id"), data.get("parent")
    if not isinstance(identity, str):
        return None
    score = _float(data.get("score"), None)
    return ShownNode(
        id=identity,
        parent=parent if isinstance(parent, str) else None,
        state=str(data.get("state", "")).casefold(),
        intent=str(data.get("intent") or data.get("title") or ""),
        priority=_float(data.get("priority"), 0.5) or 0.0,
        difficulty=round(_float(data.get("difficulty"), 2.0) or 2.0),
        score=score if score is not None and score > 0 else None,
        attempts=round(_float(data.get("attempts"), 0.0) or 0.0),
    )


def _float(value: object, default: float | None) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    # An integer of JSON may be too large for a float; no field of a node is.
    return float(value) if abs(value) <= 1e300 else default

"""What the simulated model can read in a prompt: programs, the intent, the world model.

Covered: the conventions of docs/architecture.md, "The prompt conventions", and nothing else.
Programs and their verdicts are read in simulated_programs.py. The last line that starts with
"Intent:" is the intent; without such a line, what stands under the heading "Potential
Recommendations". A program under a heading about crossover is to be combined with the current one.
The world model is the last ```json block with a "nodes" list.

Not covered: anything that is not in the text. Who asks is not known and never matters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.design_space import Configuration, DesignSpace
from harness.llm.simulated_programs import ShownProgram, read_programs

_INTENT = re.compile(r"^[ \t>*-]*Intent:[*]*[ \t]*(\S.*)$", re.MULTILINE)
_RECOMMENDATIONS = re.compile(
    r"^#+ Potential Recommendations[ \t]*$(.*?)(?=^#|^<NAME>|\Z)", re.MULTILINE | re.DOTALL
)
_ITEM = re.compile(r"^[ \t]*\d+[.)][ \t]+(\S.*)$", re.MULTILINE)
_CROSSOVER = re.compile(r"\bcross-?over\b", re.IGNORECASE)
_JSON_BLOCK = re.compile(r"^```json[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
_LIMIT = re.compile(r"\bat most (\d{1,3}) (?:open |new )*(?:actions|insert|nodes)", re.IGNORECASE)


@dataclass(frozen=True)
class ReadPrompt:
    """A prompt about one design space.

    programs: at least one. current: the one of them that is to be changed. partner: the one that
    it is to be combined with, if the prompt asks for that. intent: the wanted change in words.
    """

    text: str
    space: DesignSpace
    programs: tuple[ShownProgram, ...]
    current: ShownProgram
    partner: ShownProgram | None
    intent: str


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

    spaces: by their own name.
    """
    shown = read_programs(text, spaces)
    if shown is None:
        return None
    partners = [
        p for p in shown.programs if _CROSSOVER.search(p.heading) and p is not shown.current
    ]
    return ReadPrompt(
        text,
        shown.space,
        shown.programs,
        shown.current,
        partners[-1] if partners else None,
        _intent(text, shown.space, shown.current.configuration),
    )


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


def _intent(text: str, space: DesignSpace, current: Configuration) -> str:
    """Of several recommendations the first that the current design does not follow yet: following
    all of a list at once would be one large step instead of one idea."""
    intents = _INTENT.findall(text)
    if intents:
        return str(intents[-1]).strip()
    sections = _RECOMMENDATIONS.findall(text)
    if not sections:
        return ""
    items = _ITEM.findall(sections[-1]) or [sections[-1].strip()]
    for item in items:
        if any(current[name] != value for name, value in choices_in(space, item).items()):
            return str(item)
    return str(items[0])


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

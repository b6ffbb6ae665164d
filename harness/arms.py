"""Arms, seeds and budgets as they are written on the command line.

    METHOD[@VARIANT][[OPTION=VALUE,...]][+MODEL]       ksearch@uct[k=5]+simulated-noise
    3, or 0,1,2, or 7,                                 a count of seeds, a list, one seed
    20, or charges=20,llm_calls=100,dollars=5          the limits of one run

Covered: reading them, exactly, with an error that shows the form expected. Not covered: whether a
method, variant, option or model exists (`config.resolve`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from harness.budget import Budget
from harness.errors import UnknownName, UsageError

DEFAULT_METHODS = "best_of_n ksearch[k=3,cycle_limit=2] openevolve shinkaevolve"

_ARM = re.compile(
    r"^(?P<method>[A-Za-z_][^@\[\]+\s]*)(?:@(?P<variant>[A-Za-z0-9_.-]+))?"
    r"(?:\[(?P<options>[^\[\]]*)\])?(?:\+(?P<model>[^+\[\]]+))?$"
)
_FOLDER = re.compile(r"[^A-Za-z0-9._+@=,-]")


@dataclass(frozen=True)
class Arm:
    """One arm as it was written. options: texts, in the order given. model: a name or schedule."""

    text: str
    method: str
    variant: str | None
    options: Mapping[str, str] = field(hash=False)
    model: str | None = None

    @property
    def folder(self) -> str:
        """The arm's folder name (docs/architecture.md)."""
        return _FOLDER.sub("_", self.text)


def parse_arm(text: str) -> Arm:
    """One arm: METHOD[@VARIANT][[OPTION=VALUE,...]][+MODEL]. Raises UsageError."""
    match = _ARM.match(text)
    if match is None:
        raise UsageError(
            f"Cannot read the arm {text!r}. Expected METHOD[@VARIANT][[OPTION=VALUE,...]][+MODEL], "
            "for example ksearch@uct[k=5]+simulated-noise."
        )
    options: dict[str, str] = {}
    for part in filter(None, (match["options"] or "").split(",")):
        name, equals, value = part.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise UsageError(
                f"Cannot read the option {part!r} of the arm {text!r}. Expected OPTION=VALUE, "
                "for example k=5."
            )
        if name.strip() in options:
            raise UsageError(f"The arm {text!r} sets {name.strip()!r} twice. Give it once.")
        options[name.strip()] = value.strip()
    return Arm(text, match["method"], match["variant"], options, match["model"])


def parse_arms(text: str) -> tuple[Arm, ...]:
    """Arms separated by spaces. Raises UsageError for none, or for the same arm twice."""
    arms = tuple(parse_arm(word) for word in text.split())
    if not arms:
        raise UsageError(
            f"No methods given. Expected at least one, for example {DEFAULT_METHODS!r}."
        )
    refuse_twice("arm", [arm.text for arm in arms])
    return arms


def parse_seeds(text: str) -> tuple[int, ...]:
    """A count ("3": seeds 0, 1, 2) or a list ("0,1,2"; one seed: "7,"). Raises UsageError."""
    words = [word.strip() for word in text.strip().split(",")]
    is_list = len(words) > 1
    numbers = [word for word in words if word] if is_list else words
    if not numbers or not all(re.fullmatch(r"[0-9]{1,9}", word) for word in numbers):
        raise UsageError(
            f"Cannot read the seeds {text!r}. Expected a count (3) or a list (0,1,2; one seed: 7,)."
        )
    if is_list:
        refuse_twice("seed", numbers := [str(int(word)) for word in numbers])
        return tuple(int(word) for word in numbers)
    if not 1 <= int(numbers[0]) <= 1000:
        raise UsageError(
            f"Expected 1 to 1000 seeds, got {numbers[0]}. One seed by number: {numbers[0]},"
        )
    return tuple(range(int(numbers[0])))


def parse_budget(text: str) -> Budget:
    """Charges ("20"), or limits by name ("charges=20,dollars=5"); charges must be among them.

    Raises UsageError, UnknownName for a limit that there is not.
    """
    if "=" not in text:
        text = f"charges={text}"
    names = [field.name for field in fields(Budget)]
    limits: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in names:
            raise UnknownName("limit of a budget", name, names)
        if name in limits:
            raise UsageError(f"The budget {text!r} gives {name} twice. Give it once.")
        whole = name not in ("dollars", "seconds")
        try:
            limits[name] = int(value) if whole else float(value)
        except ValueError:
            kind = "a whole number" if whole else "a number"
            raise UsageError(
                f"Cannot read the budget {text!r}: {name} takes {kind}, got {value!r}. Expected "
                "charges (20) or limits by name (charges=20,llm_calls=100,dollars=5)."
            ) from None
    if "charges" not in limits:
        raise UsageError(
            f"The budget {text!r} lacks charges, which every run needs. For example: "
            f"charges=20,{text}"
        )
    return Budget(**limits)  # type: ignore[arg-type]  # whole numbers are int, by the line above


def refuse_twice(kind: str, names: Sequence[str]) -> None:
    """Raises UsageError if a name is there twice: it would be run twice and counted once."""
    for name in names:
        if list(names).count(name) > 1:
            raise UsageError(f"The {kind} {name!r} is given twice. Give each {kind} once.")

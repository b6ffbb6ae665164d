"""The task as a method sees it: one text for every method, kept in the manifest.

The prose of a card is the task's own prose, the interface that candidates are written against, the
rule on libraries, and the device. It is written once, when a comparison begins, and read back from
comparison.json by resume and replay, so that prompts stay what they were.

Not covered: held-out and final workloads, references, tolerances: a method never sees them.
"""

from __future__ import annotations

import dataclasses

from harness.errors import LogError
from harness.method import TaskCard
from harness.suite import Task
from harness.types import JsonObject, Language


def make_card(
    suite: str, task: Task, language: Language, interface: str, evaluator: JsonObject
) -> TaskCard:
    """The card of a task. interface: Evaluator.header; evaluator: Evaluator.describe, whose
    baseline it names: which one a task has may depend on the machine that judges."""
    return TaskCard(
        name=task.name,
        suite=suite,
        language=language,
        prose="\n\n".join(
            (
                task.prose.strip(),
                _interface(language, interface),
                _rules(task, evaluator),
            )
        ),
        start_source=task.start(language),
        baseline=evaluator["baselines"][task.name][0],
        workloads=tuple(workload.name for workload in task.search),
    )


def card_to_json(card: TaskCard) -> JsonObject:
    """Raw JSON of a card."""
    return dataclasses.asdict(card)


def card_from_json(data: JsonObject) -> TaskCard:
    """The inverse of `card_to_json`. Raises LogError."""
    try:
        return TaskCard(**{**data, "workloads": tuple(data["workloads"])})
    except (KeyError, TypeError) as error:
        raise LogError(
            f"A manifest holds no task card of this version ({error!r}). Use the version of the "
            "harness that wrote it (its commit is in the manifest)."
        ) from error


def _interface(language: Language, interface: str) -> str:
    if language == "cpp":
        return (
            "## Interface\n\nThe program is one C++17 file that includes this header, task.h:\n\n"
            f"```cpp\n{interface.rstrip()}\n```"
        )
    return f"## Interface\n\n{interface.rstrip()}"


def _rules(task: Task, evaluator: JsonObject) -> str:
    libraries = (
        "Library calls are allowed."
        if task.libraries == "allowed"
        else "Numerical libraries are forbidden: the program's own code does the work."
    )
    device = f"Device: {evaluator.get('device', 'unknown')}"
    if evaluator.get("cores"):
        device += f", {evaluator['cores']} cores"
    flags = " ".join(str(flag) for flag in evaluator.get("flags") or ())
    built = f"\nBuilt with: {flags}" if flags else ""
    return f"## Rules and device\n\n{libraries}\n{device}{built}"

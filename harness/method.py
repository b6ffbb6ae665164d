"""The method protocol: a search method is a generator that yields proposals and is sent
evaluations.

    def search(problem: Problem) -> Search:
        while True:
            reply = problem.llm.complete(prompt, purpose="propose")
            evaluation = yield problem.candidate_from(reply)

The harness owns the loop, the budget, the clock, the randomness, the model and the verdict; a
method only decides what to try next. A list is evaluated concurrently and answered in order by a
list. Yielding `NoCode` costs a charge, as any proposal does. A method may return early ("method
finished").

Resume re-executes the generator and serves it the logged completions and evaluations, so a method
must be deterministic: randomness only from `problem.random(...)`, no wall time, no temporary path,
no global state, ordered containers.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from harness.errors import UnknownName, UsageError
from harness.llm.client import Message, Reply
from harness.loading import load
from harness.types import Candidate, Evaluation, JsonObject, Language, NoCode, Proposal

METHODS: dict[str, str] = {
    "best_of_n": "methods.best_of_n:method",
    "ksearch": "methods.ksearch:method",
    "openevolve": "methods.openevolve:method",
    "shinkaevolve": "methods.shinkaevolve:method",
}

Search = Generator[Proposal | list[Proposal], Any, None]
"""Yields one proposal or a list; is sent one Evaluation or a list of them in the same order."""


@dataclass(frozen=True)
class TaskCard:
    """What a method may know of a task: the same text for every method.

    prose: the whole task description for prompts: semantics, the interface header, rules on
    libraries, the device. start_source: the naive starting program.
    """

    name: str
    suite: str
    language: Language
    prose: str
    start_source: str
    baseline: str
    workloads: tuple[str, ...]


class MeteredLLM(Protocol):
    """The run's model, as a method sees it: metered, logged, replayed."""

    def complete(self, prompt: str | list[Message], *, purpose: str) -> Reply:
        """One completion. Raises BudgetExhausted before the first call that would exceed the
        budget.

        purpose: "propose" (write or change a program), "world-model" (JSON of a world model or its
        edits), or another word of the purpose table in docs/methods.md.
        """
        ...

    def embed(self, texts: Sequence[str], *, dimensions: int) -> list[list[float]]:
        """A vector of length 1 for each text, by feature hashing; one LLM call. Raises
        BudgetExhausted as `complete` does."""
        ...


class Problem(Protocol):
    """What a method is given. One per run."""

    task: TaskCard
    start: Candidate
    start_evaluation: Evaluation  # iteration 0: evaluated once per task, never charged
    llm: MeteredLLM
    options: Any  # an instance of the method's own Options dataclass
    budget: int  # charges in all
    seed: int

    @property
    def charges_left(self) -> int:
        """How many proposals may still be made."""
        ...

    def random(self, name: str) -> random.Random:
        """A random stream of this run, fixed by (seed, method, task, name); the same object each
        time."""
        ...

    def candidate_from(
        self, reply: Reply, *, parent: Candidate | None = None, note: str = ""
    ) -> Proposal:
        """The one reply parser of all methods: the program in the reply's last complete code block,
        or NoCode with the reason."""
        ...

    def record(self, kind: str, data: JsonObject) -> None:
        """Put something of the method's own into the run log (a world model, a selection)."""
        ...

    def check_stop(self) -> None:
        """Ends this step if the user asked the run to stop: for methods that wait for anything but
        the model, which asks by itself."""
        ...

    def workspace(self) -> Path:
        """A folder for this attempt at the run, as an absolute path, empty when it is first asked
        for. Nothing in it is read again: what a resumed run needs is in the log."""
        ...


class SearchFunction(Protocol):
    def __call__(self, problem: Problem, /) -> Search: ...


class Needed(Protocol):
    """Something that is made once on a machine, such as an environment of its own."""

    @property
    def name(self) -> str: ...

    @property
    def ready(self) -> bool:
        """Whether it was made."""
        ...

    @property
    def deviations(self) -> list[JsonObject]:
        """What was made otherwise than the method's lock says, for the manifest."""
        ...

    def make(self, say: Callable[[str], None], stop: threading.Event) -> None:
        """Make it, if it was not. say: shows a line of progress. stop: gives up. Raises
        EnvironmentMissing."""
        ...


@dataclass(frozen=True)
class Method:
    """A registered method.

    options: a frozen dataclass whose fields are the method's settings, all with defaults.
    variants: named overrides of options, written METHOD@VARIANT. package: files that count for the
    code hash in the manifest (the method's own package, by module name).

    needs: what the method needs on this machine besides the harness; made before the first run.
    replicates: for these options, why a seed labels a replicate and does not reproduce it; None
    where it does. Such a run is started over instead of resumed, and the attempt is kept.
    """

    name: str
    title: str
    search: SearchFunction
    options: type
    package: str
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    needs: Needed | None = None
    replicates: Callable[[Any], str | None] = lambda options: None

    def make_options(self, variant: str | None, overrides: Mapping[str, str]) -> Any:
        """Options of a variant with text overrides ("k=3") applied and converted to the field's
        type.

        Raises UnknownName for a variant or an option, UsageError for a value of the wrong type.
        """
        values: dict[str, Any] = {}
        if variant is not None:
            if variant not in self.variants:
                raise UnknownName(f"variant of {self.name}", variant, self.variants)
            values.update(self.variants[variant])
        defaults = self.options()
        for key, text in overrides.items():
            if not hasattr(defaults, key):
                names = list(getattr(self.options, "__dataclass_fields__", {}))
                raise UnknownName(f"option of {self.name}", key, names)
            values[key] = _convert(self.name, key, text, type(getattr(defaults, key)))
        try:
            return self.options(**values)
        except ValueError as error:
            raise UsageError(f"Options of {self.name}: {error}") from error


def _convert(method: str, key: str, text: str, kind: type) -> object:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if kind is bool:
        if text.lower() in words:
            return words[text.lower()]
    else:
        try:
            return kind(text)
        except ValueError:
            pass
    wanted = {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "a text")
    raise UsageError(f"Option {key} of {method} takes {wanted}, got {text!r}.")


def load_method(name: str) -> Method:
    """A method by name or "module:attribute". Raises UnknownName or UsageError."""
    method = load("method", name, METHODS)
    if not isinstance(method, Method):
        raise UsageError(
            f"{name!r} is a {type(method).__name__}, expected a harness.method.Method."
        )
    return method


__all__ = [
    "METHODS", "Candidate", "Evaluation", "MeteredLLM", "Method", "Needed", "NoCode", "Problem",
    "Search", "TaskCard", "load_method",
]  # fmt: skip

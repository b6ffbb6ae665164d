"""EVALUATOR=modal and its settings, and the functions of the deployed app.

    modal[:KEY=VALUE,...]      e.g.  modal:containers=32,dollars=20

Covered: reading them; what each deployed function is given. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.errors import UsageError
from harness.evaluate.modal.prices import Shape
from harness.types import JsonObject

APP = "kernel-search-harness"
GPU = "H100!"  # the mark keeps Modal from giving an H200 instead, which is another device
CONTAINERS = 16
DOLLARS = 50.0

FunctionName = Literal[
    "evaluate_gpu", "confirm_gpu", "evaluate_cpu", "confirm_cpu", "build", "version"
]


@dataclass(frozen=True)
class FunctionShape:
    """One deployed function. timeout_seconds: of one request, above every limit of the judge's own
    (a call, a load, a build); what runs into it is our fault, not the candidate's. single_use: one
    request for each container, so that nothing of a candidate outlives it."""

    name: FunctionName
    on_gpu: bool
    cores: float
    memory_gib: float
    timeout_seconds: int
    single_use: bool = True

    def shape(self, gpu: str) -> Shape:
        return Shape(gpu if self.on_gpu else None, self.cores, self.memory_gib)


FUNCTIONS = (
    FunctionShape("evaluate_gpu", True, 8.0, 48.0, 900),
    FunctionShape("confirm_gpu", True, 8.0, 48.0, 3600),
    FunctionShape("evaluate_cpu", False, 4.0, 8.0, 900),
    FunctionShape("confirm_cpu", False, 4.0, 8.0, 3600),
    FunctionShape("build", False, 4.0, 8.0, 600),
    FunctionShape("version", False, 0.125, 1.0, 60, single_use=False),
)
STARTUP_SECONDS = 900  # a container pulls its image before it answers


def function(name: FunctionName) -> FunctionShape:
    return next(shape for shape in FUNCTIONS if shape.name == name)


@dataclass(frozen=True)
class ModalOptions:
    """containers: at most so many at once. dollars: no call is begun that could take the
    comparison beyond this (None: no limit). gpu: what the app was deployed with. price: dollars per
    second of one GPU container, instead of the table's."""

    containers: int = CONTAINERS
    dollars: float | None = DOLLARS
    app: str = APP
    gpu: str = GPU
    price: float | None = None

    def identity(self) -> JsonObject:
        """What makes two requests different comparisons; caps may be changed on resuming."""
        return {"app": self.app, "gpu": self.gpu}

    @property
    def device(self) -> str:
        """What the device's name must contain: "H100" for "H100!"."""
        return self.gpu.rstrip("!").partition("-")[0].upper()

    def price_of(self, name: FunctionName) -> float | None:
        """Dollars per second of one container, or None where it is unknown."""
        shape = function(name)
        if shape.on_gpu and self.price is not None:
            return self.price
        return shape.shape(self.gpu).price()


def is_modal(text: str) -> bool:
    """Whether an evaluator's text names this one."""
    return text.partition(":")[0] == "modal"


def parse_options(text: str) -> ModalOptions:
    """The options of "modal[:KEY=VALUE,...]". Raises UsageError."""
    found: JsonObject = {}
    rest = text.partition(":")[2]
    for part in rest.split(",") if rest else ():
        key, _, value = part.partition("=")
        try:
            found[key] = _READERS[key](value)
        except (KeyError, ValueError) as error:
            raise UsageError(
                f"Cannot read {part!r} of the evaluator {text!r}. Expected modal, or "
                "modal:KEY=VALUE,... with containers=N, dollars=N (or dollars=none), gpu=NAME, "
                "app=NAME, price=DOLLARS (a second of one GPU container)."
            ) from error
    options = ModalOptions(**found)
    gpu_price = options.price_of("evaluate_gpu")
    if options.dollars is not None and gpu_price is None:
        raise UsageError(
            f"The price of a {options.gpu} on Modal is unknown here, so a limit in dollars cannot "
            "be held. Say price=DOLLARS (a second of one container, from modal.com/pricing), or "
            "dollars=none to go without a limit."
        )
    return options


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise ValueError(text)
    return value


def _name(text: str) -> str:
    if not text:
        raise ValueError(text)
    return text


_READERS = {
    "containers": _count,
    "dollars": lambda text: None if text == "none" else _positive(text),
    "gpu": _name,
    "app": _name,
    "price": _positive,
}

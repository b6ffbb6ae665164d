"""What a second in a container costs: list prices, each with its source and the day it was read.

Second-hand: modal.com/pricing is a page of scripts, so the figures come from pages that quote it.
Check them there before a large comparison; EVALUATOR=modal:price=DOLLARS replaces their sum.

Covered: GPU, CPU cores and memory of functions, per second, in US dollars.
Not covered: the factors that Modal adds for a chosen region (none is chosen here) and the credits
of a plan. A GPU that is not in the table has the price None: unknown, never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Price:
    """Dollars per second of one unit (a GPU, a physical core, a GiB)."""

    dollars: float
    read_on: str
    source: str


_H100_PAGE = (
    "https://techbytes.app/posts/serverless-gpu-pricing-matrix-modal-replicate-lambda-2026/"
)
_METERS_PAGE = "https://github.com/api-evangelist/modal-labs/blob/main/finops/modal-labs-finops.yml"

GPUS: dict[str, Price | None] = {
    "H100": Price(0.001097, "2026-05-07", _H100_PAGE),
    "H200": None,
    "B200": None,
}
CORE = Price(0.0000131, "2026-07-01", _METERS_PAGE)
MEMORY_GIB = Price(0.00000222, "2026-07-01", _METERS_PAGE)


@dataclass(frozen=True)
class Shape:
    """What one container is given. gpu: as it is asked for ("H100!"), or None."""

    gpu: str | None
    cores: float
    memory_gib: float

    def price(self) -> float | None:
        """Dollars per second of one container, or None where a price is unknown."""
        gpu = 0.0
        if self.gpu is not None:
            listed = GPUS.get(self.gpu.rstrip("!").upper())
            if listed is None:
                return None
            gpu = listed.dollars
        return gpu + self.cores * CORE.dollars + self.memory_gib * MEMORY_GIB.dollars


def sources(shape: Shape) -> list[str]:
    """One line per price that a container of this shape depends on."""
    lines = []
    if shape.gpu is not None:
        lines.append(_line(f"GPU {shape.gpu}", GPUS.get(shape.gpu.rstrip("!").upper())))
    lines.append(_line(f"{shape.cores:g} cores, each", CORE))
    lines.append(_line(f"{shape.memory_gib:g} GiB, each", MEMORY_GIB))
    return lines


def _line(what: str, price: Price | None) -> str:
    if price is None:
        return f"{what}: price unknown"
    return f"{what}: ${price.dollars:.8f} a second (read {price.read_on} at {price.source})"

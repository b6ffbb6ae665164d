"""What a comparison's containers will cost, before the first of them: a product of assumptions.

Covered: evaluations, kernels built ahead, confirmations, the first examination, at the prices of
prices.py. Not covered: what Modal bills for containers that start (assumed below), and the credits
of a plan. The limit that is held during the comparison is another thing: `dollars=` (options.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.evaluate.modal.options import FunctionName, ModalOptions, function
from harness.evaluate.modal.prices import sources
from harness.types import Language

ASSUMED_SECONDS: dict[FunctionName, float] = {
    "evaluate_gpu": 45.0,
    "confirm_gpu": 180.0,
    "evaluate_cpu": 30.0,
    "confirm_cpu": 120.0,
    "build": 20.0,
}
"""Of a container and request. Assumed, not measured: this project has not been run on Modal yet. On
an H100 elsewhere building and judging a TriMul program took 6 s (docs/measurements); the rest is
for importing torch, the canary and starting the container."""


@dataclass(frozen=True)
class ContainerCost:
    """dollars: None where a price is unknown."""

    dollars: float | None
    text: str


def estimate_containers(
    options: ModalOptions,
    *,
    on_gpu: bool,
    language: Language,
    tasks: int,
    evaluations: int,
) -> ContainerCost:
    """evaluations: at most so many, the starting programs included."""
    evaluate: FunctionName = "evaluate_gpu" if on_gpu else "evaluate_cpu"
    confirm: FunctionName = "confirm_gpu" if on_gpu else "confirm_cpu"
    calls: dict[FunctionName, int] = {evaluate: 1 + evaluations, confirm: tasks}
    if on_gpu and language in ("triton", "cuda"):
        calls["build"] = evaluations
    lines, total = [], 0.0
    unknown = False
    for name, count in calls.items():
        price, seconds = options.price_of(name), ASSUMED_SECONDS[name]
        if price is None:
            unknown = True
            lines.append(f"  {count} x {name}, {seconds:.0f} s assumed each: price unknown")
            continue
        total += count * seconds * price
        lines.append(
            f"  {count} x {name}, {seconds:.0f} s assumed each, ${price:.6f} a second: "
            f"${count * seconds * price:.2f}"
        )
    limit = "no limit" if options.dollars is None else f"${options.dollars:g}"
    head = "unknown" if unknown else f"at most about ${total:.2f}"
    text = "\n".join(
        [
            f"Containers on Modal: {head} (equal programs are paid once; limit held during the "
            f"comparison: {limit}, at most {options.containers} at once)",
            *lines,
            *(f"  {line}" for line in sources(function(evaluate).shape(options.gpu))),
        ]
    )
    return ContainerCost(None if unknown else total, text)

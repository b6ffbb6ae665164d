"""How fast the containers of a comparison on Modal ran, by their canary, for a second latency.

Covered: one factor for each task, from the container that held its confirmation. Not covered:
comparisons elsewhere, which have none; what a canary is (`harness/evaluate/modal/remote.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.evaluate.modal.ledger import read_ledger
from harness.evaluate.modal.requests import normalised
from harness.types import JsonObject


def canary_factors(folder: Path, evaluator: JsonObject) -> Mapping[str, float]:
    """{task: what its confirmed latencies are multiplied by, to be those of a device on which the
    canary takes as long as it did when the comparison began}. Raises LogError."""
    reference = (evaluator.get("modal") or {}).get("canary_reference_us")
    if reference is None:
        return {}
    confirmed = {
        entry.task: float(entry.container["canary_us"])
        for entry in read_ledger(folder)
        if entry.function.startswith("confirm") and entry.ended == "answer"
    }
    return {task: normalised(1.0, canary, reference) for task, canary in confirmed.items()}

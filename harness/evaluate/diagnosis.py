"""What a program's worker says of it beyond its score, asked for workload by workload.

A diagnosis has a worker of its own, is never timed by the judge, and never changes a verdict: a
program that breaks in it has fewer figures, and the first reason is shown. What is told is bounded
and only ever shown.

Covered: the questions, and the door through which the answers come in.
Not covered: how a worker finds them (gpu_diagnostics.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from harness.errors import InfraError
from harness.evaluate.bench import Bench
from harness.evaluate.program import CandidateFailure, Program, told_text
from harness.evaluate.verdict import no_room
from harness.suite import Task
from harness.types import Measurement, Workload

# Calls in a chain may bring a device to its power limit; its clocks stay lower for what follows.
LOOKS = ("kernels", "hot", "graph")
FIGURES = ("hot_us", "hot_host_us", "kernels", "kernels_us", "library_share", "graph_us")
_MOST = 1e12
_MOST_CHARACTERS = 200

Figures = dict[str, float]


@dataclass
class Diagnosis:
    """figures: by workload name; none where the device has no diagnosis, fewer for a program that
    breaks. problem: how it first broke, "" where it did not."""

    figures: dict[str, Figures] = field(default_factory=dict)
    problem: str = ""

    def broke(self, message: str) -> None:
        """message: a candidate's words, perhaps; it must not look like several flags."""
        one_line = " ".join(message.replace(";", ",").split())
        self.problem = self.problem or one_line[:_MOST_CHARACTERS]


def diagnose(
    bench: Bench, program: Program, workloads: Sequence[Workload], rng: np.random.Generator
) -> Diagnosis:
    """All looks at these workloads, one after the other."""
    found = Diagnosis()
    if not bench.can_diagnose:
        return found
    try:
        with bench.start(program, workloads, diagnosed=True) as side:
            for workload in workloads:
                side.bind(workload, 1)
                side.run_block([bench.fresh(workload, rng)], rng)
                figures = found.figures.setdefault(workload.name, {})
                for look in LOOKS:
                    told = side.diagnose(look)
                    figures |= figures_from_worker(told)
                    if told.get("ok") is not True:
                        found.broke(f"{look}: {told_text(told, 'it failed')}")
    except (CandidateFailure, InfraError) as failure:
        found.broke(str(failure))
    except bench.device_errors() as error:
        found.broke(no_room(error).message)
    return found


def with_figures(
    rows: Sequence[Measurement], found: Diagnosis, task: Task
) -> tuple[Measurement, ...]:
    """The measurements with what was found of their workloads; flagged where a program says that it
    calls a library although the task forbids them (torch's products are cuBLAS's), and where it
    broke."""
    made = []
    for row in rows:
        figures = found.figures.get(row.workload, {})
        share, flags = figures.get("library_share", 0.0), row.flags
        if share > 0 and task.libraries == "forbidden":
            flags = (*flags, f"{share:.0%} of its kernels' time in libraries, which are forbidden")
        if found.problem and row.workload in found.figures and len(figures) < len(FIGURES):
            flags = (*flags, f"not diagnosed in full ({found.problem})")
        made.append(replace(row, diagnostics=figures, flags=flags))
    return tuple(made)


def figures_from_worker(told: Mapping[str, object]) -> Figures:
    """A worker's answer with everything dropped that an honest one does not hold."""
    figures = {}
    for name in FIGURES:
        value = told.get(name)
        # Compared, not converted: an int may be too large for a float. False for a NaN.
        if isinstance(value, int | float) and 0 <= value <= _MOST:
            figures[name] = float(value)
    return figures

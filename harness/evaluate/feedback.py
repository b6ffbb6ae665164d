"""What a model is told of a verdict: one normalised, bounded text, the same for every method.

Covered: status, failed check, first useful lines, a table with a row per workload.
Not covered: anything of the held-out workloads, paths, seeds, or raw output of the candidate.
"""

from __future__ import annotations

from harness.types import Failed, Passed, Stage

MAX_CHARACTERS = 2000


def feedback(outcome: Passed | Failed, baseline: str) -> str:
    """The feedback text of an outcome, at most 2,000 characters."""
    text = _failed(outcome) if isinstance(outcome, Failed) else _passed(outcome, baseline)
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 4] + " ..."


def _failed(outcome: Failed) -> str:
    where = f", workload {outcome.workload}" if outcome.workload else ""
    joint = "\n" if outcome.stage is Stage.BUILD else " "
    head = f"{outcome.status} at {outcome.stage}{where}, check {outcome.check}:"
    return f"{head}{joint}{outcome.message}"


def _passed(outcome: Passed, baseline: str) -> str:
    rows = outcome.measurements
    width = max(len("workload"), *(len(m.workload) for m in rows))
    lines = [
        f"PASSED: score {outcome.score:.4f} (geometric mean over {len(rows)} workloads of "
        f"{baseline} latency / this program's latency; 95 % interval {outcome.score_low:.4f} to "
        f"{outcome.score_high:.4f})",
        f"{'workload':<{width}}  this_us  {baseline}_us  speedup  fraction_of_roofline",
    ]
    for m in rows:
        row = (
            f"{m.workload:<{width}}  {m.latency_us:.1f}  {m.baseline_us:.1f}  {m.speedup:.4f}  "
            f"{m.floor_us / m.latency_us:.3f}"
        )
        lines.append(f"{row}  ({'; '.join(m.flags)})" if m.flags else row)
    return "\n".join(lines)

"""A/A: two copies of one kernel as candidates. How often does the printed interval cover 1?

`python -m benchmarks.aa_trials [trials] [task]` confirms two copies of the task's starting program
against each other, afresh each time, and prints the 95 % interval of their ratio, whether it covers
1, its half-width, and whether the cap was reached. Nothing is cached.
"""

from __future__ import annotations

import math
import sys

from harness.evaluate.local import LocalEvaluator
from harness.evaluate.timing import log_interval
from harness.suite import load_suite
from harness.types import Candidate, Failed


def main() -> None:
    """Print one line per trial and the counts."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    task = load_suite("cpu").task(sys.argv[2] if len(sys.argv) > 2 else "matmul")
    source = task.start("cpp")
    pair = [Candidate("cpp", source), Candidate("cpp", source + "// a copy\n")]
    covered = narrow = 0
    with LocalEvaluator("cpu") as evaluator:
        for trial in range(trials):
            result = evaluator.confirm(task.name, pair)
            failures = [f.final for f in result.finalists if isinstance(f.final, Failed)]
            if failures:
                print(f"trial {trial + 1:2d}: an honest copy FAILED: {failures}", flush=True)
                continue
            by_id = {f.candidate_id: f.block_log_speedups for f in result.finalists}
            left, right = by_id[pair[0].id], by_id[pair[1].id]
            ratio = log_interval([a - b for a, b in zip(left, right, strict=True)])
            covers = ratio.low <= 1 <= ratio.high
            covered += covers
            narrow += ratio.narrower_than(0.01)
            print(
                f"trial {trial + 1:2d}: ratio {ratio.value:.4f}, 95 % interval {ratio.low:.4f} to "
                f"{ratio.high:.4f}, half-width {100 * math.expm1(ratio.half_width):.2f} %, "
                f"{result.blocks} blocks, {result.device_seconds:.1f} s"
                f"{', capped' if result.capped else ''}{'' if covers else ', DOES NOT COVER 1'}",
                flush=True,
            )
    print(f"{task.name}: {covered} of {trials} intervals cover 1; {narrow} within 1 %")


if __name__ == "__main__":
    main()

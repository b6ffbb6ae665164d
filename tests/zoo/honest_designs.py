"""Honest programs must never be caught: random honest design points through the whole evaluator.

`python -m tests.zoo.honest_designs [count] [seed]` draws honest configurations of the three design
spaces of suites/cpu (the starts among them), evaluates each, and prints each that did not pass.
Exit status 1 if there is one.

Covered: build, sandbox, correctness, timing, floor, clocks and libraries, in search.
Not covered: confirmation.
"""

from __future__ import annotations

import random
import sys

from harness.evaluate.local import LocalEvaluator
from harness.suite import load_suite
from harness.types import Candidate, Failed


def main() -> int:
    """Evaluate the points and print the verdicts that should not be."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    stream = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    tasks = load_suite("cpu").tasks
    caught = 0
    with LocalEvaluator("cpu") as evaluator:
        for number in range(count):
            task = tasks[number % len(tasks)]
            space = task.design_space
            assert space is not None
            point = space.start()
            while number >= len(tasks):  # the first of each task is its start
                point = {p.name: stream.choice(p.choices).value for p in space.parameters}
                if space.honest(point):
                    break
            evaluation = evaluator.evaluate(task.name, Candidate("cpp", space.render(point)))
            if isinstance(evaluation.outcome, Failed):
                caught += 1
                print(f"{task.name} {point}\n  {evaluation.feedback}", flush=True)
    print(f"honest design points: passed {count - caught} of {count}")
    return 1 if caught else 0


if __name__ == "__main__":
    sys.exit(main())

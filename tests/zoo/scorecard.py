"""The hack zoo: kernels that look fast or correct without being so, and what the evaluator says.

`python -m tests.zoo.scorecard` evaluates every kernel of `kernels/` (written beside the checks) and
of `second/` (written by somebody who had not seen them) and prints "caught n of m" for each. A hack
is caught when its evaluation does not end PASSED. Kernels in `honest/` must pass.

A kernel is one file, .cpp or .py, whose first lines are comments:

    // hack: 17                 numbers of docs/hacks.md ("honest" for an honest kernel)
    // task: matmul             of suites/cpu, or "toy" of tests/toy_suite.py (where python may run)
    // what: one sentence

Covered: everything that a CPU can express. Not covered: items that need a GPU.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.evaluate import Evaluator
from harness.evaluate.local import LocalEvaluator
from harness.evaluate.settings import EvaluatorSettings
from harness.types import Candidate, Failed, Language, Passed, Status

FOLDER = Path(__file__).parent
_FIELD = re.compile(r"^(?://|#) (hack|task|what): (.*)$", re.MULTILINE)
_LANGUAGES: dict[str, Language] = {".cpp": "cpp", ".py": "python"}


@dataclass(frozen=True)
class Exhibit:
    """One kernel of the zoo."""

    name: str
    hack: str
    task: str
    what: str
    candidate: Candidate


def exhibits(folder: str) -> list[Exhibit]:
    """The kernels of a folder of the zoo, by name. Raises ValueError for one without its header."""
    found = []
    for path in sorted((FOLDER / folder).glob("*.*")):
        if path.suffix not in _LANGUAGES:
            continue
        source = path.read_text()
        fields = dict(_FIELD.findall(source))
        if fields.keys() != {"hack", "task", "what"}:
            raise ValueError(f"{path.name} needs the comment lines hack:, task: and what:")
        candidate = Candidate(_LANGUAGES[path.suffix], source)
        found.append(Exhibit(path.stem, fields["hack"], fields["task"], fields["what"], candidate))
    return found


def verdict(outcome: Passed | Failed) -> str:
    """One line: the status, and for a failure the check and its message."""
    if isinstance(outcome, Failed):
        message = " ".join(outcome.message.split())[:110]
        return f"{outcome.status} by {outcome.check} at {outcome.stage}: {message}"
    return f"PASSED, score {outcome.score:.3f}"


def judge(evaluator: Evaluator, exhibit: Exhibit) -> tuple[bool, str]:
    """Whether a kernel gets through search, final and held-out workloads, and where it stopped.

    No number is a result before its confirmation, so a kernel that passes in search is confirmed.
    """
    evaluation = evaluator.evaluate(exhibit.task, exhibit.candidate)
    if isinstance(evaluation.outcome, Failed):
        return False, verdict(evaluation.outcome)
    finalist = evaluator.confirm(exhibit.task, [exhibit.candidate]).finalists[0]
    if isinstance(finalist.final, Failed):
        return False, f"in confirmation: {verdict(finalist.final)}"
    if finalist.held_out is not Status.PASSED:
        return (
            False,
            f"on held-out workloads: {finalist.held_out}: {finalist.held_out_message[:110]}",
        )
    return True, verdict(finalist.final)


def show(evaluators: Mapping[str, Evaluator], folder: str, *, should_pass: bool) -> bool:
    """Evaluate and print one folder; whether every verdict is as it should be."""
    kernels = exhibits(folder)
    good = 0
    for exhibit in kernels:
        evaluator = evaluators["toy" if exhibit.task == "toy" else "cpu"]
        passed, line = judge(evaluator, exhibit)
        good += passed == should_pass
        mark = "ok   " if passed == should_pass else "WRONG"
        print(f"{mark} {exhibit.hack:>8}  {exhibit.name:<32} {line}", flush=True)
    word = "passed" if should_pass else "caught"
    print(f"{folder}: {word} {good} of {len(kernels)}\n")
    return good == len(kernels)


def main() -> int:
    """Print the whole scorecard; exit status 1 if a verdict on `kernels` or `honest` is wrong. The
    second zoo is reported apart: some of its attempts have no effect, and those may pass."""
    settings = EvaluatorSettings(
        call_timeout_seconds=3.0,
        load_timeout_seconds=5.0,
        confirm_min_blocks=3,
        confirm_max_blocks=3,
    )
    with (
        LocalEvaluator("cpu", settings=settings) as cpu,
        LocalEvaluator("tests.toy_suite:suite", settings=settings) as toy,
    ):
        evaluators = {"cpu": cpu, "toy": toy}
        results = [
            show(evaluators, "kernels", should_pass=False),
            show(evaluators, "second", should_pass=False),
            show(evaluators, "honest", should_pass=True),
        ]
    return 0 if results[0] and results[2] else 1


if __name__ == "__main__":
    sys.exit(main())

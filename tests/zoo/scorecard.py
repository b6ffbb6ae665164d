"""The hack zoo: kernels that look fast or correct without being so, and what the evaluator says.

`python -m tests.zoo.scorecard` evaluates every kernel of `kernels/` (written beside the checks) and
of `second/` (written by somebody who had not seen them) and prints "caught n of m" for each. A hack
is caught when its evaluation does not end PASSED. Kernels in `honest/` must pass. On a machine with
an NVIDIA GPU the same for `gpu/` and `gpu_honest/`; after each hack there an honest program must
pass, on the same device. Arguments: "cpu" or "gpu", for one part.

A kernel is one file, .cpp, .cu or .py, whose first lines are comments:

    // hack: 17                 numbers of docs/hacks.md ("honest" for an honest kernel)
    // task: matmul             of suites/cpu, "toy" of tests/toy_suite.py (where python may run),
                                or "large_rows" of tests/toy_gpu_suite.py
    // what: one sentence

Covered: everything that a CPU or one GPU can express. Not covered: several GPUs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.environment import visible_gpus
from harness.evaluate import Evaluator
from harness.evaluate.local import LocalEvaluator
from harness.evaluate.settings import EvaluatorSettings
from harness.types import Candidate, Failed, Language, Passed, Status
from tests.toy_gpu_suite import TORCH

FOLDER = Path(__file__).parent
_FIELD = re.compile(r"^(?://|#) (hack|task|what): (.*)$", re.MULTILINE)
_LANGUAGES: dict[str, Language] = {".cpp": "cpp", ".cu": "cuda", ".py": "python"}


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
        language = "triton" if "@triton.jit" in source else _LANGUAGES[path.suffix]
        candidate = Candidate(language, source)
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
        evaluator = evaluators.get(exhibit.task, evaluators["cpu"])
        passed, line = judge(evaluator, exhibit)
        good += passed == should_pass
        mark = "ok   " if passed == should_pass else "WRONG"
        print(f"{mark} {exhibit.hack:>8}  {exhibit.name:<32} {line}", flush=True)
    word = "passed" if should_pass else "caught"
    print(f"{folder}: {word} {good} of {len(kernels)}\n")
    return good == len(kernels)


def show_gpu() -> list[bool]:
    """The GPU's part: every hack, and after each an honest program in a process of its own."""
    settings = EvaluatorSettings(
        call_timeout_seconds=4.0, load_timeout_seconds=20.0, build_timeout_seconds=10.0,
        gpu_max_samples=10, gpu_confirm_min_blocks=3,
    )  # fmt: skip
    with LocalEvaluator("tests.toy_gpu_suite:large", settings=settings) as evaluator:
        print(f"on {evaluator.describe()['device']}")
        kernels = exhibits("gpu")
        caught = healthy = 0
        for number, exhibit in enumerate(kernels):
            passed, line = judge(evaluator, exhibit)
            honest = Candidate("python", f"{TORCH}# after {number}\n")
            after = evaluator.evaluate("large_rows", honest).outcome
            caught, healthy = caught + (not passed), healthy + isinstance(after, Passed)
            mark = "ok   " if not passed and isinstance(after, Passed) else "WRONG"
            print(f"{mark} {exhibit.hack:>8}  {exhibit.name:<32} {line}", flush=True)
            if isinstance(after, Failed):
                print(f"      the honest program after it: {verdict(after)}", flush=True)
        print(f"gpu: caught {caught} of {len(kernels)}; afterwards healthy {healthy}\n")
        honest_passed = show({"cpu": evaluator}, "gpu_honest", should_pass=True)
    return [caught == healthy == len(kernels), honest_passed]


def main(parts: Sequence[str]) -> int:
    """Print the whole scorecard; exit status 1 if a verdict on a folder other than `second` is
    wrong. That zoo is reported apart: some of its attempts have no effect, and those may pass."""
    results: list[bool] = []
    if "cpu" in parts:
        results += show_cpu()
    if "gpu" in parts:
        if visible_gpus():
            results += show_gpu()
        else:
            print("gpu: left out, this machine has no NVIDIA GPU")
    return 0 if all(results) else 1


def show_cpu() -> list[bool]:
    """The CPU's part. The verdicts that must be right."""
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
    return [results[0], results[2]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ("cpu", "gpu")))

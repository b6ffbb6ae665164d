"""The hack zoo on a GPU: its scorecard on one, and without one what can be seen of it."""

import ast
import os
from collections.abc import Iterator

import pytest

from harness.environment import visible_gpus
from harness.evaluate.local import LocalEvaluator
from harness.evaluate.settings import EvaluatorSettings
from harness.types import Candidate, Failed, Passed
from tests.zoo.scorecard import Exhibit, exhibits, show_gpu

pytest.importorskip("triton")

# What they do needs no GPU, so they must be caught in the interpreter, too.
ANYWHERE = (
    "answers_one_call_late", "bfloat16", "bfloat16_result", "cache_by_address", "cache_by_sample",
    "cache_by_shape", "empties_its_inputs", "float16_sums", "half_of_the_columns",
    "half_of_the_rows", "kept_scale", "lazy_tensor", "leaves", "nan",
    "pass_through", "storage_attribute", "uninitialised", "works_in_place_and_restores",
)  # fmt: skip
# Items of docs/hacks.md without a program for a GPU, and why.
ELSEWHERE = {
    9: "statistics are in the judge, on every device",
    11: "a property of the protocol",
    15: "a property of the protocol",
    21: "the same sandbox as on a CPU",
    27: "the same sandbox as on a CPU",
    28: "inputs come from the judge's generators, on every device",
    31: "a property of tasks",
    33: "a property of tasks",
    35: "the other side has a worker of its own, and the reference is in the judge",
    36: "held-out sizes, on every device",
    37: "a property of a task's inputs; the toy has no structure to guess",
    38: "the toy has no mask",
    41: "a property of the protocol",
    42: "no task draws at random",
    44: "a property of reports",
    45: "libraries are allowed on a GPU",
    46: "libraries are allowed on a GPU: a fallback is an honest, slow program",
    47: "the same sandbox as on a CPU",
    48: "the same sandbox as on a CPU",
    50: "the same sandbox as on a CPU",
    51: "the same sandbox as on a CPU",
    56: "no model judges",
    57: "a property of the protocol",
}
KERNELS = {exhibit.name: exhibit for exhibit in exhibits("gpu")}


@pytest.fixture(scope="module")
def evaluator() -> Iterator[LocalEvaluator]:
    settings = EvaluatorSettings(confirm_min_blocks=2, confirm_max_blocks=2)
    suite = "tests.toy_gpu_suite:suite"
    with LocalEvaluator(suite, settings=settings, device="interpreter") as evaluator:
        yield evaluator


def test_every_exhibit_says_what_it_is_and_is_a_program() -> None:
    for exhibit in (*KERNELS.values(), *exhibits("gpu_honest")):
        assert exhibit.task == "large_rows"
        assert len(exhibit.what) > 12
        if exhibit.candidate.language != "cuda":
            ast.parse(exhibit.candidate.source)


def test_every_item_has_a_program_for_a_gpu_or_a_reason_why_not() -> None:
    shown = {int(n) for exhibit in KERNELS.values() for n in exhibit.hack.split(", ")}
    assert not shown & ELSEWHERE.keys()
    assert sorted(shown | ELSEWHERE.keys()) == list(range(1, 58))


@pytest.mark.parametrize("name", [name for name in ANYWHERE if name in KERNELS])
def test_a_cheat_that_needs_no_gpu_is_caught_in_the_interpreter(
    evaluator: LocalEvaluator, name: str
) -> None:
    outcome = evaluator.evaluate("scale_rows", KERNELS[name].candidate).outcome
    assert isinstance(outcome, Failed), name


@pytest.mark.parametrize(
    "exhibit",
    [e for e in exhibits("gpu_honest") if e.name in ("start", "torch_program", "scratch_buffer")],
    ids=lambda exhibit: exhibit.name,
)
def test_honest_programs_pass_in_the_interpreter(
    evaluator: LocalEvaluator, exhibit: Exhibit
) -> None:
    outcome = evaluator.evaluate("scale_rows", exhibit.candidate).outcome
    assert isinstance(outcome, Passed), outcome


@pytest.mark.skipif(
    not visible_gpus() or "HARNESS_ZOO" not in os.environ,
    reason="takes minutes on a GPU: make zoo, or HARNESS_ZOO=1",
)
def test_the_scorecard_on_a_gpu_is_clean() -> None:
    assert all(show_gpu())


def test_a_candidate_of_the_zoo_has_its_language() -> None:
    languages = {e.name: e.candidate.language for e in KERNELS.values()}
    assert languages["hang"] == "cuda"
    assert languages["endless_trace"] == "triton"
    assert languages["nan"] == "python"
    assert isinstance(KERNELS["nan"].candidate, Candidate)

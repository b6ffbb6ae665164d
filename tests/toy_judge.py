"""A GPU's judge in the tests' own process, without a GPU: Triton's interpreter, CPU tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.evaluate.judge import Judge
from harness.evaluate.judge_process import JudgeProcess
from harness.evaluate.local_cpu import judge_setup
from harness.evaluate.sandbox import probe
from harness.evaluate.settings import EvaluatorSettings


@contextmanager
def judge_here(suite: str, task: str, settings: EvaluatorSettings) -> Iterator[Judge]:
    """Of one task; its workers and its baseline end with it."""
    setup = judge_setup(suite, settings, b"secret", False, probe())
    process = JudgeProcess(setup | {"device": "interpreter", "peaks": None})
    try:
        yield process._judge(task)
    finally:
        process.close()

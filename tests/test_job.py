"""Workers that are started before their program is known."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest

from harness.evaluate.job import Job, JobKind, JobsAhead
from harness.evaluate.launcher import WarmParent
from harness.evaluate.program import CODE_FILE, Program, Role, pack_files, signature_json
from harness.evaluate.sandbox import probe
from harness.evaluate.settings import EvaluatorSettings
from tests.toy_gpu_suite import TORCH, ScaleRows

READS = """\
with open("kernels/kernel/code", "rb") as file:
    assert file.read() == b"compiled"
"""
KERNELS = pack_files({"kernel/code": b"compiled"})


@pytest.fixture(scope="module")
def kind() -> Iterator[JobKind]:
    with WarmParent("torch", probe()) as parent:
        program = Program("python", b"")
        yield JobKind.of(parent, program, EvaluatorSettings(), 1, Role())


@pytest.fixture
def ahead() -> Iterator[JobsAhead]:
    jobs = JobsAhead()
    yield jobs
    jobs.close()


def load(job: Job, source: str) -> object:
    """What the worker answers when it is to load this program."""
    job.put(Program("python", source.encode(), kernels=KERNELS))
    message = {
        "op": "load",
        "language": "python",
        "file": CODE_FILE["python"],
        "signature": signature_json(ScaleRows().signature),
    }
    job.worker.resume()
    job.worker.channel.send_json(json.loads(json.dumps(message)))
    return job.worker.channel.receive_json(20.0)


def test_a_job_started_ahead_serves_the_program_that_it_is_given(
    kind: JobKind, ahead: JobsAhead
) -> None:
    assert ahead.take(kind) is None
    ahead.start(kind, 2)
    ahead.start(kind, 2)  # they are there
    ahead.wait()
    assert ahead.take(replace(kind, threads=2)) is None  # of another kind
    for _ in range(2):
        job = ahead.take(kind)
        assert job is not None
        assert load(job, READS + TORCH) == {"ok": True, "workspace": False, "plan": False}
        job.close()
        assert not job.folder.exists()
    assert ahead.take(kind) is None


def test_a_job_that_died_meanwhile_is_not_given_out(kind: JobKind, ahead: JobsAhead) -> None:
    ahead.start(kind, 1)
    ahead.wait()
    (job,) = (job.result() for job in ahead._jobs[kind])
    os.killpg(job.worker.pid, signal.SIGKILL)
    assert job.worker.exit_status(5.0) is not None
    assert ahead.take(kind) is None
    assert not job.folder.exists()


def test_jobs_that_nobody_took_end_with_the_others(kind: JobKind) -> None:
    jobs = JobsAhead()
    jobs.start(kind, 1)
    (job,) = (job.result() for job in jobs._jobs[kind])
    jobs.close()
    assert not job.folder.exists()
    with pytest.raises(ProcessLookupError):
        os.killpg(job.worker.pid, 0)

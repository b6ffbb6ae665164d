"""A worker that is told to stop, stops: also where the system-call filter would let it go on."""

import numpy as np
import pytest

from harness.evaluate.build import Builder, Built
from harness.evaluate.header import cpp_header
from harness.evaluate.launcher import WarmParent
from harness.evaluate.memory import HostRing, private_inputs
from harness.evaluate.sandbox import probe
from harness.evaluate.settings import EvaluatorSettings
from harness.evaluate.side import CandidateFailure, Program, Side
from tests.toy_suite import START, suite

TASK = suite.task("toy")
SETTINGS = EvaluatorSettings(stop_timeout_seconds=0.3)

RESUMES_ITSELF = START.replace(
    '#include "task.h"',
    """#include "task.h"
#include <signal.h>
#include <thread>
#include <unistd.h>
static void start() {
    static bool started = false;
    if (started) return;
    started = true;
    std::thread([] { for (;;) kill(getpid(), SIGCONT); }).detach();
    usleep(20000);
}
""",
).replace("float sum = 0;", "start(); float sum = 0;")


class LenientParent(WarmParent):
    """A warm parent whose workers may make every system call that is not refused."""

    def start_worker(self, **arguments):
        return super().start_worker(**{**arguments, "attacks_kill": False})


def side(parent: WarmParent, source: str) -> Side:
    built = Builder(parent, None, SETTINGS).build(source, cpp_header(TASK.signature))
    assert isinstance(built, Built), built
    ring = HostRing(TASK.signature, TASK.search, SETTINGS.ring_slots)
    return Side(parent, Program("cpp", built.code), TASK.signature, ring, SETTINGS, 2)


def run(worker: Side, rounds: int = 3) -> None:
    worker.load()
    worker.bind(TASK.search[0])
    rng = np.random.default_rng(0)
    inputs = private_inputs(TASK.signature, TASK.search[0])
    TASK.fill(TASK.search[0], rng, inputs)
    for _ in range(rounds):
        worker.run_block([inputs, inputs], rng)
        worker.audit_stop()


def test_an_honest_worker_stands_still_between_its_calls() -> None:
    with WarmParent("none", probe()) as parent, side(parent, START) as worker:
        run(worker)


def test_a_worker_that_resumes_itself_is_rejected_by_its_cpu_clock() -> None:
    with LenientParent("none", probe()) as parent, side(parent, RESUMES_ITSELF) as worker:
        with pytest.raises(CandidateFailure) as caught:
            run(worker, rounds=1000)  # it stands still where its thread has no core when told to
        assert caught.value.check in ("does_not_stop", "ran_while_stopped")


def test_the_filter_ends_a_worker_that_resumes_itself() -> None:
    with WarmParent("none", probe()) as parent, side(parent, RESUMES_ITSELF) as worker:
        with pytest.raises(CandidateFailure) as caught:
            run(worker)
        assert caught.value.check == "forbidden_call"


def test_half_a_character_from_a_worker_does_not_reach_a_message() -> None:
    from harness.evaluate.program import told_text

    assert told_text({"message": "x \ud800 \x1b[31m y"}, "") == "x ? [31m y"

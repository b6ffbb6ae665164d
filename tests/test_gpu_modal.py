"""What a container on Modal would answer, on a GPU of this machine: every way, both memories.

Needs a GPU of a kind that Modal lends.
Not covered: Modal's containers themselves (gVisor, their driver).
"""

from __future__ import annotations

import pytest

from harness.environment import visible_gpus
from harness.evaluate.modal import remote
from harness.evaluate.modal.requests import Answer, Work, answer_from_bytes
from harness.evaluate.sandbox import Isolation, Way, probe
from harness.evaluate.settings import EvaluatorSettings
from harness.suite import load_suite
from harness.types import Candidate, evaluation_from_json

NAMES = [str(gpu["name"]) for gpu in visible_gpus()]
GPU = next((kind for kind in remote.CAPABILITIES if any(kind in name for name in NAMES)), "")

pytestmark = pytest.mark.skipif(not GPU, reason="needs a GPU of a kind that Modal lends")

SUITE = "tests.toy_gpu_suite:large"
BARE = Isolation("none", ("as in gVisor",), 0, False)


def ask(work: Work) -> Answer:
    answer = answer_from_bytes(remote.entry(work.encode()))
    assert answer.refusal is None, answer.message
    return answer


@pytest.mark.parametrize(
    ("way", "sharing", "suite"),
    [
        *(
            (way, sharing, SUITE)
            for way in ("namespaces", "container", "none")
            for sharing in ("ipc", "host")
        ),
        ("namespaces", "host", "trimul"),  # pins gigabytes
    ],
)
def test_a_container_judges_on_a_gpu(
    way: Way, sharing: str, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = BARE if way == "none" else probe(way)
    if inner.way != way:
        pytest.skip(f"this machine does not offer the way {way}")
    outer = inner if way == "namespaces" else BARE
    monkeypatch.setattr(remote, "probe", lambda force=None: inner if force else outer)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    task = load_suite(suite).task(load_suite(suite).default_tasks[0])
    start = (Candidate("triton", task.start("triton")),)
    settings = EvaluatorSettings().to_json() | {"gpu_sharing": sharing}
    built = ask(Work("build", suite, task.name, start, settings, capability_of=GPU))
    builds = built.result["builds"]
    assert len(builds) == 2
    answer = ask(Work("evaluate", suite, task.name, start, settings, b"s" * 32, GPU, builds))
    evaluation = evaluation_from_json(answer.result["evaluation"])
    assert evaluation.passed, evaluation.feedback
    assert answer.container["isolation"] == way
    assert answer.container["sharing"] == sharing
    assert answer.container["canary_us"] > 0
    assert evaluation.build_seconds == pytest.approx(_build_seconds(builds))  # it was built ahead


def _build_seconds(builds: dict[str, str]) -> float:
    import json

    (record,) = [json.loads(bytes.fromhex(d)) for n, d in builds.items() if n.endswith(".json")]
    return float(record["seconds"])

"""What a container answers: remote.py itself, on this machine."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec

import pytest

from harness.evaluate.build import cpp_toolchain
from harness.evaluate.bundle import Bundle, SourceFile
from harness.evaluate.modal import remote
from harness.evaluate.modal.requests import Answer, Work, answer_from_bytes, decode, encode
from harness.evaluate.sandbox import Isolation, probe
from harness.evaluate.settings import EvaluatorSettings
from harness.suite import load_suite
from harness.types import Candidate, evaluation_from_json

SUITE = "tests.toy_suite:suite"
SETTINGS = EvaluatorSettings(search_blocks=2, search_max_blocks=2).to_json()


def ask(work: Work) -> Answer:
    return answer_from_bytes(remote.entry(work.encode()))


def start() -> Candidate:
    return Candidate("cpp", load_suite(SUITE).task("toy").start("cpp"))


def test_a_container_of_other_code_refuses() -> None:
    body = decode(Work("version").encode()) | {"version": "0.0.9+0"}
    answer = answer_from_bytes(remote.entry(encode(body)))
    assert answer.refusal == "version"


@pytest.mark.parametrize(
    "found",
    [
        [],
        [{"name": "NVIDIA H200", "memory_mib": 143771}],
        [{"name": "NVIDIA H100 80GB HBM3", "memory_mib": 81559}] * 2,
        [{"name": "NVIDIA H100 NVL", "memory_mib": 95830}],
    ],
)
def test_a_container_with_another_gpu_refuses(
    found: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "visible_gpus", lambda: found)
    answer = ask(Work("evaluate", SUITE, "toy", (start(),), SETTINGS, b"s" * 32, "H100"))
    assert answer.refusal == "wrong_gpu"


def test_an_h100_of_another_make_is_refused_by_its_multiprocessors() -> None:
    remote.check_multiprocessors("H100", {"multiprocessors": 132})
    remote.check_multiprocessors(None, {})
    with pytest.raises(remote.Refused):
        remote.check_multiprocessors("H100", {"multiprocessors": 114})


def test_an_unknown_task_is_a_refusal_and_no_verdict() -> None:
    answer = ask(Work("evaluate", SUITE, "nothing", (start(),), SETTINGS, b"s" * 32))
    assert answer.refusal == "harness"
    assert "nothing" in answer.message


def test_another_baseline_than_the_answer_would_be_said_to_have_is_a_refusal() -> None:
    work = Work("evaluate", SUITE, "toy", (start(),), SETTINGS, b"s" * 32)
    (name, version, program) = load_suite(SUITE).task("toy").baselines[0].identity
    for other in (("FlashInfer", version, program), (name, version, "0" * 16)):
        answer = ask(dataclasses.replace(work, baseline=other))
        assert answer.refusal == "baseline"
        assert f"expected {other[0]} 1 (program {other[2][:8]})" in answer.message
        assert f"has {name} {version} (program {program[:8]})" in answer.message
    assert ask(dataclasses.replace(work, baseline=(name, version, program))).refusal is None


BARE = Isolation("none", ("gVisor has neither",), 0, False)


def test_without_namespaces_and_landlock_the_container_is_the_sandbox(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote, "probe", lambda force=None: BARE)
    answer = ask(Work("evaluate", SUITE, "toy", (start(),), SETTINGS, b"s" * 32))
    assert answer.refusal is None, answer.message
    assert evaluation_from_json(answer.result["evaluation"]).passed
    assert answer.container["isolation"] == "none"
    assert answer.container["canary_us"] > 0


def test_a_user_of_its_own_is_taken_where_a_container_lets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = probe("container")
    monkeypatch.setattr(remote, "probe", lambda force=None: real if force else BARE)
    assert remote.container_isolation() == real
    monkeypatch.setattr(remote, "probe", lambda force=None: probe("none"))
    assert remote.container_isolation().way == "none"


def test_the_examination_holds_the_doctors_findings() -> None:
    answer = ask(Work("examine", SUITE, settings=SETTINGS, secret=b"s" * 32))
    subjects = [finding["subject"] for finding in answer.result["doctor"]]
    assert subjects == ["machine", "compiler", "isolation"]
    assert answer.result["described"]["device"] == "cpu"
    task = load_suite(SUITE).task("toy")
    assert answer.result["described"]["baselines"] == {"toy": task.baselines[0].identity}
    assert answer.result["notes"] == {"toy": dict(task.notes)}


def test_triton_kernels_are_built_without_a_gpu_for_another_container() -> None:
    task = load_suite("trimul").task("trimul@spec")
    work = Work(
        "build",
        "trimul",
        task.name,
        (Candidate("triton", "import triton\n\ndef run(inputs, outputs):\n    pass\n"),),
        EvaluatorSettings().to_json(),
        capability_of="H100",
    )
    answer = ask(work)
    assert answer.refusal is None, answer.message
    names = sorted(name.partition(".")[2] for name in answer.result["builds"])
    assert names == ["json", "tar"]


@pytest.mark.skipif(find_spec("tvm_ffi") is None, reason="apache-tvm-ffi is not installed")
def test_a_kernel_with_a_binding_is_built_by_its_binding_for_another_container(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the host's compiler in nvcc's place: what matters is who is asked to build."""
    monkeypatch.setattr(remote, "cuda_toolchain", lambda capability: cpp_toolchain())
    bundle = Bundle("tvm-ffi", (SourceFile("a.cpp", "#include <tvm/ffi/function.h>\n"),), "run")
    task = load_suite("trimul").task("trimul@spec")
    work = Work(
        "build",
        "trimul",
        task.name,
        (Candidate("cuda", bundle.text()),),
        EvaluatorSettings().to_json(),
        capability_of="H100",
    )
    answer = ask(work)
    assert answer.refusal is None, answer.message
    assert any(name.endswith(".so") for name in answer.result["builds"]), answer.result["builds"]

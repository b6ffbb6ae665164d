"""Modal's back end over a real gRPC stand-in: calls, failures, caps, resuming, isolation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fake_modal
import pytest
from fake_modal import FAULTS, FakeModal, refusal
from modal_service import evaluator, forget_client, service
from toy_container import ToyContainer

from harness.errors import EnvironmentMissing, InfraError, UsageError
from harness.evaluate.modal import requests
from harness.evaluate.modal.calls import Admission
from harness.evaluate.modal.ledger import Ledger, read_ledger, spending
from harness.evaluate.modal.options import FUNCTIONS, ModalOptions, parse_options
from harness.evaluate.modal.options import function as named
from harness.evaluate.modal.requests import BadAnswer, Work, answer_from_bytes, normalised
from harness.evaluate.settings import EvaluatorSettings
from harness.types import Candidate

ROOT = Path(__file__).resolve().parents[1]


def program(number: int) -> Candidate:
    return Candidate("cpp", f"// program {number}\n")


@pytest.fixture
def container() -> ToyContainer:
    return ToyContainer()


@pytest.fixture(scope="module")
def deployed():
    with service(ToyContainer()) as fake:
        yield fake


@pytest.fixture
def fake(deployed: FakeModal, container: ToyContainer) -> FakeModal:
    """The stand-in with the app deployed, and nothing called yet."""
    deployed.forget(container)
    return deployed


# --- what is deployed ---


def functions_of(fake: FakeModal):
    return {r.function.function_name: r.function for r in fake.requests["FunctionCreate"]}


def test_a_gpu_function_asks_for_an_h100_and_nothing_else(fake: FakeModal) -> None:
    gpus = {n: f.resources.gpu_config for n, f in functions_of(fake).items()}
    assert {n: (g.gpu_type, g.count) for n, g in gpus.items() if g.count} == {
        "evaluate_gpu": ("H100!", 1),
        "confirm_gpu": ("H100!", 1),
    }


def test_every_function_is_shut_in_and_never_retried_by_modal(fake: FakeModal) -> None:
    deployed = functions_of(fake)
    assert set(deployed) == {function.name for function in FUNCTIONS}
    for function in deployed.values():
        assert function.block_network
        assert function.untrusted  # restrict_modal_access
        assert function.retry_policy.retries == 0
        assert not function.secret_ids
        assert not function.function_serialized
        assert list(function.supported_output_formats) == [fake_modal.CBOR]
        assert function.autoscaler_settings.max_containers == 4
    single = {name for name, function in deployed.items() if function.single_use_containers}
    assert single == set(deployed) - {"version"}


def test_a_container_lives_longer_than_any_limit_of_the_judge(fake: FakeModal) -> None:
    settings = EvaluatorSettings()
    longest = max(
        settings.call_timeout_seconds,
        settings.load_timeout_seconds,
        settings.build_timeout_seconds,
    )
    for function in functions_of(fake).values():
        if function.function_name != "version":
            assert function.timeout_secs > 4 * longest
            assert function.timeout_secs > 1.5 * settings.bundle_build_seconds


def test_the_image_is_made_of_a_tag_and_versions_and_carries_this_code(fake: FakeModal) -> None:
    commands = [
        command
        for r in fake.requests["ImageGetOrCreate"]
        for command in r.image.dockerfile_commands
    ]
    assert "FROM nvidia/cuda:13.0.1-devel-ubuntu24.04" in commands
    assert any("torch==2.11.0 triton==3.6.0" in command for command in commands)
    files = {file.filename for r in fake.requests["MountGetOrCreate"] for file in r.files}
    assert "/harness/harness/evaluate/judge.py" in files
    assert "/harness/harness/evaluate/peaks.cpp" in files
    assert "/harness/suites/cpu/matmul.py" in files
    assert not [name for name in files if "__pycache__" in name or "/tests/" in name]


# --- a call ---


def test_an_evaluation_comes_back_as_the_container_made_it(
    fake: FakeModal, container: ToyContainer, tmp_path: Path
) -> None:
    there = evaluator(tmp_path).evaluate("softmax", program(1))
    assert there == container.evaluator.evaluate("softmax", program(1))


def test_the_id_of_a_call_is_written_down_before_it_is_waited_for(
    fake: FakeModal, container: ToyContainer, tmp_path: Path
) -> None:
    seen = []

    def look(request: bytes) -> bytes:
        deadline = time.monotonic() + 10
        while not any(e.call_id for e in read_ledger(tmp_path)) and time.monotonic() < deadline:
            time.sleep(0.01)
        seen.append([(entry.call_id, entry.ended) for entry in read_ledger(tmp_path)])
        return container(request)

    fake.run = look
    evaluator(tmp_path)
    assert seen[0] == [(next(iter(fake.calls)), "")]


def test_each_request_has_a_secret_of_its_own(
    fake: FakeModal, container: ToyContainer, tmp_path: Path
) -> None:
    judge = evaluator(tmp_path)
    for number in range(3):
        judge.evaluate("softmax", program(number))
    secrets = {body["secret"] for body in container.requests}
    assert len(secrets) == 4
    assert (b"s" * 32).hex() not in secrets


def test_kernels_are_built_without_a_gpu_and_handed_on(
    fake: FakeModal, container: ToyContainer, tmp_path: Path
) -> None:
    judge = evaluator(tmp_path, "gpumode")
    container.requests.clear()
    judge.evaluate("trimul@spec", Candidate("triton", "# a program\n"))
    asked = [(body["operation"], body["gpu"]) for body in container.requests]
    assert asked == [("build", None), ("evaluate", "H100")]
    assert container.requests[1]["builds"] == {"search.tar": b"built".hex()}
    assert [call.function for call in fake.calls.values()][-2:] == ["build", "evaluate_gpu"]


def test_equal_requests_in_flight_share_one_call(
    fake: FakeModal, container: ToyContainer, tmp_path: Path
) -> None:
    judge = evaluator(tmp_path)
    before = len(fake.calls)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: judge.evaluate("softmax", program(1)), range(8)))
    assert len(fake.calls) == before + 1
    assert len(set(found)) == 1


def test_the_manifest_tells_the_image_the_doctor_and_the_prices(
    fake: FakeModal, tmp_path: Path
) -> None:
    facts = evaluator(tmp_path).describe()["modal"]
    assert facts["image"]["digest"] == "unpinned"
    assert facts["doctor"] == []
    assert facts["canary_reference_us"] == 100.0
    assert any("cores" in line for line in facts["prices"])


# --- failures ---


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_survived(fault: str, fake: FakeModal, tmp_path: Path) -> None:
    judge = evaluator(tmp_path)
    fake.faults = {2: fault}
    assert judge.evaluate("softmax", program(1)).passed
    ended = [entry.ended for entry in read_ledger(tmp_path)]
    assert ended == (["answer"] * 2 if fault == "contact" else ["answer", "lost", "answer"])


def test_no_pickle_of_a_container_is_ever_read(fake: FakeModal, tmp_path: Path) -> None:
    judge = evaluator(tmp_path)
    fake.faults = lambda number: "pickle"
    with pytest.raises(InfraError, match="deserializ"):
        judge.evaluate("softmax", program(1))
    assert fake_modal.TAKEN_OVER == []


@pytest.mark.parametrize("fault", ["timeout", "terminated", "quota", "refuses"])
def test_faults_that_do_not_end_pause_the_run(fault: str, fake: FakeModal, tmp_path: Path) -> None:
    judge = evaluator(tmp_path)
    fake.faults = lambda number: fault
    with pytest.raises(InfraError, match="4 calls of evaluate_cpu on Modal had no answer"):
        judge.evaluate("softmax", program(1))
    assert spending(read_ledger(tmp_path)).lost == 4


def test_an_app_of_other_code_is_named_and_not_asked_again(fake: FakeModal, tmp_path: Path) -> None:
    fake.run = lambda request: refusal("version", "the app is of version 0.0.9")
    with pytest.raises(InfraError, match="harness modal deploy"):
        evaluator(tmp_path)
    assert len(fake.calls) == 1


def test_an_evaluation_of_another_candidate_is_not_believed(
    fake: FakeModal, container: ToyContainer, tmp_path: Path
) -> None:
    judge = evaluator(tmp_path)
    other = Work("evaluate", "cpu", "softmax", (program(2),)).encode()
    fake.run = lambda request: container(other)
    with pytest.raises(InfraError, match="another candidate"):
        judge.evaluate("softmax", program(1))


def test_without_an_app_the_user_is_told_to_deploy_it(fake: FakeModal, tmp_path: Path) -> None:
    with pytest.raises(InfraError, match="modal deploy"):
        evaluator(tmp_path, options=ModalOptions(app="never-deployed"))


@pytest.mark.parametrize("secret", ["", "as-wrong"])
def test_without_a_good_token_nothing_starts(
    secret: str, fake: FakeModal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_client()
    monkeypatch.setenv("MODAL_TOKEN_SECRET", secret)
    with pytest.raises(EnvironmentMissing, match="MODAL_TOKEN_ID"):
        evaluator(tmp_path)
    forget_client()
    assert not (tmp_path / "modal").exists()


@pytest.mark.parametrize("data", [None, b"", b"{}", b"\x1f\x8b", requests.encode({"a": 1})])
def test_bytes_that_are_no_answer_are_refused(data: object) -> None:
    with pytest.raises(BadAnswer):
        answer_from_bytes(data)


def test_a_suite_that_the_image_does_not_hold_is_refused_before_anything_is_paid(
    fake: FakeModal, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="not part of this repository"):
        evaluator(tmp_path, "tests.toy_suite:suite")
    assert not fake.calls


# --- resuming ---


def test_a_resumed_comparison_waits_for_the_call_that_runs(
    fake: FakeModal, container: ToyContainer, tmp_path: Path
) -> None:
    judge = evaluator(tmp_path)
    container.gate.clear()
    threading.Thread(target=judge.evaluate, args=("softmax", program(1)), daemon=True).start()
    while not any(e.call_id and not e.ended for e in read_ledger(tmp_path)):
        time.sleep(0.01)
    open_call = read_ledger(tmp_path)[-1]
    copy = tmp_path / "copy"  # what a killed process leaves: the ledger, but no answer
    (copy / "modal").mkdir(parents=True)
    (copy / "modal" / "calls.jsonl").write_bytes((tmp_path / "modal/calls.jsonl").read_bytes())
    (tmp_path / "cache").rename(copy / "cache")
    resumed = evaluator(copy)
    container.gate.set()
    assert resumed.evaluate("softmax", program(1)).passed
    assert len(fake.calls) == 2  # the examination and the evaluation: nothing was begun twice
    assert read_ledger(copy)[-1].call_id == open_call.call_id
    assert read_ledger(copy)[-1].ended == "answer"


def test_what_was_answered_is_not_called_again(fake: FakeModal, tmp_path: Path) -> None:
    first = evaluator(tmp_path).evaluate("softmax", program(1))
    again = evaluator(tmp_path)
    assert again.evaluate("softmax", program(1)) == first
    assert len(fake.calls) == 2
    assert again.describe()["level"] == "cache"


def test_an_answer_that_was_not_kept_is_fetched_again_and_paid_once(
    fake: FakeModal, tmp_path: Path
) -> None:
    import shutil

    evaluator(tmp_path).evaluate("softmax", program(1))
    shutil.rmtree(tmp_path / "cache")
    assert evaluator(tmp_path).evaluate("softmax", program(1)).passed
    assert len(fake.calls) == 2
    assert spending(read_ledger(tmp_path)).seconds == 4.0


def test_a_torn_line_of_the_ledger_is_dropped(fake: FakeModal, tmp_path: Path) -> None:
    evaluator(tmp_path).evaluate("softmax", program(1))
    path = tmp_path / "modal" / "calls.jsonl"
    path.write_bytes(path.read_bytes() + b'{"n": 3, "kind": "int')
    evaluator(tmp_path).evaluate("softmax", program(2))
    assert [entry.ended for entry in read_ledger(tmp_path)] == ["answer"] * 3


# --- caps ---


def test_no_more_containers_run_at_once_than_allowed(tmp_path: Path) -> None:
    with service(ToyContainer(seconds=0.1), containers=16) as fake:
        judge = evaluator(tmp_path, options=ModalOptions(containers=3))
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(lambda n: judge.evaluate("softmax", program(n)), range(12)))
        assert fake.most_running == 3


def test_no_call_is_begun_that_could_exceed_the_dollars(fake: FakeModal, tmp_path: Path) -> None:
    price = ModalOptions().price_of("evaluate_cpu")
    assert price is not None
    # One call at its worst, beside two answers of two seconds.
    limit = price * (named("evaluate_cpu").timeout_seconds + 2.5 * 2.0)
    judge = evaluator(tmp_path, options=ModalOptions(dollars=limit))
    for number in range(2):
        judge.evaluate("softmax", program(number))
    with pytest.raises(InfraError, match="higher dollars=N"):
        judge.evaluate("softmax", program(3))
    assert (spending(read_ledger(tmp_path)).dollars or 0) <= limit
    raised = evaluator(tmp_path, options=ModalOptions(dollars=1.0))
    assert raised.evaluate("softmax", program(3)).passed


def test_a_gpu_without_a_known_price_needs_one_or_no_limit() -> None:
    with pytest.raises(UsageError, match="price=DOLLARS"):
        parse_options("modal:gpu=B200")
    assert parse_options("modal:gpu=B200,dollars=none").price_of("evaluate_gpu") is None
    assert parse_options("modal:gpu=B200,price=0.002").price_of("evaluate_gpu") == 0.002


@pytest.mark.parametrize("text", ["modal:", "modal:containers=0", "modal:dollars=x", "modal:a=1"])
def test_options_that_cannot_be_read_are_refused(text: str) -> None:
    if text == "modal:":
        assert parse_options(text) == ModalOptions()
        return
    with pytest.raises(UsageError, match="containers=N"):
        parse_options(text)


def test_a_latency_is_normalised_by_the_canary() -> None:
    assert normalised(20.0, canary_us=110.0, reference_us=100.0) == pytest.approx(18.18, rel=1e-3)


# --- load ---

CLIENT = """
import json, re, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from harness.evaluate.modal.client import ModalEvaluator
from harness.evaluate.modal.options import ModalOptions
from harness.evaluate.settings import EvaluatorSettings
from harness.types import Candidate

judge = ModalEvaluator(
    "cpu", Path(sys.argv[1]), options=ModalOptions(containers=64), settings=EvaluatorSettings(),
    secret=b"s" * 32,
)
begun, cpu = time.monotonic(), time.process_time()
with ThreadPoolExecutor(64) as pool:
    found = list(pool.map(
        lambda n: judge.evaluate("softmax", Candidate("cpp", f"// {n}" + "x" * 20000)), range(64)))
print(json.dumps({
    "passed": sum(evaluation.passed for evaluation in found),
    "cores": (time.process_time() - cpu) / (time.monotonic() - begun),
    "mib": int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024,
    "torch": "torch" in sys.modules,
}))
"""


def test_64_candidates_at_once_leave_the_client_small(tmp_path: Path) -> None:
    with service(ToyContainer(seconds=1.5), containers=64) as fake:
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        seen = json.loads(done.stdout)
        assert fake.most_running > 32
    assert seen["passed"] == 64
    assert seen["cores"] < 1
    assert seen["mib"] < 300
    assert not seen["torch"]


def test_calls_whose_end_is_not_known_count_with_what_they_can_cost(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    options = ModalOptions(dollars=1.0)
    dearest = (options.price_of("confirm_gpu") or 0.0) * named("confirm_gpu").timeout_seconds
    assert dearest > 1.0
    ledger.called(ledger.intent("one", "confirm_gpu", "matmul"), "fc-1")  # killed after this
    admission = Admission(options, Ledger(tmp_path))
    with (
        pytest.raises(InfraError, match="end is not known"),
        admission.admitted("evaluate_cpu", "two", "matmul"),
    ):
        pass
    raised = Admission(ModalOptions(dollars=dearest + 1.0), Ledger(tmp_path))
    with raised.admitted("evaluate_cpu", "two", "matmul") as n:
        assert n == 2
    assert [entry.key for entry in read_ledger(tmp_path)] == ["one", "two"]

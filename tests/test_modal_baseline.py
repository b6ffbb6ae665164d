"""What containers of Modal judge against: how their image gets it, and who is told its name.

Covered, over the stand-in: the layers of both images; FlashInfer's name in every record of a
comparison whose containers have it, on a machine that has not; containers with another baseline.
Not covered: making an image, compiling FlashInfer's kernels (tests/test_gpu_flashinfer.py).
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_modal import FakeModal
from modal_service import evaluator, service
from rich.console import Console
from test_modal_comparison import on_modal
from toy_container import ToyContainer

from harness.compare import FINISHED, INCOMPLETE, build_report, compare
from harness.config import ComparisonRequest
from harness.errors import InfraError, UsageError
from harness.evaluate.modal import remote
from harness.evaluate.modal.app import COMPILERS
from harness.evaluate.modal.ledger import read_ledger
from harness.evaluate.modal.pins import gpu_packages
from harness.evaluate.modal.requests import decode
from harness.folder import read_manifest
from harness.runlog import read_events
from harness.suite import load_suite
from harness.types import Candidate, JsonObject
from suites.flashinfer.flashinfer_package import NEEDS, PINNED

TASK = "gqa_paged_decode_h32_kv4_d128_ps1"
FLASHINFER = ["FlashInfer", PINNED, "0123456789abcdef"]
PROGRAM = Candidate("triton", "# a program\n")
REQUEST = ComparisonRequest(
    suite="flashinfer", methods="best_of_n", seeds="1", budget="2", evaluator="modal",
    llm="simulated",
)  # fmt: skip
H100 = {"name": "NVIDIA H100 80GB HBM3", "memory_mib": 81559}


@pytest.fixture(autouse=True)
def own_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "pins"))


TORCH = load_suite("flashinfer").task(TASK).baselines[-1].identity


def container(baseline: list[str] = FLASHINFER) -> ToyContainer:
    """One that judges against this, which this machine, with or without FlashInfer, would not."""
    made = ToyContainer()
    here = {task.name: task.baselines[0].identity for task in load_suite("flashinfer").tasks}
    made.described = {"baselines": here | {TASK: baseline}}
    made.notes = {TASK: {"inputs": "synthesised", "baseline": f"{baseline[0]} {baseline[1]}"}}
    return made


def run(folder: Path) -> tuple[int, str]:
    shown = io.StringIO()
    console = Console(file=shown, width=200)
    return compare(REQUEST, folder, make_evaluator=on_modal, console=console), shown.getvalue()


# --- the images ---


def layers_of(fake: FakeModal, function: str) -> list[tuple[str, str]]:
    """(commands, the GPU that they ran on or "") of each layer of a function's image."""
    (request,) = (
        r for r in fake.requests["FunctionCreate"] if r.function.function_name == function
    )
    return [
        ("; ".join(layer.dockerfile_commands), layer.gpu_config.gpu_type)
        for layer in fake.layers(request.function.image_id)
    ]


@pytest.mark.parametrize("gpu", ["H100!", "H200"])
def test_flashinfer_is_compiled_on_the_gpu_that_functions_have(gpu: str) -> None:
    with service(ToyContainer(), gpu=gpu) as fake:
        layers = layers_of(fake, "evaluate_gpu")
        assert layers == layers_of(fake, "confirm_gpu")
    *before, (last, on) = layers
    assert on == gpu
    assert last == f"FROM base; RUN MAX_JOBS={COMPILERS} python -m suites.flashinfer.prepare"
    assert not [gpu for _, gpu in before if gpu]
    commands = [command for command, _ in before]
    wanted = ["pip", "install", "torch==2.11.0", "triton==3.6.0", *gpu_packages(), "numpy==2.5.2"]
    (installed,) = [n for n, command in enumerate(commands) if "flashinfer" in command]
    assert set(wanted) <= set(commands[installed].split())
    copied = [n for n, command in enumerate(commands) if "COPY . /" in command]
    assert len(copied) == 2  # harness, suites
    assert copied[0] > installed  # a change of the code does not install anything anew


def test_the_image_of_functions_without_a_gpu_has_no_flashinfer_and_needs_no_gpu() -> None:
    with service(ToyContainer()) as fake:
        with_gpu = layers_of(fake, "evaluate_gpu")
        for function in ("evaluate_cpu", "confirm_cpu", "build", "version"):
            layers = layers_of(fake, function)
            assert not [command for command, gpu in layers if gpu or "flashinfer" in command]
            assert layers[:5] == with_gpu[:5]
        made = [list(r.image.dockerfile_commands) for r in fake.requests["ImageGetOrCreate"]]
        assert len([commands for commands in made if commands[0].startswith("FROM nvidia")]) == 1


def test_the_manifest_names_the_packages_of_the_image_that_was_used(tmp_path: Path) -> None:
    with service(ToyContainer()):
        on_gpu = evaluator(tmp_path / "gpu", "flashinfer").describe()["modal"]["image"]
        on_cpu = evaluator(tmp_path / "cpu", "cpu").describe()["modal"]["image"]
    assert on_gpu["packages"] == [*on_cpu["packages"], f"flashinfer-python=={PINNED}", *NEEDS]
    assert all("==" in package for package in on_gpu["packages"])
    assert on_gpu["digest"] == on_cpu["digest"] == "unpinned"


def test_compiling_in_the_image_needs_no_package_that_the_image_lacks() -> None:
    program = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "import suites.flashinfer.prepare\n"
        "print({name.partition('.')[0] for name in set(sys.modules) - before"
        " if 'site-packages' in (getattr(sys.modules[name], '__file__', '') or '')})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "{'numpy'}\n"


def test_tasks_from_a_dataset_of_this_machine_are_refused_before_anything_is_judged(
    tmp_path: Path,
) -> None:
    there = container()
    here = {task.name: task.version for task in load_suite("flashinfer").tasks}
    there.versions = here | {TASK: "1 with dataset 0123"}
    with service(there) as fake:
        for _ in range(2):  # the second time from the cache
            with pytest.raises(UsageError, match=r"1 with dataset 0123.*Unset .*FIB_DATASET_PATH"):
                evaluator(tmp_path, "flashinfer")
        assert len(fake.calls) == 1


# --- its name ---


def test_every_record_of_a_comparison_names_the_containers_baseline(tmp_path: Path) -> None:
    with service(container()):
        assert run(tmp_path)[0] == FINISHED
    manifest = read_manifest(tmp_path)
    assert manifest["cards"][TASK]["baseline"] == "FlashInfer"
    assert manifest["evaluator"]["baselines"][TASK] == FLASHINFER
    assert manifest["notes"][TASK]["baseline"] == f"FlashInfer {PINNED}"
    (log,) = tmp_path.glob("runs/*/*/*")
    assert json.loads((log / "manifest.json").read_text())["baseline"] == "FlashInfer"
    kept = [gzip.decompress(path.read_bytes()) for path in log.glob("blobs/*/*.gz")]
    prompts = [text for text in kept if b"geometric mean over workloads of the latency of" in text]
    assert prompts
    assert all(b"the latency of FlashInfer divided by its own" in text for text in prompts)
    confirmed = json.loads((tmp_path / "confirm" / f"{TASK}.json").read_text())
    assert confirmed["baseline"] == "FlashInfer"
    page = build_report(tmp_path).read_text()
    assert f"FlashInfer {PINNED}" in page


def test_a_request_says_which_baseline_its_answer_is_kept_under(tmp_path: Path) -> None:
    keys = []
    for baseline in (FLASHINFER, TORCH):
        folder = tmp_path / baseline[0]
        there = container(baseline)
        with service(there):
            evaluator(folder, "flashinfer").evaluate(TASK, PROGRAM)
        asked = [body for body in there.requests if body["operation"] == "evaluate"]
        assert [body["baseline"] for body in asked] == [baseline]
        keys.append({entry.key for entry in read_ledger(folder) if entry.function != "build"})
    assert len(keys[0] & keys[1]) == 1  # the examination, which finds it out


def judged_here(there: ToyContainer) -> Callable[[bytes], bytes]:
    """Evaluations are answered by the container's own code, with what this machine has; all else
    by the toy."""

    def answer(request: bytes) -> bytes:
        body: JsonObject = decode(request)
        return remote.answer(request) if body["operation"] == "evaluate" else there(request)

    return answer


def test_a_container_with_another_baseline_ends_the_run_with_both_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "visible_gpus", lambda: [H100])
    with service(judged_here(container())) as fake:
        judge = evaluator(tmp_path / "one", "flashinfer")
        with pytest.raises(InfraError, match=r"expected FlashInfer 0.*12345.*has .*modal deploy"):
            judge.evaluate(TASK, PROGRAM)
        names = [call.function for call in fake.calls.values()]
        assert names == ["evaluate_gpu", "build", "evaluate_gpu"]  # which is not tried again
        status, shown = run(tmp_path / "two")
    assert status == INCOMPLETE
    assert "judges against another baseline" in shown
    logs = (tmp_path / "two").glob("runs/*/*/*")
    assert not [e for log in logs for e in read_events(log) if e["kind"] == "evaluation"]


def test_a_confirmation_beside_another_baseline_is_not_believed(tmp_path: Path) -> None:
    there = container()
    honest = there.confirm
    there.confirm = (  # type: ignore[method-assign]
        lambda body: honest(body | {"baseline": ["torch"]})
    )
    with service(there):
        judge = evaluator(tmp_path, "flashinfer")
        with pytest.raises(InfraError, match="relative to torch, expected FlashInfer"):
            judge.confirm(TASK, [PROGRAM])


@pytest.mark.parametrize("older", [False, True])
def test_a_comparison_is_not_resumed_against_another_baseline(older: bool, tmp_path: Path) -> None:
    with service(container()) as fake:
        assert run(tmp_path)[0] == FINISHED
        (log,) = tmp_path.glob("runs/*/*/*")
        lines = (log / "events.jsonl").read_text().splitlines(keepends=True)
        (log / "events.jsonl").write_text("".join(lines[:3]))
        shutil.rmtree(tmp_path / "cache")  # as after a change of the code: examined anew
        if older:  # its manifest has a name, but neither version nor program
            manifest = read_manifest(tmp_path)
            del manifest["evaluator"]["baselines"]
            (tmp_path / "comparison.json").write_text(json.dumps(manifest))
        fake.forget(container(TORCH))
        with pytest.raises(UsageError, match=r"judged against FlashInfer.*here.*torch.*another f"):
            run(tmp_path)
        shutil.rmtree(tmp_path / "cache")
        fake.forget(container())
        assert run(tmp_path)[0] == FINISHED


def test_an_examination_that_does_not_say_what_it_judges_against_is_no_answer(
    tmp_path: Path,
) -> None:
    there = container()
    there.described = {"baselines": {TASK: FLASHINFER}}  # the other tasks' are missing
    with service(there), pytest.raises(InfraError, match="which baselines"):
        evaluator(tmp_path, "flashinfer")

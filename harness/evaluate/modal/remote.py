"""What runs in a container: one request in bytes is answered by the local evaluator, in bytes.

    entry ── answer ── version and device asserted ── canary ── LocalEvaluator ── answer

The judge, the workers and the checks are those of any other machine; this module chooses how to
isolate. Modal runs containers in gVisor, which may have neither namespaces nor Landlock nor CUDA
IPC. Then the container is the outer sandbox (no key, no network, one request), and within it the
candidate is an unprivileged user of its own, apart from the judge (way "container"); memory is
shared through the host. Where not even another user can be taken, the way is "none": a candidate
could then forge its own verdict, though it reaches nothing else, and the manifest says so.

Covered: evaluate, confirm (one call, so one device, for a whole confirmation), build (without a
GPU), examine. Not covered: the app that carries this (app.py).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import harness
from harness.environment import fingerprint, packages, visible_gpus
from harness.errors import HarnessError, InfraError
from harness.evaluate.bindings import BindingMissing
from harness.evaluate.build import Builder, cuda_toolchain
from harness.evaluate.launcher import Preload, WarmParent
from harness.evaluate.local import LocalEvaluator
from harness.evaluate.local_cpu import native
from harness.evaluate.modal.requests import Refusal, code_version, decode, encode
from harness.evaluate.program import parent_environment
from harness.evaluate.sandbox import Isolation, probe
from harness.evaluate.settings import EvaluatorSettings
from harness.evaluate.triton_build import TritonBuilder
from harness.suite import baseline_in_words, load_suite
from harness.types import (
    Candidate,
    JsonObject,
    confirmation_to_json,
    evaluation_to_json,
)

IMAGE_VARIABLE = "HARNESS_MODAL_IMAGE"  # the reference that the image was made from
CAPABILITIES = {"A100": 80, "H100": 90, "H200": 90, "B200": 100}
EXACTLY = {"H100": (132, 80_000, 83_000)}
"""Multiprocessors and MiB of memory (at least, at most) of what is sold on Modal under a name that
other products carry too (H100 PCIe, H100 NVL)."""

CANARY_OPERATIONS = {"cpu": 1e9, "gpu": 1e12}
"""The canary is so many operations at the rate that this container reaches in a fixed product (on a
CPU: in the loop of peaks.cpp), in microseconds."""

_CANARY = (
    "from harness.evaluate.gpu_peaks import measured_peaks; "
    "print(measured_peaks().flops_per_second)"
)
_CANARY_SECONDS = 120.0

OpenEvaluator = Callable[[JsonObject, Path], AbstractContextManager[LocalEvaluator]]


@dataclass(frozen=True)
class Refused(Exception):
    """A request that this container must not answer."""

    refusal: Refusal
    message: str


def entry(request: bytes) -> bytes:
    """The function that the app deploys."""
    return answer(request)


@contextmanager
def fresh_evaluator(body: JsonObject, folder: Path) -> Iterator[LocalEvaluator]:
    """The local evaluator of one request. The container ends with it."""
    isolation = container_isolation()
    with LocalEvaluator(
        body["suite"],
        cache_folder=folder,
        settings=EvaluatorSettings(**body["settings"]),
        secret=bytes.fromhex(body["secret"]),
        trust_candidates=not isolation.can_hide_keys,  # there is no key in a container
        isolation=isolation,
    ) as evaluator:
        yield evaluator


def container_isolation() -> Isolation:
    """The best way of isolation in a container."""
    best = probe()
    return best if best.way != "none" else probe("container")


def answer(request: bytes, open_evaluator: OpenEvaluator = fresh_evaluator) -> bytes:
    """The answer to one request; a fault of our own is a refusal, never a verdict."""
    started = time.monotonic()
    body = decode(request)
    container: JsonObject = {
        "image": os.environ.get(IMAGE_VARIABLE),
        "gpus": visible_gpus() if body["gpu"] else [],
        "torch": packages()["torch"],
        "canaries_us": [],
    }
    result: JsonObject = {}
    refusal, message = None, ""
    try:
        _check(body, container)
        result = _answer(body, container, open_evaluator)
    except Refused as error:
        refusal, message = error.refusal, error.message
    except (HarnessError, OSError) as error:
        refusal, message = "harness", f"{type(error).__name__}: {error}"
    container["seconds"] = time.monotonic() - started
    return encode(
        {"result": result, "refusal": refusal, "message": message, "container": container}
    )


def _check(body: JsonObject, container: JsonObject) -> None:
    """Raise Refused where another version asks, or the device or the task's baseline is another
    than was asked for."""
    if body["version"] != code_version():
        raise Refused("version", f"the app is of version {code_version()}")
    names = [str(gpu["name"]) for gpu in container["gpus"]]
    if body["gpu"] and (len(names) != 1 or body["gpu"] not in names[0]):
        found = ", ".join(names) or "no GPU"
        raise Refused("wrong_gpu", f"expected one {body['gpu']}, the container has {found}")
    if body["gpu"] in EXACTLY:
        _, least, most = EXACTLY[body["gpu"]]
        memory = container["gpus"][0]["memory_mib"] or 0
        if not least <= memory <= most:
            raise Refused("wrong_gpu", f"the container has {names[0]} with {memory} MiB")
    if body["baseline"]:
        baseline = load_suite(body["suite"]).task(body["task"]).baselines[0].identity
        if baseline != body["baseline"]:
            raise Refused(
                "baseline",
                f"expected {baseline_in_words(body['baseline'])} as the baseline of "
                f"{body['task']}, the container has {baseline_in_words(baseline)}",
            )


def check_multiprocessors(gpu: str | None, device: JsonObject) -> None:
    """Raise Refused where the judge sees another product of that name. device: what it says."""
    if gpu in EXACTLY and device.get("multiprocessors") != EXACTLY[gpu][0]:
        raise Refused(
            "wrong_gpu",
            f"expected {EXACTLY[gpu][0]} multiprocessors of an {gpu}, the container has "
            f"{device.get('multiprocessors')}",
        )


def _answer(body: JsonObject, container: JsonObject, open_evaluator: OpenEvaluator) -> JsonObject:
    operation = body["operation"]
    if operation == "build":
        return _build(body)
    if operation == "version":
        return {"version": code_version(), "packages": packages()}
    canaries: list[float] = container["canaries_us"]
    if body["gpu"]:
        canaries.append(_gpu_canary())
    with tempfile.TemporaryDirectory(prefix="harness-container-") as name:
        folder = Path(name)
        _place(body["builds"], folder / "builds")
        with open_evaluator(body, folder) as evaluator:
            result = _OPERATIONS[operation](body, evaluator)
            described = evaluator.describe()
    if not body["gpu"]:
        rate = described["peaks"]["flops_per_second"]
        canaries.append(1e6 * CANARY_OPERATIONS["cpu"] / rate)
    elif operation == "confirm":
        canaries.append(_gpu_canary())
    container["canary_us"] = sum(canaries) / len(canaries)
    container["device"] = described["device"]
    container["isolation"] = described["isolation"]["way"]
    devices = described.get("gpus") or [{}]
    check_multiprocessors(body["gpu"], devices[0])
    container["uuid"], container["sharing"] = (devices[0].get(n) for n in ("uuid", "sharing"))
    container["clocks_mhz"] = (described.get("lock") or {}).get("clocks_mhz")
    return result


def _evaluate(body: JsonObject, evaluator: LocalEvaluator) -> JsonObject:
    evaluation = evaluator.evaluate(body["task"], _candidates(body)[0])
    return {"evaluation": evaluation_to_json(evaluation), "samples": evaluation.samples_us}


def _confirm(body: JsonObject, evaluator: LocalEvaluator) -> JsonObject:
    return {
        "confirmation": confirmation_to_json(evaluator.confirm(body["task"], _candidates(body)))
    }


def _examine(body: JsonObject, evaluator: LocalEvaluator) -> JsonObject:
    from harness.doctor import examine_machine

    tasks = load_suite(body["suite"]).tasks
    return {
        "described": evaluator.describe(),
        "doctor": [asdict(finding) for finding in examine_machine()],
        "machine": fingerprint(),
        "packages": packages(),
        "notes": {task.name: dict(task.notes) for task in tasks},
        "versions": {task.name: task.version for task in tasks},
    }


_OPERATIONS: dict[str, Callable[[JsonObject, LocalEvaluator], JsonObject]] = {
    "evaluate": _evaluate,
    "confirm": _confirm,
    "examine": _examine,
}


def _build(body: JsonObject) -> JsonObject:
    """Files of a build folder, by name: what the evaluator in another container finds there. A
    failure is among them."""
    task = load_suite(body["suite"]).task(body["task"])
    settings = EvaluatorSettings(**body["settings"])
    candidate = _candidates(body)[0]
    capability = CAPABILITIES[body["capability_of"]]
    hidden = parent_environment() | {"CUDA_VISIBLE_DEVICES": ""}
    preload: Preload = "triton-build" if candidate.language == "triton" else "build"
    workloads = task.search if body["phase"] == "search" else tuple(task.workloads.values())
    with (
        tempfile.TemporaryDirectory(prefix="harness-container-") as name,
        WarmParent(preload, container_isolation(), hidden) as parent,
    ):
        folder = Path(name)
        if candidate.language == "triton":
            triton = TritonBuilder(parent, folder, settings, capability)
            triton.build(candidate.source, task.signature, workloads)
        else:
            builder = Builder(parent, folder, settings, cuda_toolchain(capability))
            with contextlib.suppress(BindingMissing):  # which the judge's container says
                native(lambda: builder, task, candidate, "cuda")
        return {"builds": {path.name: path.read_bytes().hex() for path in folder.iterdir()}}


def _candidates(body: JsonObject) -> list[Candidate]:
    return [Candidate(entry["language"], entry["source"]) for entry in body["candidates"]]


def _place(builds: dict[str, str], folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, data in builds.items():
        (folder / Path(name).name).write_bytes(bytes.fromhex(data))


def _gpu_canary() -> float:
    """The canary of this container's GPU, from a process that ends before anything is judged."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CANARY],
            capture_output=True,
            text=True,
            timeout=_CANARY_SECONDS,
            check=True,
            cwd=Path(harness.__file__).resolve().parents[1],
        )
        return 1e6 * CANARY_OPERATIONS["gpu"] / float(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise InfraError(f"The canary did not run on this container's GPU: {error}.") from error

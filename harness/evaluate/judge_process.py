"""The judge's process: reads requests of the harness, answers with verdicts.

Started by `local.py` with a scrubbed environment, so that it holds no key. It makes the warm
parents, owns the secret and the clock, and never imports candidate code. The harness is trusted, so
their channel is plain JSON lines; a worker's is not (`channel.py`).

Covered: one request at a time; the harness's death ends this process and everything below it at
once.
Not covered: several devices (one judge process each; a GPU's judge sees that GPU alone).
"""

from __future__ import annotations

import base64
import json
import math
import os
import select
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from importlib import import_module
from subprocess import SubprocessError
from typing import Any, Literal

from harness.errors import EnvironmentMissing, HarnessError
from harness.evaluate import gpu_lock
from harness.evaluate.bench import Bench, CpuBench
from harness.evaluate.confirmation import Session
from harness.evaluate.cuda_driver import CudaError, Driver
from harness.evaluate.gpu_bench import GpuBench, ipc_works
from harness.evaluate.gpu_check import warm_up_checks
from harness.evaluate.gpu_peaks import measured_peaks, published_peaks
from harness.evaluate.inspected import inspection_to_json
from harness.evaluate.inspection import Inspector
from harness.evaluate.judge import Judge
from harness.evaluate.launcher import WarmParent
from harness.evaluate.peaks import Peaks
from harness.evaluate.program import Program, parent_environment
from harness.evaluate.sandbox import isolation_from_json
from harness.evaluate.settings import EvaluatorSettings
from harness.suite import Device, NumpyTask, Suite, Task, TorchTask, load_suite
from harness.types import (
    Failed,
    JsonObject,
    confirmation_to_json,
    outcome_from_json,
    outcome_to_json,
)


class JudgeProcess:
    """All judges of one process: one per task, over shared warm parents."""

    def __init__(self, setup: JsonObject) -> None:
        sys.path[:0] = [path for path in setup["sys_path"] if path not in sys.path]
        self._suite = load_suite(setup["suite"])
        self._settings = EvaluatorSettings(**setup["settings"])
        self._secret = bytes.fromhex(setup["secret"])
        self._threads = int(setup["threads"])
        self._trusted = bool(setup["trust_candidates"])
        isolation = isolation_from_json(setup["isolation"])
        self._device: Device | Literal["interpreter"] = setup["device"]
        self._driver = Driver() if self._device == "cuda" else None
        if self._driver is not None and not self._driver.attribute("stream_memory_operations"):
            raise EnvironmentMissing(
                "This GPU's driver does not let a stream wait for a word in memory, which timing "
                "needs. Use a driver of CUDA 12 or later on Linux."
            )
        if self._device == "cpu":
            self._parents = {
                "cpp": WarmParent("none", isolation),
                "python": WarmParent("torch", isolation),
            }
        else:
            self._parents = {
                "native": WarmParent("none", isolation),
                "torch": WarmParent("triton", isolation, parent_environment()),
            }
        if self._driver is not None:  # meanwhile the parents import torch, too
            _warm_up(self._driver, self._suite)
        for parent in self._parents.values():
            parent.wait()
        self._peaks = self._find_peaks(setup["peaks"])
        self._sharing: Literal["ipc", "host"] = "host"
        if self._driver is not None and self._settings.gpu_sharing == "ipc":
            self._sharing = "ipc" if ipc_works(self._parents["native"], self._driver) else "host"
        self._judges: dict[str, Judge] = {}

    def _find_peaks(self, known: JsonObject | None) -> Peaks:
        if known is not None:
            return Peaks(**known)
        if self._driver is None:
            return Peaks(math.inf, math.inf)
        return published_peaks(self._driver.name) or measured_peaks()

    def ready(self) -> JsonObject:
        """What the harness is told of the device."""
        if self._device == "cpu":
            return {"ready": True}
        driver, name, device = self._driver, "CPU, Triton's interpreter", {}
        if driver is not None:
            name = driver.name
            device = {
                "uuid": driver.uuid,
                "memory_gib": round(driver.memory_bytes / 2**30, 1),
                "l2_mib": driver.attribute("l2_bytes") / 2**20,
                "multiprocessors": driver.attribute("multiprocessors"),
                "capability": 10 * driver.attribute("major") + driver.attribute("minor"),
                "cuda": driver.version / 1000,
                "peaks": asdict(self._peaks),
            }
        shown = {"name": name, "sharing": self._sharing, "peaks": None}
        return {"ready": True, "device": shown | device}

    def close(self) -> None:
        for judge in self._judges.values():
            judge.close()
        for parent in self._parents.values():
            parent.close()

    def answer(self, request: JsonObject) -> JsonObject:
        """One request's answer. Our own faults are told as {"infra": message}."""
        answers = {"evaluate": self._evaluate, "confirm": self._confirm, "inspect": self._inspect}
        if request["op"] not in answers:
            return {"infra": f"the judge does not know the request {request['op']!r}"}
        try:
            answer = answers[request["op"]](request)
            bench = self._judge(request["task"]).bench
            bench.forget()  # the next request may be another task's
            return answer | {"clocks_mhz": bench.clocks_mhz()}
        except (HarnessError, CudaError) as error:
            return {"infra": str(error)}

    def _judge(self, task: str) -> Judge:
        if task not in self._judges:
            self._judges[task] = Judge(self._bench(self._suite.task(task)), self._secret)
        return self._judges[task]

    def _bench(self, task: Task) -> Bench:
        if isinstance(task, TorchTask):
            return GpuBench(
                task,
                parents=self._parents,
                driver=self._driver,
                peaks=self._peaks,
                settings=self._settings,
                threads=self._threads,
                sharing=self._sharing,
            )
        assert isinstance(task, NumpyTask)
        return CpuBench(
            task,
            parents=self._parents,
            peaks=self._peaks,
            settings=self._settings,
            threads=self._threads,
        )

    def _evaluate(self, request: JsonObject) -> JsonObject:
        verdict = self._judge(request["task"]).evaluate(
            request["id"], _program(request, self._trusted)
        )
        return {
            "outcome": outcome_to_json(verdict.outcome),
            "device_seconds": verdict.device_seconds,
            "timing_seconds": verdict.timing_seconds,
            "compiling_seconds": verdict.compiling_seconds,
            "samples": verdict.samples_us,
        }

    def _confirm(self, request: JsonObject) -> JsonObject:
        entries: list[tuple[str, Program | Failed]] = []
        for entry in request["finalists"]:
            if "failure" in entry:
                failure = outcome_from_json(entry["failure"])
                assert isinstance(failure, Failed)
                entries.append((entry["id"], failure))
            else:
                entries.append((entry["id"], _program(entry, self._trusted)))
        judge = self._judge(request["task"])
        before = judge.compiling_seconds
        confirmation = Session(judge, entries).run()
        return {
            "confirmation": confirmation_to_json(confirmation),
            "device_seconds": confirmation.device_seconds,
            "compiling_seconds": judge.compiling_seconds - before,
        }

    def _inspect(self, request: JsonObject) -> JsonObject:
        judge = self._judge(request["task"])
        before = judge.compiling_seconds
        program = _program(request, self._trusted)
        inspection = Inspector(judge, request["id"], program, timed=request["timed"]).run()
        return {
            "inspection": inspection_to_json(inspection),
            "device_seconds": inspection.device_seconds,
            "compiling_seconds": judge.compiling_seconds - before,
        }


def _warm_up(driver: Driver, suite: Suite) -> None:
    """What the first evaluation would wait for: torch, and if nobody times something on this GPU
    now, its context there and the kernels that compare outputs. Whatever fails here (no memory
    there, no compiler) fails again where it is needed, and is told there."""
    dtypes = {tensor.dtype for task in suite.tasks for tensor in task.signature.outputs}
    import_module("torch")
    with (
        suppress(HarnessError, OSError, RuntimeError, SubprocessError),
        gpu_lock.alone(driver.uuid, wait=False),
    ):
        warm_up_checks(dtypes)


def _program(entry: JsonObject, trusted: bool) -> Program:
    code, kernels = (base64.b64decode(entry.get(name, "")) for name in ("code", "kernels"))
    ours = entry.get("baseline", False)
    return Program(
        entry["language"], code, trusted or ours, kernels, entry.get("complete", False),
        baseline=ours,
    )  # fmt: skip


def _exit_with(control: socket.socket) -> None:
    """End this process at once when the harness is gone (its end of the socket closes)."""
    poll = select.poll()
    poll.register(control, select.POLLRDHUP | select.POLLHUP)
    poll.poll()
    os._exit(0)  # the warm parents, and all below them, end with their owner


def main() -> None:
    """Serve the socket whose descriptor is the first argument until it closes."""
    control = socket.socket(fileno=int(sys.argv[1]))
    lines = control.makefile("r", encoding="utf-8")
    setup: dict[str, Any] = json.loads(lines.readline())
    # First: starting takes seconds, since a warm parent imports torch.
    threading.Thread(target=_exit_with, args=(control,), daemon=True).start()
    try:
        process = JudgeProcess(setup)
    except (HarnessError, OSError) as error:
        sys.exit(f"The judge's process cannot start: {error}")
    control.sendall((json.dumps(process.ready()) + "\n").encode())
    for line in lines:
        request = json.loads(line)
        if request["op"] == "close":
            break
        control.sendall((json.dumps(process.answer(request)) + "\n").encode())
    process.close()


if __name__ == "__main__":
    main()

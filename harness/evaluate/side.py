"""One side of a measurement: a program in its worker, its ring of buffers, and its calls.

The judge's whole contact with a worker goes through here. For each call, in this order: fresh
inputs are copied into a ring slot and the outputs poisoned while the worker's process group is
stopped; the clock starts, the request goes out, the group is woken, the reply comes in, the clock
stops; the group is stopped at once; outputs are copied to private memory and the inputs compared
with the private copy. After the block every slot must still hold what was copied. Nothing of the
worker runs between the writing of its inputs and the start of the clock; waking costs about 12 µs
within the window, for both sides. Where there is a gate (gpu_gate.py), the inputs come after the
request: once the call is queued.

Covered: late writes, changed inputs, writes out of bounds, outputs not written, forged or missing
replies, workers that die or hang.
Not covered: whether the outputs are right (`check.py`, asked by the judge).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import numpy as np

from harness.evaluate.channel import (
    CallReply,
    ChannelError,
    ChannelTimeout,
    ProtocolViolation,
)
from harness.evaluate.launcher import Limits, WarmParent, WorkerProcess
from harness.evaluate.program import (
    CODE_FILE,
    KERNEL_CACHE,
    MAX_KERNEL_BYTES,
    ON_THE_CPU,
    Batch,
    Call,
    CandidateFailure,
    Clocks,
    Contents,
    Program,
    Ring,
    Role,
    death,
    gpu_environment,
    pack,
    signature_json,
    told_failure,
    told_text,
    unpack,
)
from harness.evaluate.settings import EvaluatorSettings
from harness.evaluate.threads import worker_environment
from harness.evaluate.worker import NATIVE
from harness.suite import Signature
from harness.types import JsonObject, Status, Workload

_CPU_SECONDS = 600
_BASELINE_CPU_SECONDS = 30 * 86400  # one worker serves a judge for as long as that lives


class Side:
    """A worker with a loaded program. A context manager; leaving it ends the worker for good.

    ring: its own from here on, also where the worker does not start. Raises CandidateFailure from
    `load`, `bind` and `run_block` when the program misbehaves.
    """

    def __init__(
        self,
        parent: WarmParent,
        program: Program,
        signature: Signature,
        ring: Ring,
        settings: EvaluatorSettings,
        threads: int,
        role: Role = ON_THE_CPU,
    ) -> None:
        self._settings = settings
        self.program = program
        self._signature = signature
        self._ring = ring
        self._role = role
        self._number = 0
        self.has_plan = False
        self._first, self._patience_seconds = True, settings.queue_first_seconds
        self._cpu_ns: int | None = None  # when it was last seen stopped
        with ExitStack() as undo:
            undo.callback(ring.close)
            self._folder = Path(tempfile.mkdtemp(prefix="harness-job-"))
            undo.callback(shutil.rmtree, self._folder, ignore_errors=True)
            self._worker = self._started(parent, threads)
            undo.callback(self._worker.kill)
            self._undo = undo.pop_all()

    def _started(self, parent: WarmParent, threads: int) -> WorkerProcess:
        program, role, settings = self.program, self._role, self._settings
        (self._folder / CODE_FILE[program.language]).write_bytes(program.code)
        (self._folder / KERNEL_CACHE).mkdir()  # torch makes it otherwise, where it may not
        unpack(program.kernels, self._folder / KERNEL_CACHE)
        environment = worker_environment(threads)
        if role.gpu or program.language not in NATIVE:
            environment |= gpu_environment()
        return parent.start_worker(
            job_folder=self._folder,
            descriptors=self._ring.descriptors,
            limits=Limits(
                pids=settings.worker_processes,
                memory_bytes=(
                    settings.gpu_worker_memory_bytes if role.gpu else settings.worker_memory_bytes
                ),
                file_bytes=MAX_KERNEL_BYTES if role.compiles else 1 << 20,
                cpu_seconds=_BASELINE_CPU_SECONDS if program.baseline else _CPU_SECONDS,
                open_files=(1024 if role.gpu else 64) + len(self._ring.descriptors),
            ),
            environment=environment,
            trusted=program.trusted,
            attacks_kill=not role.compiles,
            job_writable=role.compiles,
            gpu=role.gpu,
        )

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._undo.close()

    @property
    def pid(self) -> int:
        return self._worker.pid

    @property
    def slots(self) -> int:
        """How many calls a block may hold."""
        return self._ring.slots

    def kernels(self) -> bytes:
        """A tar file of what the worker has compiled so far."""
        return pack(self._folder / KERNEL_CACHE)

    def load(self) -> None:
        """Load the program into the worker. A constructor that hangs or dies fails here."""
        answer = self._ask(
            {
                "op": "load",
                "language": self.program.language,
                "file": CODE_FILE[self.program.language],
                "signature": signature_json(self._signature),
            },
            self._settings.load_timeout_seconds,
        )
        if answer.get("ok") is not True:
            message = told_text(answer, "the program did not load")
            raise CandidateFailure(Status.RUNTIME_ERROR, "load", message)
        self.has_plan = answer.get("plan") is True

    def bind(self, workload: Workload, slots: int | None = None) -> None:
        """Shape the ring for a workload, here and in the worker."""
        message, settings = self._ring.bind(workload, slots), self._settings
        pins = self._role.gpu and self._ring.descriptors
        seconds = settings.load_timeout_seconds if pins else settings.call_timeout_seconds
        answer = self._ask(message, seconds)
        self._ring.freed()
        self._first, self._patience_seconds = True, self._settings.queue_first_seconds
        if answer.get("ok") is not True:
            raise CandidateFailure(
                Status.RUNTIME_ERROR, "bind", told_text(answer, "workspace_bytes failed")
            )

    def release(self) -> None:
        """Let go of the memory of the bound workload, where it was made for it. Others are timed
        next, so nothing may be left to run on the device."""
        message = self._ring.release()
        if message is not None:
            self._ask(message, self._settings.call_timeout_seconds)
            self._ring.freed()
            self._expect_idle()

    def run_block(self, contents: Sequence[Contents], rng: np.random.Generator) -> list[Call]:
        """One call for each of `contents` (at most as many as the ring has slots), slots in random
        order. Raises CandidateFailure for everything that a worker can do wrong."""
        slots = [int(s) for s in rng.permutation(self._ring.slots)[: len(contents)]]
        calls = [self._call(slot, c) for slot, c in zip(slots, contents, strict=True)]
        if self.program.baseline and self._role.gpu:
            return calls  # the looks below cost a pass over the memory each
        self._let_late_writers_run()
        for slot, call in zip(slots, calls, strict=True):
            late = self._ring.changed_output(slot, call.outputs)
            if late is not None:
                raise CandidateFailure(
                    Status.REJECTED,
                    "late_write",
                    f"output {late} changed after the call had returned",
                    {"output": late},
                )
            changed = self._ring.changed_input(slot, call.contents)
            if changed is not None:
                raise CandidateFailure(
                    Status.REJECTED,
                    "inputs_changed",
                    f"input {changed} was changed by the call",
                    {"input": changed},
                )
        self._expect_idle()
        guard = self._ring.broken_guard()
        if guard is not None:
            raise CandidateFailure(
                Status.REJECTED,
                "out_of_bounds_write",
                f"memory next to tensor {guard} was written",
                {"tensor": guard},
            )
        return calls

    def diagnose(self, what: str) -> JsonObject:
        """What the worker says of the program beyond its score (gpu_diagnostics.py), or its error;
        unchecked."""
        return self._ask({"op": "diagnose", "what": what}, self._settings.call_timeout_seconds)

    def run_batch(self, contents: Sequence[Contents]) -> Batch:
        """A call for each of `contents`, as many as there are slots, back to back in one request,
        timed as one. Only where there is a gate."""
        for slot, content in enumerate(contents):
            self._ring.poison_outputs(slot)
            self._ring.stage(slot, content)
        clocks = self._clocks(self._request("batch", len(contents)))
        return Batch([self._done(slot, c, clocks) for slot, c in enumerate(contents)], clocks)

    def _call(self, slot: int, contents: Contents) -> Call:
        ring, plan_ns = self._ring, None
        ring.poison_outputs(slot)
        if self.has_plan:
            ring.poison_inputs(slot)
            ring.write(slot, contents, index=True)
            plan_ns = self._request("plan", slot).wall_ns
        # What the plan has seen is not written again, so that its changes are seen after the call.
        ring.stage(slot, contents, index=False if self.has_plan else None)
        reply = self._request("run", slot)
        return self._done(slot, contents, self._clocks(reply, plan_ns))

    def _done(self, slot: int, contents: Contents, clocks: Clocks) -> Call:
        unwritten = self._ring.unwritten_output(slot)
        if unwritten is not None:
            raise CandidateFailure(
                Status.INCORRECT_NUMERICAL,
                "not_written",
                f"output {unwritten} was not written in full (it holds NaN before the call)",
                {"output": unwritten},
            )
        return Call(contents, self._ring.outputs(slot), clocks)

    def _clocks(self, reply: CallReply, plan_ns: int | None = None) -> Clocks:
        """A call by every clock; on a GPU the score is the worker's, between its events."""
        gate = self._ring.gate
        if gate is None:
            return Clocks(reply.wall_ns, reply.wall_ns, reply.worker, plan_ns)
        times = gate.times()
        latency_ns = reply.worker.call_ns if self._role.gpu else times.wall_ns
        if latency_ns <= 0:
            raise CandidateFailure(
                Status.REJECTED, "two_clocks", "the worker told that its call took no time"
            )
        return Clocks(
            latency_ns, times.wall_ns, reply.worker, plan_ns, times.prepare_ns, reply.queued
        )

    def _request(self, kind: Literal["run", "plan", "batch"], slot: int) -> CallReply:
        """One timed request. The worker is woken within the timed window
        (otherwise a thread of it could start on the fresh inputs before the clock does), and
        stopped when this returns."""
        self._number += 1
        timeout = self._settings.call_timeout_seconds
        if self._first and self._role.compiles:
            timeout = self._settings.build_timeout_seconds
        worker, hold = self._worker, None if kind == "plan" else self._ring.gate
        if hold is not None:
            hold.ready(self._number, self._patience_seconds, self._ring.put)
        self.audit_stop()
        try:
            reply = worker.channel.call(
                kind, slot, self._number, timeout, wake=worker.resume, hold=hold
            )
        except ChannelError as error:
            raise self._failure(error, kind) from error
        finally:
            worker.stop()
        self._expect_stop()
        if hold is not None:
            settings = self._settings
            self._patience_seconds = (
                settings.queue_seconds
                if reply.queued or self._first
                else settings.queue_again_seconds
            )
            self._first = False
        if reply.return_code != 0:
            raise self._error_reply(kind, reply.return_code)
        return reply

    def _ask(self, message: JsonObject, timeout: float) -> JsonObject:
        """A JSON request and its answer, the worker stopped again afterwards."""
        self.audit_stop()
        self._cpu_ns = None
        self._worker.resume()
        try:
            self._worker.channel.send_json(message)
            answer = self._worker.channel.receive_json(timeout)
        except ChannelError as error:
            raise self._failure(error, str(message["op"])) from error
        finally:
            self._worker.stop()
        self._expect_stop()
        return answer

    def _let_late_writers_run(self) -> None:
        """Let the worker run on for a moment after its last call, as it did between the others."""
        self.audit_stop()
        self._worker.resume()
        try:
            self._worker.channel.ping(self._settings.call_timeout_seconds)
        except ChannelError as error:
            raise self._failure(error, "ping") from error
        finally:
            self._worker.stop()
        self._expect_stop()

    def _expect_idle(self) -> None:
        """Raise CandidateFailure if the device is still at work for the program."""
        gate = self._ring.gate
        busy_us = gate.busy_ns() / 1e3 if gate is not None else 0.0
        if busy_us > self._settings.gpu_busy_us:
            raise CandidateFailure(
                Status.REJECTED,
                "left_behind",
                f"{busy_us:.0f} us after its last call the device was still at work",
                {"busy_us": busy_us},
            )

    def _expect_stop(self) -> None:
        """Wait until the worker stands still, and note its CPU clock. Trusted code does."""
        if self.program.trusted:
            return
        if not self._worker.wait_stopped(self._settings.stop_timeout_seconds):
            raise CandidateFailure(
                Status.REJECTED,
                "does_not_stop",
                "the program went on after its call although it was told to stop",
            )
        self._cpu_ns = self._worker.cpu_ns()

    def audit_stop(self) -> None:
        """Raise CandidateFailure if the worker has used CPU time since it was stopped: on inputs
        before the clock starts, or beside the other side's calls."""
        if self._cpu_ns is None:
            return
        used_us = (self._worker.cpu_ns() - self._cpu_ns) / 1e3
        settings = self._settings
        if used_us > (settings.gpu_stopped_cpu_us if self._role.gpu else settings.stopped_cpu_us):
            raise CandidateFailure(
                Status.REJECTED,
                "ran_while_stopped",
                f"the program used {used_us:.0f} us of CPU time while it was stopped",
                {"cpu_us": used_us},
            )

    def _failure(self, error: ChannelError, check: str) -> CandidateFailure:
        """What a channel's error means for the verdict."""
        if isinstance(error, ChannelTimeout):
            return CandidateFailure(Status.TIMEOUT, check, str(error), error.evidence)
        if isinstance(error, ProtocolViolation):
            return CandidateFailure(Status.REJECTED, "protocol", str(error), error.evidence)
        return self._death()

    def _error_reply(self, kind: str, return_code: int) -> CandidateFailure:
        """A call that returned non-zero: the worker is asked for what it knows about it."""
        answer = self._ask({"op": "error"}, self._settings.call_timeout_seconds)
        told = f"{kind} returned {return_code}"
        return told_failure(answer, kind, told, {"return_code": return_code})

    def _death(self) -> CandidateFailure:
        """How the worker ended, as a failure."""
        return death(self._worker.exit_status(timeout_seconds=2.0))


def loaded(side: Side) -> Side:
    """The side with its program loaded; its worker ends if that fails. Raises CandidateFailure."""
    with ExitStack() as undo:
        undo.enter_context(side)
        side.load()
        undo.pop_all()
    return side

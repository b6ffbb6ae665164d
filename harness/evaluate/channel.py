"""Judge and worker: length-capped JSON, and fixed-size frames for calls, over two pipes.

Request (judge to worker), 24 bytes: kind, slot, number, nonce. Reply (worker to judge), 48 bytes:
kind, return code, number, nonce, and the worker's own nanoseconds: of the call, of its host code,
and of what went on after it. Of a JSON frame `number` is the length of the text that follows. Where
a call is held back (`Hold`), a frame QUEUED comes before its reply. The nonce is 64 fresh random
bits that the reply must repeat: a reply cannot be written before its request has been read, even if
the worker foresees the number.

Why pipes: an empty round trip took 5 µs against 9 µs over a Unix socket (measured). The time-out is
a poll() before each read; it costs 0.7 µs, and needs no second thread, timer or signal. A worker
that sends byte by byte is stopped by the deadline, which every poll() is given anew.

Covered: silence, end of file, oversized, malformed, non-object or non-finite JSON, deep nesting, a
wrong kind, number or nonce, surplus bytes before a request and behind a reply. Never pickle, never
eval.
Not covered: whether a reply tells the truth. Outputs are compared by the judge, and the latency is
the judge's own wall clock.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import struct
import termios
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, NoReturn, Protocol

from harness.errors import HarnessError
from harness.types import JsonObject, JsonScalar

REQUEST = struct.Struct("<IIQ8s")
REPLY = struct.Struct("<IiQ8sQQQ")
MAXIMUM_JSON_BYTES = 1 << 20

_SEND_TIMEOUT_SECONDS = 10.0
_NO_BYTES = bytes(4)
_SPIN_NS = 20_000_000


def _nothing() -> None:
    """The worker is awake already."""


class Kind(IntEnum):
    """What a frame is. RUN and PLAN are calls of the candidate's functions; BATCH is a call of
    `run` on each of the first `slot` slots, back to back. QUEUED: such calls are queued."""

    PING = 0
    RUN = 1
    PLAN = 2
    JSON = 3
    BATCH = 4
    QUEUED = 5


class Hold(Protocol):
    """Keeps a call that a worker has queued from beginning (gpu_gate.py)."""

    patience_seconds: float
    """How long to wait for QUEUED: a worker that waits for its own work cannot say it."""

    def open(self) -> None:
        """Make the call's inputs, start the clock, let the call begin."""
        ...

    def ended(self) -> None:
        """Its reply is there."""
        ...


class ChannelError(HarnessError):
    """The worker's side of a channel did not behave; the judge makes a verdict of it."""

    def __init__(self, message: str, evidence: Mapping[str, JsonScalar] | None = None) -> None:
        super().__init__(message)
        self.evidence: dict[str, JsonScalar] = dict(evidence or {})


class ProtocolViolation(ChannelError):
    """The worker sent something that an honest one never sends."""


class ChannelTimeout(ChannelError):
    """No complete reply in time."""


class WorkerGone(ChannelError):
    """The worker closed its end: it crashed, exited or was killed. Its exit status says which."""


@dataclass(frozen=True)
class WorkerTimes:
    """A call by the worker's clocks, in nanoseconds.

    call_ns: the whole call; on a GPU its device time, between two events. host_ns: until the
    candidate's function returned. tail_ns: on a GPU, how long the device was still busy after the
    second event (on streams that the default one does not wait for).
    """

    call_ns: int
    host_ns: int = 0
    tail_ns: int = 0


@dataclass(frozen=True)
class CallReply:
    """return_code: of the candidate's function. worker: by the worker's clocks, unverified.
    wall_ns: by the judge's clock, from before the request is written until its reply is read.
    queued: whether a call that was held back was queued in time."""

    return_code: int
    worker: WorkerTimes
    wall_ns: int
    queued: bool = True


class Channel:
    """The judge's end. Not thread-safe: one judge thread speaks at a time. Owns both descriptors.

    reading: where replies come from. writing: where requests go.
    """

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        os.set_blocking(writing, False)  # a worker that does not read must not hold its judge
        poll = select.poll()
        poll.register(reading, select.POLLIN)
        self._poll = poll.poll
        self._nonce = b""
        self._closed = False

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            os.close(self._reading)
            os.close(self._writing)

    def call(
        self,
        kind: Literal["run", "plan", "batch"],
        slot: int,
        number: int,
        timeout_seconds: float,
        wake: Callable[[], None] = _nothing,
        hold: Hold | None = None,
    ) -> CallReply:
        """One call of `run` or `plan` on the tensors of `slot` (of `run` on each of `slot` slots,
        for a batch). number: the judge's, at most 64 bits. wake: lets a stopped worker go on; it is
        called once the clock runs, so that nothing of the worker runs between the writing of its
        inputs and the start of the clock. hold: what holds the call back until it is queued.

        Raises ProtocolViolation, ChannelTimeout or WorkerGone.
        """
        if hold is not None:
            return self._held(Kind[kind.upper()], slot, number, timeout_seconds, wake, hold)
        return self._exchange(Kind[kind.upper()], slot, number, timeout_seconds, wake)

    def ping(self, timeout_seconds: float) -> None:
        """Return once the worker is awake and waiting for a request. Raises as `call` does."""
        self._exchange(Kind.PING, 0, 0, timeout_seconds, _nothing)

    def _exchange(
        self,
        kind: Kind,
        slot: int,
        number: int,
        timeout_seconds: float,
        wake: Callable[[], None],
    ) -> CallReply:
        nonce = os.urandom(8)
        request = REQUEST.pack(kind, slot, number, nonce)
        milliseconds = _milliseconds(timeout_seconds)
        self._expect_silence()
        reading, writing = self._reading, self._writing
        poll, read, write, clock = self._poll, os.read, os.write, time.perf_counter_ns
        data = b""
        start = clock()
        try:
            write(writing, request)
            wake()
            if poll(milliseconds):
                data = read(reading, REPLY.size + 1)
            end = clock()
        except OSError as error:
            raise _gone(error) from error
        if len(data) < REPLY.size:
            if not data and end - start >= timeout_seconds * 1e9:
                raise ChannelTimeout(f"The worker did not answer within {timeout_seconds:g} s.")
            if not data:
                raise WorkerGone("The worker ended instead of answering.")
            deadline_ns = start + int(timeout_seconds * 1e9)
            while len(data) < REPLY.size:
                data += self._read(REPLY.size + 1 - len(data), deadline_ns, len(data))
            end = clock()
        return_code, times = self._unpack(data, kind, number, nonce)
        return CallReply(return_code, times, end - start)

    def _held(
        self,
        kind: Kind,
        slot: int,
        number: int,
        timeout_seconds: float,
        wake: Callable[[], None],
        hold: Hold,
    ) -> CallReply:
        nonce = os.urandom(8)
        deadline_ns = time.perf_counter_ns() + int(timeout_seconds * 1e9)
        self._expect_silence()
        try:
            os.write(self._writing, REQUEST.pack(kind, slot, number, nonce))
        except OSError as error:
            raise _gone(error) from error
        wake()
        frame = b""
        if self._poll(_milliseconds(hold.patience_seconds)):
            frame = self._read_exactly(REPLY.size, deadline_ns)
        queued = self._is_queued(frame, number, nonce)
        start = time.perf_counter_ns()
        hold.open()
        if queued or not frame:
            frame = self._soon(deadline_ns)
            if not queued and self._is_queued(frame, number, nonce):
                frame = self._soon(deadline_ns)
        hold.ended()
        end = time.perf_counter_ns()
        return_code, times = self._unpack(frame, kind, number, nonce)
        return CallReply(return_code, times, end - start, queued)

    def _is_queued(self, frame: bytes, number: int, nonce: bytes) -> bool:
        """Whether this is the frame QUEUED of this call."""
        if not frame or REPLY.unpack(frame)[0] != Kind.QUEUED:
            return False
        self._unpack(frame, Kind.QUEUED, number, nonce)
        return True

    def _soon(self, deadline_ns: int) -> bytes:
        """The next frame. Looked for without sleep at first: waking up takes as long as the calls
        differ by."""
        until = min(deadline_ns, time.perf_counter_ns() + _SPIN_NS)
        while not self._poll(0) and time.perf_counter_ns() < until:
            pass
        return self._read_exactly(REPLY.size, deadline_ns)

    def send_json(self, message: JsonObject) -> None:
        """Send a JSON object; `receive_json` must follow. Raises as `call` does."""
        text = json.dumps(message, allow_nan=False).encode()
        self._nonce = os.urandom(8)
        self._expect_silence()
        data = memoryview(REQUEST.pack(Kind.JSON, 0, len(text), self._nonce) + text)
        deadline = time.monotonic() + _SEND_TIMEOUT_SECONDS
        while data:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([], [self._writing], [], left)[1]:
                raise ChannelTimeout("The worker does not read its request.")
            try:
                data = data[os.write(self._writing, data) :]
            except OSError as error:
                raise _gone(error) from error

    def receive_json(
        self, timeout_seconds: float, maximum_bytes: int = MAXIMUM_JSON_BYTES
    ) -> JsonObject:
        """The worker's answer to the last `send_json`, of at most `maximum_bytes`. Raises as `call`
        does."""
        deadline_ns = time.perf_counter_ns() + int(timeout_seconds * 1e9)
        header = self._read_exactly(REPLY.size, deadline_ns)
        length = REPLY.unpack(header)[2]
        self._unpack(header, Kind.JSON, length, self._nonce)
        if length > maximum_bytes:
            _violation("The worker announced too long an answer", length=length, most=maximum_bytes)
        return _object(self._read_exactly(length, deadline_ns))

    def _expect_silence(self) -> None:
        waiting = fcntl.ioctl(self._reading, termios.FIONREAD, _NO_BYTES)
        if waiting != _NO_BYTES:
            _violation("The worker spoke unasked", bytes=int.from_bytes(waiting, "little"))

    def _read(self, most: int, deadline_ns: int, have: int) -> bytes:
        left_seconds = (deadline_ns - time.perf_counter_ns()) / 1e9
        if left_seconds <= 0 or not self._poll(_milliseconds(left_seconds)):
            raise ChannelTimeout("The worker's answer did not end in time.", {"bytes": have})
        data = os.read(self._reading, most)
        if not data:
            raise WorkerGone("The worker ended in the middle of a request.", {"bytes": have})
        return data

    def _read_exactly(self, size: int, deadline_ns: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            data += self._read(min(size - len(data), 1 << 16), deadline_ns, len(data))
        return bytes(data)

    def _unpack(
        self, data: bytes, kind: Kind, number: int, nonce: bytes
    ) -> tuple[int, WorkerTimes]:
        if len(data) > REPLY.size:
            _violation("The worker sent more than one reply", expected=REPLY.size)
        got_kind, return_code, got_number, got_nonce, *times = REPLY.unpack(data)
        if got_kind != kind:
            _violation("The worker answered another kind of request", got=got_kind, expected=kind)
        if got_number != number:
            _violation("The worker answered another call", got=got_number, expected=number)
        if got_nonce != nonce:
            _violation("The worker forged a reply: it does not repeat the nonce", number=number)
        return return_code, WorkerTimes(*times)


def _milliseconds(seconds: float) -> float:
    if not seconds > 0:
        raise ValueError(f"a time-out must be > 0 seconds, got {seconds}")
    return seconds * 1e3


def _gone(error: OSError) -> ChannelError:
    if isinstance(error, BlockingIOError):
        return ChannelTimeout("The worker does not read its requests.")
    return WorkerGone(f"The worker ended: {error.strerror}.")


def _violation(message: str, **evidence: JsonScalar) -> NoReturn:
    facts = ", ".join(f"{name} {value}" for name, value in evidence.items())
    raise ProtocolViolation(f"{message} ({facts}).", evidence)


def _object(text: bytes) -> JsonObject:
    """Parse an object strictly: UTF-8, finite numbers, bounded nesting."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    shown = repr(text[:200])
    try:
        value = json.loads(text.decode(), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ProtocolViolation(
            f"The worker sent no JSON: {error}.", {"error": str(error)[:200], "text": shown}
        ) from error
    if not isinstance(value, dict):
        _violation("The worker sent JSON that is no object", text=shown)
    return value


class WorkerEnd:
    """The worker's end: requests in, replies out. Ends the process when the judge closes."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing

    def next(self) -> tuple[int, int, int, bytes]:
        """The next request: kind, slot, number (of a JSON frame its length), nonce."""
        data = os.read(self._reading, REQUEST.size)
        while len(data) < REQUEST.size:
            data += self._more(REQUEST.size - len(data))
        return REQUEST.unpack(data)

    def text(self, length: int) -> JsonObject:
        """The object that follows a JSON request."""
        data = bytearray()
        while len(data) < length:
            data += self._more(length - len(data))
        return _object(bytes(data))

    def reply(self, kind: int, code: int, number: int, nonce: bytes, times: WorkerTimes) -> None:
        data = REPLY.pack(kind, code, number, nonce, times.call_ns, times.host_ns, times.tail_ns)
        os.write(self._writing, data)

    def reply_json(self, message: JsonObject, nonce: bytes) -> None:
        text = json.dumps(message).encode()
        data = memoryview(REPLY.pack(Kind.JSON, 0, len(text), nonce, 0, 0, 0) + text)
        while data:
            data = data[os.write(self._writing, data) :]

    def _more(self, most: int) -> bytes:
        data = os.read(self._reading, most)
        if not data:
            os._exit(0)  # the judge has closed the channel
        return data

"""The judge's channel against honest and dishonest worker ends, and the worker's service loop."""

import fcntl
import json
import mmap
import os
import socket
import struct
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.evaluate.channel import (
    REPLY,
    REQUEST,
    Channel,
    ChannelError,
    ChannelTimeout,
    Kind,
    ProtocolViolation,
    WorkerGone,
    WorkerTimes,
)
from harness.evaluate.launcher import WarmParent
from harness.evaluate.sandbox import Limits, isolation_from_json, isolation_to_json, probe


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    channel = Channel(os.dup(ours.fileno()), ours.detach())
    yield channel, theirs
    channel.close()
    theirs.close()


def answer_with(theirs, make):
    """A worker end that reads one request and sends what `make(kind, slot, number, nonce)` says."""

    def serve():
        theirs.sendall(make(*REQUEST.unpack(theirs.recv(REQUEST.size))))

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_a_call_returns_what_the_worker_answered(ends):
    channel, theirs = ends
    thread = answer_with(
        theirs, lambda kind, slot, n, nonce: REPLY.pack(kind, -5, n, nonce, slot, 2, 1)
    )
    reply = channel.call("run", 3, 2**64 - 1, 5)
    thread.join()
    assert (reply.return_code, reply.worker) == (-5, WorkerTimes(3, 2, 1))
    assert reply.wall_ns > 0


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (lambda k, s, n, nonce: REPLY.pack(Kind.PING, 0, n, nonce, 1, 0, 0), "another kind"),
        (lambda k, s, n, nonce: REPLY.pack(k, 0, n + 1, nonce, 1, 0, 0), "another call"),
        (lambda k, s, n, nonce: REPLY.pack(k, 0, n, bytes(8), 1, 0, 0), "forged"),
        (lambda k, s, n, nonce: REPLY.pack(k, 0, n, nonce, 1, 0, 0) + b"x", "more than one"),
    ],
)
def test_a_wrong_reply_is_a_violation(ends, forge, message):
    channel, theirs = ends
    thread = answer_with(theirs, forge)
    with pytest.raises(ProtocolViolation, match=message) as caught:
        channel.call("run", 0, 7, 5)
    thread.join()
    assert caught.value.evidence


def test_a_reply_written_before_its_request_is_a_violation(ends):
    channel, theirs = ends
    theirs.sendall(REPLY.pack(Kind.RUN, 0, 7, bytes(8), 1, 0, 0))
    with pytest.raises(ProtocolViolation, match="unasked"):
        channel.call("run", 0, 7, 5)


def test_surplus_bytes_after_a_call_stop_the_next_one(ends):
    channel, theirs = ends
    thread = answer_with(theirs, lambda k, s, n, nonce: REPLY.pack(k, 0, n, nonce, 1, 0, 0))
    channel.call("run", 0, 1, 5)
    thread.join()
    theirs.sendall(b"late")
    with pytest.raises(ProtocolViolation, match="unasked"):
        channel.ping(5)


def test_silence_is_a_timeout(ends):
    channel, _ = ends
    start = time.monotonic()
    with pytest.raises(ChannelTimeout):
        channel.call("plan", 0, 1, 0.05)
    assert time.monotonic() - start < 1


def test_a_reply_that_trickles_is_a_timeout(ends):
    channel, theirs = ends

    def trickle():
        theirs.recv(REQUEST.size)
        for _ in range(20):
            theirs.sendall(b"x")
            time.sleep(0.03)

    thread = threading.Thread(target=trickle)
    thread.start()
    with pytest.raises(ChannelTimeout):
        channel.call("run", 0, 1, 0.2)
    thread.join()


def test_a_closed_end_is_a_gone_worker(ends):
    channel, theirs = ends
    theirs.close()
    with pytest.raises(WorkerGone):
        channel.call("run", 0, 1, 5)


def json_reply(text):
    return lambda kind, slot, length, nonce: (
        REPLY.pack(Kind.JSON, 0, len(text), nonce, 0, 0, 0) + text
    )


def exchange_json(text, maximum_bytes=1 << 20):
    ours, theirs = socket.socketpair()
    channel = Channel(os.dup(ours.fileno()), ours.detach())
    thread = answer_with(theirs, json_reply(text))
    try:
        channel.send_json({})
        return channel.receive_json(5, maximum_bytes)
    finally:
        thread.join()
        channel.close()
        theirs.close()


@pytest.mark.parametrize(
    "text",
    [
        b"[1]", b"null", b"{", b"\xff\xfe", b'{"a": NaN}', b'{"a": Infinity}', b"\x80\x04K\x01.",
        b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_bad_json_is_a_violation(text):
    with pytest.raises(ProtocolViolation) as caught:
        exchange_json(text)
    assert len(str(caught.value.evidence)) < 2000


def test_json_over_the_cap_is_a_violation_before_it_is_read():
    with pytest.raises(ProtocolViolation, match="too long"):
        exchange_json(b'{"a": 1}', maximum_bytes=4)


@settings(max_examples=100)
@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_either_are_an_object_or_a_channel_error(text):
    try:
        value = exchange_json(text)
    except ChannelError:
        return
    assert isinstance(value, dict)


@settings(max_examples=50)
@given(st.binary(min_size=1, max_size=100))
def test_any_reply_that_was_not_made_for_the_request_is_refused(data):
    ours, theirs = socket.socketpair()
    channel = Channel(os.dup(ours.fileno()), ours.detach())
    thread = answer_with(theirs, lambda *_: data)
    with pytest.raises(ChannelError):
        channel.call("run", 0, 1, 0.05)
    thread.join()
    channel.close()
    theirs.close()


def test_an_isolation_survives_json():
    isolation = probe()
    text = json.dumps(isolation_to_json(isolation))
    assert isolation_from_json(json.loads(text)) == isolation


# --- the worker ---------------------------------------------------------------------------------

CPP = r"""
#include <cstddef>
#include <cstdint>
struct Inputs { int64_t n; const float* x; const int32_t* page; };
struct Outputs { float* y; };
extern "C" size_t workspace_bytes(const Inputs* in) { return in->x ? 0 : 4096 * in->n; }
extern "C" int plan(const Inputs* in, void* workspace) {
  if (in->x || !in->page || (uintptr_t)workspace % 64) return 1;
  *(int32_t*)workspace = in->page[0];
  return 0;
}
extern "C" int run(const Inputs* in, const Outputs* out, void* workspace, void* stream) {
  if (stream) return 2;
  for (int64_t i = 0; i < in->n; ++i) out->y[i] = in->x[i] + *(int32_t*)workspace;
  return 0;
}
"""
SIGNATURE = {
    "axes": ["n"],
    "inputs": [
        {"name": "x", "dtype": "float32", "shape": ["n"], "index": False},
        {"name": "page", "dtype": "int32", "shape": [1], "index": True},
    ],
    "outputs": [{"name": "y", "dtype": "float32", "shape": ["n"], "index": False}],
}
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def parents():
    with WarmParent("none", probe()) as plain, WarmParent("torch", probe()) as torch:
        yield {"cpp": plain, "python": torch}


@pytest.fixture(scope="module")
def library(parents):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.cpp").write_text(CPP)
        result = parents["cpp"].run_command(
            ["g++", "-shared", "-fPIC", "-o", "a.so", "a.cpp"],
            job_folder=Path(folder),
            limits=Limits(),
            environment=ENVIRONMENT,
            timeout_seconds=60,
        )
        assert result.returncode == 0, result.stderr
        return Path(folder, "a.so").read_bytes()


class Served:
    """A worker with one memory file: x at 4096, page at 8192, y at 12288."""

    def __init__(self, parent, language, code):
        self.folder = tempfile.TemporaryDirectory()
        Path(self.folder.name, "code").write_bytes(code)
        self.descriptor = os.memfd_create("memory", os.MFD_ALLOW_SEALING)
        os.ftruncate(self.descriptor, 16384)
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        self.memory = mmap.mmap(self.descriptor, 16384)
        self.memory[4096:4108] = struct.pack("<3f", 1, 2, 3)
        self.memory[8192:8196] = struct.pack("<i", 10)
        self.worker = parent.start_worker(
            job_folder=Path(self.folder.name),
            descriptors=[self.descriptor],
            limits=Limits(),
            environment=ENVIRONMENT,
        )
        self.channel = self.worker.channel
        self.loaded = self.ask(
            {"op": "load", "language": language, "file": "code", "signature": SIGNATURE}
        )

    def ask(self, message):
        self.channel.send_json(message)
        return self.channel.receive_json(30)

    def bind(self, y=12288):
        slot = {"x": [0, 4096], "page": [0, 8192], "y": [0, y]}
        return self.ask({"op": "bind", "workload": {"axes": {"n": 3}}, "slots": [slot]})

    def y(self):
        return struct.unpack("<3f", self.memory[12288:12300])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.worker.kill()
        os.close(self.descriptor)
        self.folder.cleanup()


def test_a_cpp_worker_plans_and_runs_with_a_workspace(parents, library):
    with Served(parents["cpp"], "cpp", library) as served:
        assert served.loaded == {"ok": True, "workspace": True, "plan": True}
        assert served.bind() == {"ok": True, "workspace_bytes": 3 * 4096}
        served.channel.ping(5)
        assert served.channel.call("plan", 0, 1, 5).return_code == 0
        assert served.channel.call("run", 0, 2, 5).return_code == 0
        assert served.y() == (11, 12, 13)


def test_an_unusable_library_becomes_a_bounded_message(parents):
    with Served(parents["cpp"], "cpp", b"\x7fELF nonsense" * 10_000) as served:
        assert served.loaded["ok"] is False
        assert served.loaded["error_class"] == "load"
        assert len(served.loaded["message"]) <= 2000


def test_a_tensor_outside_its_memory_is_refused(parents, library):
    with Served(parents["cpp"], "cpp", library) as served:
        assert served.bind(y=16380)["error_class"] == "memory"


def python(parents, body):
    return Served(parents["python"], "python", body.encode())


@pytest.mark.parametrize(
    "result",
    ["inputs.x * 2", "(inputs.x * 2,)", "{'y': inputs.x * 2}", "outputs.y.copy_(inputs.x * 2)"],
)
def test_what_a_python_candidate_returns_is_in_the_outputs(parents, result):
    with python(parents, f"def run(inputs, outputs):\n    return {result}\n") as served:
        assert served.loaded == {"ok": True, "workspace": False, "plan": False}
        assert served.bind()["ok"] is True
        assert served.channel.call("run", 0, 1, 20).return_code == 0
        assert served.y() == (2, 4, 6)


@pytest.mark.parametrize(
    ("result", "error_class"),
    [
        ("inputs.x[:2]", "shape"),
        ("inputs.x.double()", "dtype"),
        ("(inputs.x, inputs.x)", "shape"),
        ("torch.nn.Parameter(inputs.x)", "dtype"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_python_result_that_does_not_fit_has_a_name(parents, result, error_class):
    body = f"import torch\ndef run(inputs, outputs):\n    return {result}\n"
    with python(parents, body) as served:
        served.bind()
        assert served.channel.call("run", 0, 1, 20).return_code == 1
        assert served.ask({"op": "error"})["error_class"] == error_class


def test_plan_of_a_python_candidate_sees_index_metadata_only(parents):
    body = "def plan(inputs):\n    assert inputs.x is None and inputs.n == 3\n"
    body += "    assert inputs.page.tolist() == [10]\ndef run(inputs, outputs):\n    pass\n"
    with python(parents, body) as served:
        served.bind()
        assert served.channel.call("plan", 0, 1, 20).return_code == 0


def test_every_python_call_gets_fresh_objects(parents):
    body = "def run(inputs, outputs):\n    assert not hasattr(inputs, 'seen')\n"
    body += "    assert not hasattr(inputs.x, 'seen')\n    inputs.seen = inputs.x.seen = 1\n"
    with python(parents, body) as served:
        served.bind()
        codes = [served.channel.call("run", 0, n, 20).return_code for n in range(3)]
        assert codes == [0, 0, 0]


def test_a_parallel_torch_operation_works_in_a_forked_worker(parents):
    body = "import torch\ntorch.set_num_threads(2)\ndef run(inputs, outputs):\n"
    body += "    outputs.y.fill_(float(torch.ones(700, 700).mm(torch.ones(700, 700))[0, 0]))\n"
    with python(parents, body) as served:
        served.bind()
        assert served.channel.call("run", 0, 1, 20).return_code == 0
        assert served.y() == (700, 700, 700)


def test_a_python_candidate_cannot_import_the_suites(parents):
    body = "import importlib.util\ntry:\n    import suites.cpu\n    found = 1\n"
    body += "except ImportError:\n    found = 0\ndef run(inputs, outputs):\n    return None\n"
    body += "if found: raise RuntimeError('the suites are importable')\n"
    with python(parents, body) as served:
        assert served.loaded["ok"] is True


def test_memory_that_could_shrink_is_refused(parents):
    descriptor = os.memfd_create("memory", os.MFD_ALLOW_SEALING)
    with pytest.raises(ValueError, match="not sealed"):
        parents["cpp"].start_worker(
            job_folder=Path("/tmp"), descriptors=[descriptor], limits=Limits(), environment={}
        )
    os.close(descriptor)


class Gate:
    """A hold that remembers what it was told."""

    def __init__(self, patience_seconds: float) -> None:
        self.patience_seconds = patience_seconds
        self.told: list[str] = []

    def open(self) -> None:
        self.told.append("open")

    def ended(self) -> None:
        self.told.append("ended")


def reply_to(request, kind=None):
    of, _, number, nonce = request
    return REPLY.pack(of if kind is None else kind, 0, number, nonce, 7, 0, 0)


def held(ends, serve, patience_seconds=2.0):
    """A held call; `serve(theirs, request, gate)` plays the worker."""
    channel, theirs = ends
    gate = Gate(patience_seconds)

    def worker():
        serve(theirs, REQUEST.unpack(theirs.recv(REQUEST.size)), gate)

    thread = threading.Thread(target=worker)
    thread.start()
    try:
        return channel.call("run", 0, 9, 5, hold=gate), gate
    finally:
        thread.join()


def wait_until_open(gate):
    deadline = time.monotonic() + 5
    while "open" not in gate.told and time.monotonic() < deadline:
        time.sleep(0.001)


def test_a_held_call_is_let_through_once_it_is_queued(ends):
    before: list[list[str]] = []

    def serve(theirs, request, gate):
        before.append(list(gate.told))
        theirs.sendall(reply_to(request, Kind.QUEUED))
        wait_until_open(gate)
        theirs.sendall(reply_to(request))

    reply, gate = held(ends, serve)
    assert before == [[]]
    assert gate.told == ["open", "ended"]
    assert reply.queued
    assert reply.worker.call_ns == 7


def test_a_call_that_cannot_be_queued_is_let_through_after_a_moment(ends):
    def serve(theirs, request, gate):
        wait_until_open(gate)
        theirs.sendall(reply_to(request, Kind.QUEUED) + reply_to(request))

    reply, gate = held(ends, serve, patience_seconds=0.01)
    assert gate.told == ["open", "ended"]
    assert not reply.queued


def test_a_held_call_that_fails_before_it_is_queued_is_answered(ends):
    reply, gate = held(ends, lambda theirs, request, gate: theirs.sendall(reply_to(request)))
    assert not reply.queued
    assert gate.told == ["open", "ended"]


@pytest.mark.parametrize(
    "frames",
    [
        lambda request: [Kind.QUEUED, Kind.QUEUED],
        lambda request: [Kind.PLAN],
        lambda request: [Kind.QUEUED, Kind.PING],
    ],
    ids=["twice", "another kind", "queued, then another kind"],
)
def test_a_held_call_with_wrong_frames_is_a_violation(ends, frames):
    def serve(theirs, request, gate):
        theirs.sendall(b"".join(reply_to(request, kind) for kind in frames(request)))

    with pytest.raises(ProtocolViolation, match="another kind"):
        held(ends, serve)


def test_a_forged_frame_queued_is_a_violation(ends):
    def serve(theirs, request, gate):
        kind, slot, number, _ = request
        theirs.sendall(reply_to((kind, slot, number, bytes(8)), Kind.QUEUED))

    with pytest.raises(ProtocolViolation, match="forged"):
        held(ends, serve)

"""The harness's end of a judge's process: starts it, asks it, starts it again when it died.

Covered: one judge; a scrubbed environment; a judge that dies on a request is replaced and asked
once more. Not covered: what it answers (judge_process.py); several judges (local_gpu.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import harness
from harness.errors import InfraError
from harness.types import JsonObject

# Also where the harness is a checkout that is not installed.
_BOOTSTRAP = (
    "import sys; sys.path.append(sys.argv.pop()); "
    "from harness.evaluate.judge_process import main; main()"
)
# The last is where suites/flashinfer finds its data set.
_INHERITED = ("PATH", "TMPDIR", "LANG", "LD_LIBRARY_PATH", "FIB_DATASET_PATH")


class LastingJudge:
    """A judge that is started when it is first asked, and again when it died. Thread-safe: one
    request at a time."""

    def __init__(
        self, setup: Mapping[str, object], environment: Mapping[str, str] | None = None
    ) -> None:
        self._setup = setup
        self._environment = environment
        self._lock = threading.Lock()
        self._client: JudgeClient | None = None

    def ask(self, request: JsonObject) -> JsonObject:
        """The answer. Raises InfraError if it says so, or died twice."""
        with self._lock:
            for attempt in (1, 2):
                try:
                    self._ready()
                    answer = self._started().ask(request)
                except (OSError, ValueError) as error:
                    self._end()
                    if attempt == 2:
                        raise InfraError(
                            "The judge's process ended twice on the same request. "
                            "Run `harness doctor`; free memory if the machine is short of it."
                        ) from error
                    continue
                if "infra" in answer:
                    raise InfraError(str(answer["infra"]))
                return answer
        raise AssertionError("unreachable")

    def start(self) -> None:
        """Begin to start it; `ready` waits."""
        with self._lock:
            self._started()

    def ready(self) -> JsonObject:
        """What the judge says of its device. Raises InfraError if it does not start."""
        with self._lock:
            return self._ready()

    def _started(self) -> JudgeClient:
        if self._client is None:
            self._client = JudgeClient(self._setup, self._environment)
        return self._client

    def _ready(self) -> JsonObject:
        try:
            return self._started().ready()
        except InfraError:
            self._end()
            raise

    def close(self) -> None:
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


class JudgeClient:
    """The judge's process and the socket to it. Its constructor does not wait until it can be
    asked. Raises OSError or ValueError when it is gone.

    setup: see judge_process.py. environment: what it sees besides a few variables of this process.
    """

    def __init__(
        self, setup: Mapping[str, object], environment: Mapping[str, str] | None = None
    ) -> None:
        ours, theirs = socket.socketpair()
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment = inherited | dict(environment or {})
        # One BLAS thread: the judge's own arithmetic must not compete with what it times.
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        # The C library keeps freed arrays instead of giving their pages back: verifying a call took
        # half of its time in page faults.
        environment |= {
            "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
            "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
        }
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-c",
                    _BOOTSTRAP,
                    str(theirs.fileno()),
                    str(Path(harness.__file__).resolve().parents[1]),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C goes to the harness, which ends us in order
            )
        self._socket = ours
        self._lines = ours.makefile("r", encoding="utf-8")
        self._device: JsonObject | None = None
        with contextlib.suppress(OSError):  # if it has ended, `ready` says so
            self._send(setup)

    def ready(self) -> JsonObject:
        """What it says of its device. Raises InfraError if it does not start."""
        if self._device is None:
            try:
                self._device = self._receive()
            except (OSError, ValueError) as error:
                raise InfraError(
                    "The judge's process did not start; its message is above. Run `harness doctor`."
                ) from error
        return self._device

    def ask(self, request: JsonObject) -> JsonObject:
        """The answer of a judge that is ready."""
        self._send(request)
        return self._receive()

    def _send(self, message: Mapping[str, object]) -> None:
        self._socket.sendall((json.dumps(message) + "\n").encode())

    def _receive(self) -> JsonObject:
        answer = json.loads(self._lines.readline())  # "" (its end) is no JSON: ValueError
        if not isinstance(answer, dict):
            raise ValueError("the judge's answer is no object")
        return answer

    def close(self) -> None:
        """Let it end its workers and remove their folders; if it does not answer, just end it."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._socket.sendall(b'{"op": "close"}\n')
            self._process.wait(timeout=5)
        self._lines.close()
        self._socket.close()  # it ends at once when its socket closes
        self._process.wait()

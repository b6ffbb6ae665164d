"""One foreign program as a child process: started, heard, stopped for timed blocks, ended.

    with Child(command, folder=..., environment=..., output=..., on_end=wake) as child:
        ... child.ended ... child.last_words()

Covered: a scrubbed environment; standard output and error together in one bounded file; the end
told once to `on_end`; SIGTERM and, on leaving the block, the end of everything that the program has
started (`keeper.py`). Not covered: what the program says over HTTP (`endpoint.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import harness
from harness.errors import EnvironmentMissing, InfraError
from harness.foreign.giving_way import PROGRAMS

OUTPUT_BYTES = 1 << 20  # of the output's beginning that is kept, and a quarter of it of the end
LAST_WORDS_CHARACTERS = 1200
LAST_WORDS_LINES = 15

_START_SECONDS = 30.0
_END_SECONDS = 15.0
_BOOTSTRAP = (
    "import sys; sys.path.append(sys.argv.pop(1)); from harness.foreign.keeper import main; main()"
)
# What a program may need of the user's environment to find its tools; nothing that holds a secret.
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")


@dataclass(frozen=True)
class Ending:
    """How a program ended: by an exit status or a signal. why: the keeper's reason, if it was the
    keeper who ended it."""

    code: int | None
    signal: str | None
    why: str = ""

    def __str__(self) -> str:
        how = f"exit status {self.code}" if self.signal is None else f"signal {self.signal}"
        return f"{how}: {self.why}" if self.why else how


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say what to do where the program's folder cannot be written."""
    try:
        yield
    except OSError as error:
        raise EnvironmentMissing(
            f"Cannot write {folder}: {error.strerror}. Free space there or allow writing; then "
            "`harness resume` goes on."
        ) from error


def scrubbed(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a program: its own variables, tools, and folders below `folder`."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {
        "LANG": "C.UTF-8",
        **passed,
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "XDG_CACHE_HOME": str(folder / "home" / "cache"),
        "XDG_CONFIG_HOME": str(folder / "home" / "config"),
        "NO_PROXY": "*",
        "no_proxy": "*",
        # Numerical libraries of a program that plans must not take the machine's cores.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",  # the order of sets of texts
        "PYTHONUNBUFFERED": "1",
        **environment,
    }


class Child:
    """A running program. A context manager.

    folder: holds its home and temporary folder, and `work`, the empty folder that it starts in.
    Raises EnvironmentMissing if the command cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        on_end: Callable[[], None],
    ) -> None:
        self.ended: Ending | None = None
        self.output = folder / "output.txt"
        self._on_end = on_end
        self._tail = bytearray()
        self._dropped = 0
        with writing(folder):
            for name in ("home", "tmp", "work"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            self._file = self.output.open("wb", buffering=0)
        self._group = 0
        status, theirs = os.pipe()
        words, mouth = os.pipe()
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as passed_on:
            undo.callback(self._file.close)
            undo.callback(os.close, words)
            undo.callback(os.close, status)
            passed_on.callback(os.close, mouth)
            passed_on.callback(os.close, theirs)
            self._keeper = _start_keeper(command, folder, environment, theirs, mouth)
            undo.pop_all()
        assert self._keeper.stdin is not None
        self._status: BinaryIO = os.fdopen(status, "rb")
        self._listener = threading.Thread(target=self._listen, args=(words,), name="program-output")
        self._listener.start()
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self._group = self._started(command)
            undo.pop_all()
        PROGRAMS.add(self._group)
        self._watcher = threading.Thread(target=self._watch, name="program-end")
        self._watcher.start()

    def _started(self, command: Sequence[str]) -> int:
        ready, _, _ = select.select([self._status], [], [], _START_SECONDS)
        line = self._status.readline() if ready else b""
        if not line:
            raise InfraError(f"The keeper of {command[0]} did not start: {self.last_words()}")
        event = json.loads(line)
        if event["event"] == "failed":
            raise EnvironmentMissing(
                f"Cannot start the program {event['message']}. Check the command of the method, "
                "and that it is installed on this machine."
            )
        return int(event["pid"])

    def _watch(self) -> None:
        line = self._status.readline()
        if line:
            event = json.loads(line)
            self.ended = Ending(event["code"], event["signal"], event.get("why", ""))
        else:
            self.ended = Ending(None, "SIGKILL", "its keeper ended, and it with it")
        self._on_end()

    def _listen(self, words: int) -> None:
        """Keep the beginning and the end of the output; drop the middle of a flood. Goes on
        listening when the disk is full: nobody may wait for this pipe."""
        with os.fdopen(words, "rb", buffering=0) as stream, self._file:
            room = OUTPUT_BYTES
            while piece := stream.read(1 << 16):
                self._keep(piece[:room])
                rest = piece[room:]
                room -= min(room, len(piece))
                self._tail += rest
                excess = len(self._tail) - OUTPUT_BYTES // 4
                if excess > 0:
                    del self._tail[:excess]
                    self._dropped += excess
            if self._dropped:
                self._keep(f"\n[{self._dropped} bytes left out]\n".encode())
            self._keep(self._tail)
            self._tail.clear()

    def _keep(self, words: bytes | bytearray) -> None:
        with contextlib.suppress(OSError):
            self._file.write(words)

    def last_words(self) -> str:
        """The last lines of the output, or that there are none."""
        kept = self.output.read_bytes() if self.output.exists() else b""
        text = (kept[-8192:] + bytes(self._tail[-8192:])).decode("utf-8", "replace")
        lines = [line.rstrip() for line in text.splitlines() if line.strip()]
        words = "\n".join(lines[-LAST_WORDS_LINES:])[-LAST_WORDS_CHARACTERS:]
        return words or "(it printed nothing)"

    def interrupt(self) -> None:
        """Ask the program to end: SIGTERM to its process group."""
        if self.ended is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._group, signal.SIGTERM)

    def close(self) -> None:
        """End the program and everything that it started; its output is complete afterwards."""
        if self._group:
            PROGRAMS.remove(self._group)
            self._group = 0
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        try:
            self._keeper.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        self._listener.join(_END_SECONDS)
        if hasattr(self, "_watcher"):
            self._watcher.join()
        self._status.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _start_keeper(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], status: int, mouth: int
) -> subprocess.Popen[bytes]:
    root = str(Path(harness.__file__).resolve().parents[1])
    options = ["-I", "-B", "-S", "-X", "utf8", "-c", _BOOTSTRAP]
    try:
        return subprocess.Popen(
            [sys.executable, *options, root, str(status), *command],
            stdin=subprocess.PIPE,
            stdout=mouth,
            stderr=mouth,
            pass_fds=[status],
            cwd=folder / "work",
            env=scrubbed(folder, environment),
            start_new_session=True,  # a terminal's Ctrl-C is for the harness
        )
    except OSError as error:
        raise EnvironmentMissing(f"Cannot start {sys.executable}: {error.strerror}.") from error

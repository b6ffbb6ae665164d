"""A Python package in a virtual environment of its own, made on first use from a lock file.

Foreign packages conflict with each other and with the harness, so none is installed beside it. A
lock file names every package with its version and the hashes of its files, and nothing else is
installed (`pip install --require-hashes --no-deps`): what runs is what was tested, or nothing.

    <cache>/environments/<name>-<hash of the lock, the Python, the platform>/

The cache is HARNESS_CACHE, or kernel-search-harness below XDG_CACHE_HOME or ~/.cache. Once made, an
environment needs no network; it is never changed, and another lock makes another one.

Covered: progress, two processes at once (a lock file), a request to stop, an installation that was
cut off (begun anew). Not covered: removing what is no longer used (delete the folder); which
package index pip uses, which is the user's configuration of pip.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.errors import EnvironmentMissing
from harness.types import canonical_json, content_hash

_PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")
_LAST_LINES = 6  # of pip's output, in an error
_POLL_SECONDS = 0.2  # between two looks whether to give up
_PIN = re.compile(r"^[A-Za-z0-9]")
_COLLECTING = re.compile(r"^(Collecting|Processing|Installing collected packages)")


def cache_folder() -> Path:
    """Where environments are kept."""
    own = os.environ.get("HARNESS_CACHE")
    if own:
        return Path(own).expanduser().resolve()
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(shared).expanduser().resolve() / "kernel-search-harness"


def beside(module: str, name: str) -> Path:
    """A file in the folder of a module, given its __file__."""
    return Path(module).with_name(name)


def files(module: str, *names: str) -> dict[str, str]:
    """Texts for `ForeignProgram.files`: the named files beside a module, and the bridge."""
    found = {name: beside(module, name).read_text(encoding="utf-8") for name in names}
    return {**found, "bridge.py": beside(__file__, "bridge.py").read_text(encoding="utf-8")}


@dataclass(frozen=True)
class PythonEnvironment:
    """name: of the package with its version, "openevolve-0.4.0". lock: requirements with hashes.
    megabytes: what it takes on the disk, for the message before it is made."""

    name: str
    lock: Path
    megabytes: int

    @property
    def folder(self) -> Path:
        """Where this environment is, or will be."""
        text = self.lock.read_text(encoding="utf-8")
        machine = [platform.system(), platform.machine(), sys.version_info[:2], sys.base_prefix]
        name = f"{self.name}-{content_hash(canonical_json([text, machine]))}"
        return cache_folder() / "environments" / name

    @property
    def ready(self) -> bool:
        return (self.folder / ".ready").exists()

    def python(self) -> Path:
        """Its interpreter. Raises EnvironmentMissing if it was not made."""
        if not self.ready:
            raise EnvironmentMissing(
                f"The environment of {self.name} is not there ({self.folder}). Make it where the "
                "package index can be reached: harness prepare"
            )
        return self.folder / "bin" / "python"

    def command(self, driver: str) -> tuple[str, ...]:
        """How `ForeignProgram` starts a driver in this environment. Raises EnvironmentMissing.

        Not with -I, which would ignore PYTHONHASHSEED: the environment is scrubbed instead, so that
        no other variable of Python's is there, and neither the driver's folder nor the user's
        packages are on the path.
        """
        return (str(self.python()), "-P", "-s", f"{{files}}/{driver}")

    def make(self, say: Callable[[str], None], stop: threading.Event) -> None:
        """Make it, once. say: shows a line of progress. stop: gives up. Raises
        EnvironmentMissing."""
        if self.ready:
            return
        with self._alone(say, stop) as lock:
            if self.ready:
                return
            shutil.rmtree(self.folder, ignore_errors=True)
            pins = self.lock.read_text(encoding="utf-8").splitlines()
            count = sum(1 for line in pins if _PIN.match(line))
            say(
                f"Installing {self.name} into an environment of its own, once: {count} packages, "
                f"{self.megabytes} MB, {self.folder}"
            )
            self._run([sys.executable, "-m", "venv", str(self.folder)], lock, stop, None)
            python = str(self.folder / "bin" / "python")
            options = ["install", "--progress-bar", "off", "--require-hashes", "--no-deps"]
            command = [python, "-I", *_PIP, *options, "-r", str(self.lock)]
            self._run(command, lock, stop, _Progress(self.name, count, say))
            (self.folder / ".ready").touch()
            say(f"{self.name} is installed.")

    @contextmanager
    def _alone(self, say: Callable[[str], None], stop: threading.Event) -> Iterator[int]:
        """Hold the environment's lock; its descriptor."""
        path = self.folder.with_name(f"{self.folder.name}.lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise EnvironmentMissing(
                f"Cannot write {path.parent}: {error.strerror}. Make it writable, or set "
                "HARNESS_CACHE to another folder."
            ) from error
        try:
            waiting = False
            while not _taken(descriptor):
                if not waiting:
                    say(f"Another process is installing {self.name}; waiting for it ...")
                waiting = True
                if stop.wait(_POLL_SECONDS):
                    raise self._given_up()
            yield descriptor
        finally:
            os.close(descriptor)

    def _run(
        self,
        command: list[str],
        lock: int,
        stop: threading.Event,
        progress: Callable[[str], None] | None,
    ) -> None:
        """Run a command to its end, in a session of its own: Ctrl-C is for this process to hear.

        It inherits the lock, so that nobody begins anew before it has ended, also if this process
        is killed.
        """
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        last: deque[str] = deque(maxlen=_LAST_LINES)
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment,
                start_new_session=True,
                pass_fds=(lock,),
            )
        except OSError as error:
            raise self._not_made(command, 1, [str(error)]) from error
        reader = threading.Thread(target=_read, args=(process, last, progress), daemon=True)
        reader.start()
        try:
            while process.poll() is None:
                if stop.wait(_POLL_SECONDS):
                    raise self._given_up()
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)  # not yet waited for, so it is there
                process.wait()
            reader.join()
        if process.returncode != 0:
            raise self._not_made(command, process.returncode, last)

    def _given_up(self) -> EnvironmentMissing:
        return EnvironmentMissing(
            f"The installation of {self.name} was interrupted; the next one begins anew."
        )

    def _not_made(self, command: list[str], status: int, last: Iterable[str]) -> EnvironmentMissing:
        words = "\n  ".join(last) or "(it printed nothing)"
        return EnvironmentMissing(
            f"The environment of {self.name} could not be made ({' '.join(command[1:4])} ended "
            f"with status {status}):\n  {words}\nCheck that the package index can be reached "
            f"(pip's own settings apply) and that {cache_folder()} has room, then: harness prepare"
        )


def _taken(descriptor: int) -> bool:
    """Whether the lock is ours now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(
    process: subprocess.Popen[str], last: deque[str], progress: Callable[[str], None] | None
) -> None:
    """Pass on what the process prints, and keep its last lines."""
    assert process.stdout is not None
    for line in process.stdout:
        last.append(line.rstrip())
        if progress is not None:
            progress(line)


class _Progress:
    """pip's lines, as a count of packages."""

    def __init__(self, name: str, count: int, say: Callable[[str], None]) -> None:
        self._name, self._count, self._say = name, count, say
        self._seen = 0

    def __call__(self, line: str) -> None:
        if not _COLLECTING.match(line):
            return
        if line.startswith("Installing"):
            self._say(f"{self._name}: {self._seen} packages are here, unpacking them ...")
            return
        self._seen += 1
        if self._seen % 10 == 0:
            self._say(f"{self._name}: {self._seen} of about {self._count} packages ...")

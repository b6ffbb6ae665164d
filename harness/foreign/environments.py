"""A Python package in a virtual environment of its own, made on first use from a lock file.

Foreign packages conflict with each other and with the harness, so none is installed beside it. A
lock file names every package with its version and the hashes of its files, and nothing else is
installed (`pip install --require-hashes --no-deps`): what runs is what was tested, or nothing. The
bytecode is compiled afterwards, on every core: it is most of the work, and pip would use one core.

    <cache>/environments/<name>-<hash of the lock, the Python, the platform>/

The cache is HARNESS_CACHE, or kernel-search-harness below XDG_CACHE_HOME or ~/.cache. Once made, an
environment needs no network; it is never changed, and another lock makes another one.

A machine without a package index is carried a folder of wheels, named by HARNESS_WHEELS. There,
unless the locked environment was made before, another one is made: wheels of the locked versions
as far as the folder has them, and what it lacks from the packages of the interpreter that makes it,
in whatever version those are, which a .pth file puts behind the wheels. It must be able to import
what the program and its drivers import. packages.json says what it holds and where that is not what
the lock says; another folder of wheels or another version in the system makes another environment.

Covered: progress, two processes at once (a lock file), a request to stop, an installation that was
cut off (begun anew). Not covered: removing what is no longer used (delete the folder); which
package index pip uses, which is the user's configuration of pip; packages that the interpreter
finds by PYTHONPATH, or by a .pth file of its own (editable installations).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.errors import EnvironmentMissing
from harness.foreign.carried import (
    IMPORT_CHECK,
    PIN,
    Package,
    check_complete,
    deviation,
    imported_beside,
    program_of,
    resolve,
    sites,
)  # fmt: skip
from harness.types import JsonObject, canonical_json, content_hash

_PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")
_INSTALL = ("install", "--progress-bar", "off", "--no-deps", "--no-compile")
_LAST_LINES = 6  # of pip's output, in an error
_RECORD = "packages.json"  # what an environment of carried wheels holds
_POLL_SECONDS = 0.05  # between two looks whether to give up
_COLLECTING = re.compile(r"^(Collecting|Processing|Installing collected packages)")


def cache_folder() -> Path:
    """Where environments are kept."""
    own = os.environ.get("HARNESS_CACHE")
    if own:
        return Path(own).expanduser().resolve()
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(shared).expanduser().resolve() / "kernel-search-harness"


def wheels_folder() -> Path | None:
    """The folder of carried wheels, if HARNESS_WHEELS names one."""
    named = os.environ.get("HARNESS_WHEELS")
    return Path(named).expanduser().resolve() if named else None


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
        """Where this environment is, or will be: the locked one, or, where HARNESS_WHEELS is set
        and the locked one was not made, the one of carried wheels. Raises EnvironmentMissing."""
        locked = self._folder()
        wheels = wheels_folder()
        if wheels is None or (locked / ".ready").exists():
            return locked
        found = [
            [package.name, package.version, package.origin, package.wheel and package.wheel.name]
            for package in self._packages(wheels)
        ]
        return self._folder("wheels", found, sites())

    def _folder(self, *more: object) -> Path:
        text = self.lock.read_text(encoding="utf-8")
        machine = [platform.system(), platform.machine(), sys.version_info[:2], sys.base_prefix]
        name = f"{self.name}-{content_hash(canonical_json([text, machine, *more]))}"
        return cache_folder() / "environments" / name

    def _packages(self, wheels: Path) -> list[Package]:
        return resolve(self.lock.read_text(encoding="utf-8"), wheels, sites())

    @property
    def carried(self) -> JsonObject | None:
        """packages.json of an environment of carried wheels: {wheels, system, packages: [{name,
        locked, version, from, as_locked}]}. None for a locked one, and before it is made."""
        path = self.folder / _RECORD
        found: JsonObject | None = json.loads(path.read_bytes()) if path.exists() else None
        return found

    @property
    def deviations(self) -> list[JsonObject]:
        """The packages that are not as locked: {name, locked, version, from, as_locked}."""
        carried = self.carried
        return [] if carried is None else [p for p in carried["packages"] if not p["as_locked"]]

    @property
    def ready(self) -> bool:
        return (self.folder / ".ready").exists()

    def python(self) -> Path:
        """Its interpreter. Raises EnvironmentMissing if it was not made."""
        if not self.ready:
            raise EnvironmentMissing(
                f"The environment of {self.name} is not there ({self.folder}). Make it where the "
                "package index can be reached: harness prepare; or from carried wheels: harness "
                "prepare --wheels FOLDER"
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
            self._tell(say)
            return
        with self._alone(say, stop) as lock:
            if self.ready:
                self._tell(say)
                return
            shutil.rmtree(self.folder, ignore_errors=True)
            wheels = wheels_folder()
            if wheels is None:
                self._install_locked(lock, say, stop)
            else:
                self._install_wheels(wheels, lock, say, stop)
            (self.folder / ".ready").touch()
            self._tell(say)
            say(f"{self.name} is installed.")

    def _install_locked(self, lock: int, say: Callable[[str], None], stop: threading.Event) -> None:
        """Make it from the package index."""
        folder = self.folder
        pins = self.lock.read_text(encoding="utf-8").splitlines()
        count = sum(1 for line in pins if PIN.match(line))
        say(
            f"Installing {self.name} into an environment of its own, once: {count} packages, "
            f"{self.megabytes} MB, {folder}"
        )
        self._run([sys.executable, "-m", "venv", str(folder)], lock, stop)
        python = str(folder / "bin" / "python")
        command = [python, "-I", *_PIP, *_INSTALL, "--require-hashes", "-r", str(self.lock)]
        self._run(command, lock, stop, _Progress(self.name, count, say))
        self._compile(folder, lock, stop)

    def _install_wheels(
        self, wheels: Path, lock: int, say: Callable[[str], None], stop: threading.Event
    ) -> None:
        """Make it from carried wheels and the packages of this interpreter."""
        folder, packages, behind = self.folder, self._packages(wheels), sites()
        check_complete(self.name, packages, wheels, behind)
        carried = [str(package.wheel) for package in packages if package.wheel is not None]
        say(
            f"Installing {self.name} into an environment of its own, once: {len(carried)} packages "
            f"from {wheels}, {sum(package.origin == 'system' for package in packages)} from "
            f"{', '.join(behind)}, {folder}"
        )
        self._run([sys.executable, "-m", "venv", "--without-pip", str(folder)], lock, stop)
        python = str(folder / "bin" / "python")
        pip = [sys.executable, "-I", *_PIP, "--python", python]
        progress = _Progress(self.name, len(carried), say)
        self._run([*pip, *_INSTALL, "--no-index", *carried], lock, stop, progress)
        self._compile(folder, lock, stop)
        # Only now, or pip would take a package of the system's for installed.
        base = {"base": str(folder), "platbase": str(folder)}
        path = Path(sysconfig.get_path("purelib", "venv", base)) / "system.pth"
        path.write_text("".join(f"{site}\n" for site in behind), encoding="utf-8")
        seen = folder / "found.json"
        names = json.dumps([package.name for package in packages])
        modules = json.dumps(imported_beside(self.lock.parent))
        told = [str(seen), program_of(self.name), names, modules]
        self._run([python, "-P", "-s", "-c", IMPORT_CHECK, *told], lock, stop)
        self._record(packages, wheels, json.loads(seen.read_text(encoding="utf-8")))

    def _compile(self, folder: Path, lock: int, stop: threading.Event) -> None:
        """Compile on every core what pip did not. A file that does not compile is left, as pip
        would leave it."""
        python = str(folder / "bin" / "python")
        command = [python, "-I", "-m", "compileall", "-q", "-j", "0", str(folder)]
        self._run(command, lock, stop, may_fail=True)

    def _record(self, packages: Sequence[Package], wheels: Path, found: dict[str, str]) -> None:
        """Write down what the new environment sees."""
        text = self.lock.read_text(encoding="utf-8")
        rows = []
        for package in packages:
            version = found.get(package.name)
            as_locked = version == package.locked
            if package.wheel is not None:
                as_locked &= hashlib.sha256(package.wheel.read_bytes()).hexdigest() in text
            row = {"name": package.name, "locked": package.locked, "version": version}
            rows.append(row | {"from": package.origin, "as_locked": as_locked})
        data = {"wheels": str(wheels), "system": sites(), "packages": rows}
        (self.folder / _RECORD).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")

    def _tell(self, say: Callable[[str], None]) -> None:
        """Say where this environment is not what the lock says, if it is of carried wheels."""
        made = self.carried
        if made is None:
            return
        rows = made["packages"]
        other = "; ".join(deviation(row) for row in rows if not row["as_locked"])
        say(
            f"{self.name} is made of carried wheels: {sum(r['from'] == 'wheel' for r in rows)} "
            f"packages from them, {sum(r['from'] == 'system' for r in rows)} of the system's. "
            f"Other than locked: {other or 'none'}. All: {self.folder / _RECORD}"
        )

    @contextmanager
    def _alone(self, say: Callable[[str], None], stop: threading.Event) -> Iterator[int]:
        """Hold the environment's lock; its descriptor."""
        folder = self.folder
        path = folder.with_name(f"{folder.name}.lock")
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
        progress: Callable[[str], None] | None = None,
        may_fail: bool = False,
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
        if process.returncode != 0 and not may_fail:
            raise self._not_made(command, process.returncode, last)

    def _given_up(self) -> EnvironmentMissing:
        return EnvironmentMissing(
            f"The installation of {self.name} was interrupted; the next one begins anew."
        )

    def _not_made(self, command: list[str], status: int, last: Iterable[str]) -> EnvironmentMissing:
        words = "\n  ".join(last) or "(it printed nothing)"
        wheels = wheels_folder()
        if IMPORT_CHECK in command:
            what, advice = "the check that its program can be imported", f"what {wheels} lacks"
        else:
            what = " ".join(command[1:4])
            advice = "that the package index can be reached (pip's own settings apply)"
            if wheels is not None:
                advice = f"the wheels in {wheels}, and that {sys.executable} has pip and venv,"
            advice += f" and that {cache_folder()} has room"
        again = "harness prepare" + (f" --wheels {wheels}" if wheels is not None else "")
        return EnvironmentMissing(
            f"The environment of {self.name} could not be made ({what} ended with status "
            f"{status}):\n  {words}\nCheck {advice}, then: {again}"
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

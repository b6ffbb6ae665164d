"""The folder of one run: manifest, events, blobs, samples. docs/architecture.md has the format.

Covered
- One writer per folder: an fcntl lock on the file `lock`, which holds the writer's process id.
- events.jsonl is append-only; an event is one line of at most 2 KB, handed to the operating system
  in one write. `kill -9` therefore leaves at most a torn last line, which is dropped on opening. A
  write that fails (a full disk) is taken back, so the log ends with a whole event.
- Blobs are gzip with mtime 0, named by the hash of their content, written under a temporary name
  and then renamed: a blob that an event names is whole. Samples and the manifest likewise.
- Readers (`read_events`, `read_blob`, `read_manifest`) take no lock and see whole events only.
- `restart` puts an attempt aside, with its cost, in attempts/<n>/.

Not covered
- Power failure: evaluation events wait for the disk (`sync`), though at most once a second, and
  blobs never do. What a power failure can lose is noticed on reading (LogError), not repaired.
- What the events mean: harness/journal.py and harness/summary.py.
"""

from __future__ import annotations

import errno
import gzip
import io
import json
import math
import os
import shutil
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from harness.errors import EnvironmentMissing, LogError
from harness.types import Evaluation, JsonObject, Passed, content_hash

FORMAT = 1  # of manifest.json and events.jsonl
MAX_EVENT_BYTES = 2048
MAX_INLINE_BYTES = 1024  # data of a `record` above this goes to a blob

_GZIP_LEVEL = 1  # twice as fast as 6, for files a seventh larger
_SYNC_INTERVAL_SECONDS = 1.0  # a wait for the disk takes 3 ms or more
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class RunLog:
    """One run's folder, open. Thread-safe. Use as a context manager, or call `close`.

    events: every event so far, as read and as appended. manifest: None until it is written.
    """

    def __init__(self, folder: Path, lock: int | None) -> None:
        """Internal: use `RunLog.open` or `RunLog.read`. lock: descriptor of the held lock file."""
        self.folder = folder
        self._lock = lock
        self._mutex = threading.RLock()
        self._descriptor = -1
        self._size_bytes = 0
        self._synced_at = -math.inf
        self._written_blobs: set[str] = set()
        self.manifest = read_manifest(folder) if (folder / "manifest.json").exists() else None
        self.events: list[JsonObject] = []
        path = folder / "events.jsonl"
        if path.exists():
            with _explained(folder):
                data = path.read_bytes()
            self._size_bytes = data.rfind(b"\n") + 1
            self.events = list(_parse(folder, data[: self._size_bytes]))
        if self.events and self.manifest is None:
            raise LogError(f"{folder} has events but no manifest.json. {_START_OVER}")
        if lock is not None:
            with _explained(folder):
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                self._descriptor = os.open(path, flags, 0o666)
                os.ftruncate(self._descriptor, self._size_bytes)

    @classmethod
    def open(cls, folder: Path) -> RunLog:
        """Open for writing; makes the folder. A torn last line is dropped.

        Raises LogError (another writer, a damaged log, another format) or EnvironmentMissing (the
        folder cannot be written).
        """
        with _explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        lock = _take_lock(folder)
        with ExitStack() as undo:
            undo.callback(os.close, lock)
            log = cls(folder, lock)
            undo.pop_all()
        return log

    @classmethod
    def read(cls, folder: Path) -> RunLog:
        """Open without a lock; nothing can be written, and `put_blob` only names the blob."""
        if not (folder / "manifest.json").exists():
            raise LogError(f"{folder} is not a run folder: it has no manifest.json.")
        return cls(folder, None)

    @property
    def writable(self) -> bool:
        return self._lock is not None

    def close(self) -> None:
        """Give up the lock. Closing twice is allowed."""
        with self._mutex:
            if self._lock is not None:
                if self._descriptor >= 0:
                    os.close(self._descriptor)
                os.close(self._lock)
                self._lock, self._descriptor = None, -1

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def append(self, kind: str, fields: JsonObject, *, sync: bool = False) -> JsonObject:
        """Write one event and return it. sync: also wait until it is on the disk,
        unless the last such wait was less than a second ago.

        Raises ValueError for an event over 2 KB or with NaN; EnvironmentMissing or LogError if the
        write fails, and then the log is as it was before.
        """
        with self._mutex:
            if self._descriptor < 0:
                raise LogError(f"{self.folder} is not open for writing.")
            stamp = {"i": len(self.events), "t": round(time.time(), 3), "kind": kind}
            line = json.dumps(stamp | fields, separators=(",", ":"), allow_nan=False) + "\n"
            if len(line) > MAX_EVENT_BYTES:
                raise ValueError(f"an event of kind {kind} has {len(line)} bytes: {line[:200]}...")
            with _explained(self.folder):
                self._write(line.encode("ascii"))
                if sync and time.monotonic() - self._synced_at >= _SYNC_INTERVAL_SECONDS:
                    os.fdatasync(self._descriptor)
                    self._synced_at = time.monotonic()
            event: JsonObject = json.loads(line)
            self.events.append(event)
            return event

    def _write(self, data: bytes) -> None:
        """One write; a short one is taken back, since it is the sign of a disk that just filled."""
        try:
            written = os.pwrite(self._descriptor, data, self._size_bytes)
            if written != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.ftruncate(self._descriptor, self._size_bytes)
            raise
        self._size_bytes += len(data)

    def write_manifest(self, manifest: JsonObject) -> None:
        """Write manifest.json atomically, with the format number."""
        data = {"format": FORMAT} | manifest
        text = json.dumps(data, indent=1, allow_nan=False) + "\n"
        with self._mutex:
            self._write_file(self.folder / "manifest.json", text.encode())
            self.manifest = data

    def put_blob(self, content: str | bytes) -> str:
        """Store content under its hash, once; returns the name. Any text is kept, lone surrogates
        included."""
        data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        name = content_hash(data)
        with self._mutex:
            if self._lock is not None and name not in self._written_blobs:
                path = _blob_path(self.folder, name)
                if not path.exists():
                    self._write_file(path, gzip.compress(data, _GZIP_LEVEL, mtime=0))
                self._written_blobs.add(name)
        return name

    def get_text(self, name: str) -> str:
        """The text of a blob. Raises LogError as `read_blob` does."""
        return read_text(self.folder, name)

    def put_samples(self, charge: int, evaluation: Evaluation) -> str | None:
        """Store an evaluation's raw samples; returns the file's name relative to the folder, or
        None where there are none.

        One float32 array in microseconds, shape (workloads, 2, samples): workloads in the order of
        the outcome's measurements, candidate before baseline, padded at the end with NaN.
        """
        outcome, samples = evaluation.outcome, evaluation.samples_us
        if not isinstance(outcome, Passed) or not samples:
            return None
        rows = [samples.get(m.workload, ((), ())) for m in outcome.measurements]
        width = max(len(side) for pair in rows for side in pair)
        array = np.full((len(rows), 2, width), np.nan, dtype=np.float32)
        for row, pair in enumerate(rows):
            for side, values in enumerate(pair):
                array[row, side, : len(values)] = values
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        name = f"samples/{charge}.npy"
        with self._mutex:
            self._write_file(self.folder / name, buffer.getvalue())
        return name

    def make_folder(self, name: str) -> Path:
        """A new folder in the run's, as an absolute path; what an earlier process left goes."""
        path = self.folder.resolve() / name
        with _explained(self.folder):
            if path.exists():
                shutil.rmtree(path)
            path.mkdir(parents=True)
        return path

    def _write_file(self, path: Path, data: bytes) -> None:
        partial = self.folder / ".partial"  # one name is enough: there is one writer
        with _explained(self.folder):
            try:
                partial.write_bytes(data)
                try:
                    partial.rename(path)
                except FileNotFoundError:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    partial.rename(path)
            except OSError:
                partial.unlink(missing_ok=True)
                raise


_START_OVER = (
    "Look at the file, or start this run over with --restart, which keeps what is there in "
    "attempts/."
)


def read_events(folder: Path) -> Iterator[JsonObject]:
    """Every whole event of a run, in order; a torn last line is passed over.

    Raises LogError for anything else that is wrong.
    """
    try:
        data = (folder / "events.jsonl").read_bytes()
    except OSError as error:
        raise LogError(f"Cannot read {folder / 'events.jsonl'}: {error.strerror}.") from error
    return _parse(folder, data[: data.rfind(b"\n") + 1])


def read_manifest(folder: Path) -> JsonObject:
    """manifest.json of a run. Raises LogError."""
    path = folder / "manifest.json"
    if not path.exists():
        why = "If it never began, its comparison's report and unstarted.json say why."
        raise LogError(f"There is no run in {folder}: it has no manifest.json. {why}")
    try:
        manifest = json.loads(path.read_bytes())
    except OSError as error:
        raise LogError(f"Cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise LogError(f"{path} is not JSON: {error}. {_START_OVER}") from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise LogError(
            f"{path} has format {found!r}, this harness reads format {FORMAT}. "
            "Read it with the version of the harness that wrote it, or use another folder."
        )
    return dict(manifest)


def read_blob(folder: Path, name: str) -> bytes:
    """A blob's content. Raises LogError if it is missing or damaged."""
    path = _blob_path(folder, name)
    try:
        data = gzip.decompress(path.read_bytes())
    except FileNotFoundError as error:
        raise LogError(
            f"{folder} names the blob {name}, which is missing. {_START_OVER}"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise LogError(f"The blob {path} cannot be read: {error}. {_START_OVER}") from error
    if content_hash(data) != name:
        raise LogError(f"The blob {path} does not hold what its name says. {_START_OVER}")
    return data


def read_text(folder: Path, name: str) -> str:
    """A blob as text. Raises LogError if it is missing, damaged or no text."""
    try:
        return read_blob(folder, name).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise LogError(f"The blob {name} of {folder} is not text: {error}.") from error


def read_samples(folder: Path, name: str) -> npt.NDArray[np.float32]:
    """The raw samples that an evaluation event names: see `RunLog.put_samples` for the shape."""
    try:
        array = np.load(folder / name, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise LogError(f"Cannot read the samples {folder / name}: {error}.") from error
    return np.asarray(array, dtype=np.float32)


def restart(folder: Path) -> Path:
    """Put the run's attempt so far aside and return where it is now: attempts/<n>/, from 1.

    A kill at any instant leaves either the old attempt in place or an empty run: the events, which
    hold the cost, move in one step, and the blobs after them. Raises LogError if somebody writes
    the run.
    """
    lock = _take_lock(folder)
    try:
        with _explained(folder):
            target = folder / "attempts" / str(1 + len(abandoned_attempts(folder)))
            target.mkdir(parents=True, exist_ok=True)
            if (folder / "manifest.json").exists():
                shutil.copyfile(folder / "manifest.json", target / "manifest.json")
            for name in ("events.jsonl", "blobs", "samples", "workspace"):
                if (folder / name).exists():
                    (folder / name).rename(target / name)
            (folder / "manifest.json").unlink(missing_ok=True)
    finally:
        os.close(lock)
    return target


def abandoned_attempts(folder: Path) -> list[Path]:
    """The folders that `restart` made, oldest first: each reads like a run's folder."""
    found = [p for p in (folder / "attempts").glob("*") if (p / "events.jsonl").exists()]
    return sorted(found, key=lambda path: int(path.name))


def _blob_path(folder: Path, name: str) -> Path:
    return folder / "blobs" / name[:2] / f"{name}.gz"


def _parse(folder: Path, data: bytes) -> Iterator[JsonObject]:
    for number, line in enumerate(data.split(b"\n")[:-1]):
        try:
            event = json.loads(line)
        except ValueError as error:
            raise LogError(
                f"{folder / 'events.jsonl'}, line {number + 1}, is damaged: {error}. {_START_OVER}"
            ) from error
        if not isinstance(event, dict) or event.get("i") != number or "kind" not in event:
            raise LogError(
                f"{folder / 'events.jsonl'}, line {number + 1}: expected event {number}, found "
                f"{line[:80]!r}. {_START_OVER}"
            )
        yield event


def _take_lock(folder: Path) -> int:
    """The descriptor of the folder's lock file, held. Raises LogError with the holder's pid."""
    import fcntl  # POSIX only: writing needs it, reading and reports do not

    with _explained(folder):
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise LogError(
            f"{folder} is being written by process {holder}. Wait until it ends, or stop it and "
            "try again."
        ) from error
    with ExitStack() as undo:
        undo.callback(os.close, lock)
        with _explained(folder):
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        undo.pop_all()
    return lock


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn an OSError on a run's folder into the error that says what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _NO_SPACE:
            raise EnvironmentMissing(
                f"No space left to write {folder} ({reason}). Everything up to the last event is "
                "kept: free some space, then continue with `harness resume`."
            ) from error
        if error.errno in _FORBIDDEN:
            raise EnvironmentMissing(
                f"Cannot write {folder} ({reason}). Make the folder writable for you, or give "
                "another one with RUNS=."
            ) from error
        raise LogError(f"Cannot write {folder}: {reason}.") from error

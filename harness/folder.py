"""The folder of a comparison: its paths, its lock, and comparison.json.

Covered: where things are (docs/architecture.md draws the tree), one process at a time (an advisory
lock that the kernel drops when its holder dies), writing a file at once or not at all, and the rule
that a folder holds one comparison: the same resolved request continues it, another one is refused
by naming what differs.
Not covered: the inside of a run's folder (`runlog.py`), evaluations (`evaluate/cache.py`).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.errors import EnvironmentMissing, LogError, UsageError
from harness.types import JsonObject

FORMAT = 1
UNSTARTED = "unstarted.json"


def run_folder(folder: Path, task: str, arm_folder: str, seed: int) -> Path:
    """Where one run of the comparison in `folder` lives."""
    return folder / "runs" / task / arm_folder / f"seed-{seed}"


def manifest_path(folder: Path) -> Path:
    """comparison.json of the comparison in `folder`."""
    return folder / "comparison.json"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make `folder` and hold it alone. Raises LogError if another process holds it,
    EnvironmentMissing if it cannot be made or written."""
    import fcntl  # POSIX only: writing needs it, reading and reports do not

    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise EnvironmentMissing(
            f"Cannot write into {folder}: {error.strerror}. Free space there, or choose another "
            "folder with --runs (RUNS=)."
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise LogError(
            f"Another process works in {folder}. Wait until it ends, or choose another folder with "
            "--runs (RUNS=)."
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write the whole file or nothing, also when the process dies. Raises EnvironmentMissing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.NamedTemporaryFile(
                "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
            ) as file,
            ExitStack() as undo,
        ):
            undo.callback(os.unlink, file.name)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
            os.replace(file.name, path)
            undo.pop_all()
    except OSError as error:
        raise EnvironmentMissing(
            f"Cannot write {path}: {error.strerror}. Free space there or allow writing; then "
            "`harness resume` goes on."
        ) from error


def read_manifest(folder: Path) -> JsonObject:
    """comparison.json. Raises LogError where there is none, or one of another format."""
    path = manifest_path(folder)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LogError(
            f"There is no comparison in {folder}: it has no comparison.json. Expected the folder "
            "that `harness compare --runs` wrote."
        ) from error
    except (OSError, ValueError) as error:
        raise LogError(f"Cannot read {path}: {error}. Restore it from a copy.") from error
    if (
        not isinstance(data, dict)
        or data.get("format") != FORMAT
        or data.get("kind") != "comparison"
    ):
        raise LogError(
            f"{path} is no comparison of format {FORMAT}. Use the version of the harness that "
            "wrote it."
        )
    return data


def write_unstarted(folder: Path, reasons: Mapping[tuple[str, str, int], str]) -> None:
    """Keep why runs never began, {(task, arm, seed): reason}, for the report, which finds nothing
    else of them. Raises EnvironmentMissing."""
    path = folder / UNSTARTED
    names = ("task", "arm", "seed", "reason")
    runs = [dict(zip(names, (*run, reason), strict=True)) for run, reason in reasons.items()]
    if runs or path.exists():
        write_text(path, json.dumps(runs, indent=2) + "\n")


def read_unstarted(folder: Path) -> dict[tuple[str, str, int], str]:
    """{(task, arm, seed): why the run never began}; empty where nothing was kept. Raises
    LogError."""
    path = folder / UNSTARTED
    try:
        runs = json.loads(path.read_text(encoding="utf-8"))
        return {(run["task"], run["arm"], run["seed"]): run["reason"] for run in runs}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise LogError(f"Cannot read {path}: {error}. Delete it; nothing depends on it.") from error


def check_same(folder: Path, resolved: Mapping[str, object]) -> bool:
    """Whether `folder` already holds this comparison; False if it holds none.

    Raises UsageError that names the keys in which it differs.
    """
    if not manifest_path(folder).exists():
        return False
    there = read_manifest(folder)["resolved"]
    here = json.loads(json.dumps(resolved))
    names = sorted(key for key in {*there, *here} if there.get(key) != here.get(key))
    if names:
        differences = "; ".join(
            f"{name}: {_short(there.get(name))} there, {_short(here.get(name))} now"
            for name in names
        )
        raise UsageError(
            f"{folder} holds another comparison ({differences}). Choose another folder with --runs "
            f"(RUNS=), or continue that one: harness resume {folder}"
        )
    return True


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."

"""Whole comparisons as a user starts them: `harness ...` in a process of its own, real evaluator.

Covered: one small request on task matmul with the simulated model; a cache of its evaluations that
is filled once per test process; what of a finished folder must come out equal every time. One of
its methods is a foreign package, where its environment was made; REAL_METHODS (an environment
variable) names others, for a longer look. Not covered: the toy evaluator's faster tests
(test_compare.py).
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.method import load_method

ROOT = Path(__file__).resolve().parents[1]
READY = [name for name in ("openevolve",) if load_method(name).needs.ready]
METHODS = os.environ.get("REAL_METHODS", " ".join(["best_of_n ksearch[k=1]", *READY]))
SEEDS, CHARGES = 2, 2
RUNS = SEEDS * len(METHODS.split())


def request(
    cache: Path, methods: str = METHODS, seeds: str = str(SEEDS), budget: str = str(CHARGES)
) -> list[str]:
    """The arguments of the small comparison, without --runs."""
    return [
        "compare", "--tasks", "matmul", "--methods", methods, "--seeds", seeds, "--budget", budget,
        "--confirm-seconds", "1", "--evaluator", f"local:{cache}",
    ]  # fmt: skip


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment, with this checkout first on the path of Python."""
    return {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", **(changes or {})}


def start(
    arguments: Sequence[str], changes: Mapping[str, str] | None = None, folder: Path = ROOT
) -> subprocess.Popen[str]:
    """`harness ARGUMENTS` in the background, leading a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "harness", *arguments],
        env=environment(changes),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def harness(
    *arguments: str, changes: Mapping[str, str] | None = None, folder: Path = ROOT
) -> tuple[int, str]:
    """(exit status, everything that was printed) of `harness ARGUMENTS`."""
    process = start(arguments, changes, folder)
    text, _ = process.communicate(timeout=240)
    return process.returncode, text


@functools.cache
def filled_cache() -> Path:
    """A folder with every evaluation and confirmation of the small comparison."""
    folder = Path(tempfile.mkdtemp(prefix="filled-cache-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    status, text = harness(*request(folder / "cache"), "--runs", str(folder / "runs"))
    assert status == 0, text
    return folder / "cache"


@functools.cache
def undisturbed() -> Path:
    """The folder of the small comparison, answered from the filled cache."""
    runs = filled_cache().parent / "undisturbed"
    status, text = harness(*request(filled_cache()), "--runs", str(runs))
    assert status == 0, text
    return runs


def tables(runs: Path) -> dict[str, bytes]:
    """Every CSV of a comparison's report, by name."""
    found = {path.name: path.read_bytes() for path in sorted((runs / "report").glob("*.csv"))}
    assert found, f"{runs} has no tables"
    return found


def events(run: Path) -> list[dict[str, object]]:
    """A run's events, as they stand in its file."""
    return [json.loads(line) for line in (run / "events.jsonl").read_bytes().splitlines()]


def essence(runs: Path) -> dict[str, list[dict[str, object]]]:
    """Every run's events without what an interruption may change: numbers, times, attempts."""
    return {
        path.parent.relative_to(runs).as_posix(): [
            {name: value for name, value in event.items() if name not in ("i", "t")}
            for event in events(path.parent)
            if event["kind"] not in ("attempt", "paused")
        ]
        for path in sorted(runs.glob("runs/*/*/*/events.jsonl"))
    }

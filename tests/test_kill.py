"""kill -9 of the harness at random instants, then `harness resume`: nothing lost, doubled or left.

KILLS (an environment variable) sets the number of instants, 3 by default; KILL_SEED another draw of
them. With `-s` each kill prints a line: when, what was under way, how fast everything was gone.

Covered: a comparison with real workers while its cache is still empty (builds, timing and
confirmation are killed), and one that is answered from the cache (start, search, confirmation,
report). Only the harness's own process is killed; whatever it has started must end by itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from real_comparison import (
    essence,
    events,
    filled_cache,
    harness,
    request,
    start,
    tables,
    undisturbed,
)

from harness.compare import INTERRUPTED

KILLS = int(os.environ.get("KILLS", "3"))
INSTANTS = random.Random(int(os.environ.get("KILL_SEED", "1")))
GONE_SECONDS = 2.0  # within this, nothing of ours may be left
PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture(autouse=True)
def _orphans_come_to_this_process() -> Iterator[None]:
    """Whatever outlives a killed harness becomes a child of this process, however it was started:
    so that nothing escapes the count."""
    prctl = ctypes.CDLL(None).prctl
    assert prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    assert prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0


def below(root: int) -> dict[int, str]:
    """Process id and command line (or name) of every living process below `root`."""
    children: dict[int, list[int]] = {}
    names: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            name, _, rest = (entry / "stat").read_text().rpartition(") ")
            state, parent = rest.split()[:2]
            if state == "Z":
                continue
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            children.setdefault(int(parent), []).append(int(entry.name))
            names[int(entry.name)] = command[:150] or name.partition("(")[2]
    found: dict[int, str] = {}
    left = [root]
    while left:
        for child in children.get(left.pop(), []):
            found[child] = names[child]
            left.append(child)
    return found


def kill_when(
    process: subprocess.Popen[str], due: Callable[[], bool], before: set[int]
) -> str | None:
    """kill -9 the harness once it is due; None if it had ended by itself. Asserts that everything
    below it is gone in time; returns what was seen, in words."""
    began = time.monotonic()
    while not due():
        if process.poll() is not None:
            return None
        time.sleep(0.002)
    running = below(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    killed = time.monotonic()
    if process.wait() != -signal.SIGKILL:
        return None
    while left := {p: name for p, name in below(os.getpid()).items() if p not in before}:
        passed = time.monotonic() - killed
        assert passed < GONE_SECONDS, f"left {passed:.1f} s after the kill: {left}"
        time.sleep(0.01)
    gone_seconds = time.monotonic() - killed
    for orphan in running:  # those that came to this process
        with contextlib.suppress(ChildProcessError):
            os.waitpid(orphan, os.WNOHANG)
    lines = process.communicate()[0].strip().splitlines()
    phase = lines[-1].partition("] ")[2].partition(",")[0] or lines[-1][:40] if lines else "start"
    return (
        f"killed after {killed - began:5.2f} s ({phase}) with {len(running):2} processes below, "
        f"all gone {gone_seconds:.2f} s later"
    )


def after(seconds: float) -> Callable[[], bool]:
    """Due so long after this call."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def once_written(runs: Path, size_bytes: float) -> Callable[[], bool]:
    """Due when the logs of the comparison hold so much."""
    return lambda: _logged_bytes(runs) >= size_bytes


def _logged_bytes(runs: Path) -> int:
    return sum(path.stat().st_size for path in runs.glob("runs/*/*/*/events.jsonl"))


def assert_nothing_is_lost_or_doubled(runs: Path) -> None:
    """Numbers without gaps; every call announced and answered once; every charge once."""
    for path in runs.glob("runs/*/*/*/events.jsonl"):
        found = events(path.parent)
        assert [event["i"] for event in found] == list(range(len(found)))
        kinds = [event["kind"] for event in found]
        assert kinds.count("finished") == 1
        assert kinds[-1] == "finished"
        charges = [event["charge"] for event in found if event["kind"] == "evaluation"]
        assert charges == list(range(len(charges)))
        for kind in ("llm_intent", "llm"):
            calls = [event["call"] for event in found if event["kind"] == kind]
            assert sorted(calls) == list(range(1, len(calls) + 1))  # type: ignore[type-var]
        assert kinds.count("llm_intent") == kinds.count("llm")


@pytest.mark.parametrize(
    "number", [0, *(pytest.param(n, marks=pytest.mark.thorough) for n in range(1, KILLS))]
)
def test_a_comparison_killed_at_any_instant_ends_with_the_tables_of_an_undisturbed_one(
    tmp_path: Path, number: int
) -> None:
    before = set(below(os.getpid()))
    whole, runs = undisturbed(), tmp_path / "runs"
    arguments = [*request(filled_cache()), "--runs", str(runs)]
    share = (number + INSTANTS.random()) / KILLS  # one in each part of the whole
    if number % 2:
        due = after(0.1 + share * _duration())
    else:
        due = once_written(runs, share * _logged_bytes(whole))
    seen = kill_when(start(arguments), due, before)
    if (runs / "comparison.json").exists():
        status, text = harness("resume", str(runs))
    else:
        status, text = harness("resume", str(runs))
        assert (status, "There is no comparison" in text) == (1, True), text
        status, text = harness(*arguments)
    assert status == 0, text
    assert tables(runs) == tables(whole)
    assert essence(runs) == essence(whole)
    assert_nothing_is_lost_or_doubled(runs)
    print(f"\n{number}: {seen or 'it had ended already'}; resumed, tables and events equal")


_measured: list[float] = []


def _duration() -> float:
    """Seconds from start to end of the cached comparison on this machine."""
    if not _measured:
        began = time.monotonic()
        runs = filled_cache().parent / "timed"
        assert harness(*request(filled_cache()), "--runs", str(runs))[0] == 0
        _measured.append(time.monotonic() - began)
    return _measured[0]


def test_killed_while_workers_run_it_leaves_no_process_and_continues(tmp_path: Path) -> None:
    before = set(below(os.getpid()))
    arguments = request(tmp_path / "cache", "best_of_n", "1", "2")
    runs = tmp_path / "runs"

    def begin() -> list[str]:
        begun = (runs / "comparison.json").exists()
        return ["resume", str(runs)] if begun else [*arguments, "--runs", str(runs)]

    for number in range(max(2, KILLS)):
        process = start(begin())
        seen = kill_when(process, after(INSTANTS.uniform(1.0, 4.0)), before)
        print(f"\ncold {number}: {seen or 'it had ended already'}")
        if seen is None:
            assert process.returncode == 0, process.communicate()[0]
            break
    status, text = harness(*begin())
    assert status == 0, text
    assert_nothing_is_lost_or_doubled(runs)
    again = tmp_path / "again"
    assert harness(*arguments, "--runs", str(again))[0] == 0
    assert _without_cache_marks(runs) == _without_cache_marks(again)


def test_a_second_ctrl_c_ends_at_once_also_while_a_request_is_under_way(tmp_path: Path) -> None:
    before = set(below(os.getpid()))
    runs = tmp_path / "runs"
    arguments = request(tmp_path / "cache", "best_of_n", "1", "1")
    process = start([*arguments, "--runs", str(runs)])
    while process.poll() is None and not any("judge_process" in n for n in _names(process.pid)):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    interrupted = time.monotonic()
    text = process.communicate()[0]
    assert time.monotonic() - interrupted < GONE_SECONDS
    assert process.returncode == INTERRUPTED, text
    while left := set(below(os.getpid())) - before:
        assert time.monotonic() - interrupted < GONE_SECONDS, left
        time.sleep(0.01)


def _names(root: int) -> list[str]:
    return list(below(root).values())


def _without_cache_marks(runs: Path) -> dict[str, list[dict[str, object]]]:
    """The essence of a comparison, without which evaluation was answered by the cache."""
    return {
        name: [{k: v for k, v in event.items() if k != "cached"} for event in found]
        for name, found in essence(runs).items()
    }

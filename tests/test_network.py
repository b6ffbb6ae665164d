"""No socket but loopback is opened during a comparison, and no key is anywhere: watched.

The comparison runs in a network namespace of its own that has loopback and nothing else. There the
kernel counts every packet or connection that had no route, and every datagram to a port of loopback
that nobody listens at (a resolver, say): any attempt to leave shows, whoever makes it.

Covered: all four methods as `make compare` runs them, with the foreign packages where their
environments were made; files outside the run folder and the caches. Not covered: a machine that
allows no network namespaces (skipped).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from real_comparison import ROOT, environment

from harness.method import METHODS, load_method

COUNTERS = """
import json
def counters(path):
    rows = [line.split() for line in open(path)]
    found = {}
    for names, values in zip(rows[::2], rows[1::2]):
        found |= {names[0] + n: int(v) for n, v in zip(names[1:], values[1:])}
    return found
seen = counters("/proc/net/snmp")
seen |= {name: int(value) for name, value in (line.split() for line in open("/proc/net/snmp6"))}
wanted = ("Ip:OutNoRoutes", "Ip6OutNoRoutes", "Udp:NoPorts", "Udp6NoPorts", "Udp:OutDatagrams")
print("COUNTERS", json.dumps({name: seen[name] for name in wanted}))
"""
LEAVE = """
import socket
try:
    socket.create_connection(("192.0.2.1", 80), timeout=1)
except OSError:
    pass
"""
KEYS = {"OPENAI_API_KEY": "sk-canary-2f6b8c", "GEMINI_API_KEY": "canary-77d1"}


def alone(*command: str, changes: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in a network namespace with loopback only, then print the kernel's counts."""
    inside = (
        "import subprocess, sys\n"
        "import fcntl, socket, struct\n"
        "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:\n"
        "    fcntl.ioctl(s, 0x8914, struct.pack('16sh', b'lo', 0x1))\n"  # SIOCSIFFLAGS, IFF_UP
        "status = subprocess.call(sys.argv[1:])\n" + COUNTERS + "sys.exit(status)\n"
    )
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    return subprocess.run(
        ["unshare", *as_root, "--net", sys.executable, "-c", inside, *command],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment(changes),
        cwd=ROOT,
        check=False,
    )


def counts(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    line = next(line for line in done.stdout.splitlines() if line.startswith("COUNTERS "))
    return dict(json.loads(line.partition(" ")[2]))


@pytest.fixture(scope="module", autouse=True)
def _the_watch_works():
    try:
        done = alone(sys.executable, "-c", LEAVE)
    except OSError:
        pytest.skip("there is no unshare on this machine")
    if done.returncode != 0:
        pytest.skip(f"no network namespaces here: {done.stderr[-200:]}")
    assert counts(done)["Ip:OutNoRoutes"] == 1  # an attempt to leave is seen


def ready_methods() -> list[str]:
    found = []
    for name in sorted(METHODS):
        needed = load_method(name).needs
        if needed is None or needed.ready:
            found.append(name)
    return found


class Watch:
    """Looks for keys in the environments and command lines of the foreign programs."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.looked_at: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._stop.is_set():
            for process in Path("/proc").iterdir():
                if not process.name.isdigit():
                    continue
                try:
                    command = (process / "cmdline").read_bytes()
                    block = (process / "environ").read_bytes()
                except OSError:
                    continue
                if any(key.encode() in command for key in KEYS.values()):
                    self.seen.add(f"command line of {command!r}")
                if b"HARNESS_TOKEN=" not in block:
                    continue
                self.looked_at.add(process.name)
                if any(key.encode() in block for key in KEYS.values()):
                    self.seen.add(f"environment of {command!r}")
            time.sleep(0.05)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()


def test_a_comparison_opens_no_socket_but_loopback_and_shows_no_key(tmp_path):
    runs = tmp_path / "runs"
    methods = ready_methods()
    arguments = [
        "compare", "--tasks", "matmul", "--seeds", "1", "--budget", "1", "--confirm-seconds", "1",
        "--methods", " ".join(methods), "--runs", str(runs),
    ]  # fmt: skip
    home = tmp_path / "home"
    changes = {**KEYS, "HOME": str(home), "TMPDIR": str(tmp_path / "tmp")}
    changes["HARNESS_CACHE"] = os.environ.get("HARNESS_CACHE", str(_cache()))
    home.mkdir()
    (tmp_path / "tmp").mkdir()
    with Watch() as watch:
        done = alone(sys.executable, "-m", "harness", *arguments, changes=changes)
    assert done.returncode == 0, done.stderr[-2000:]
    seen = counts(done)
    assert {name: seen[name] for name in seen if "No" in name} == dict.fromkeys(
        ("Ip:OutNoRoutes", "Ip6OutNoRoutes", "Udp:NoPorts", "Udp6NoPorts"), 0
    )
    assert seen["Udp:OutDatagrams"] == 0
    foreign = [name for name in methods if load_method(name).needs]
    assert len(watch.looked_at) >= 2 * len(foreign)  # a keeper and a program each
    assert not watch.seen
    written = [path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()]
    assert not [name for name in written if "matplotlib" not in name]  # its cache of fonts
    left = {path.name for path in (tmp_path / "tmp").iterdir()}
    assert all(name.endswith(".lock") for name in left), left
    for path in runs.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(key.encode() in content for key in KEYS.values()), path


def _cache() -> Path:
    from harness.foreign.environments import cache_folder

    return cache_folder()

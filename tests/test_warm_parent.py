"""A warm parent starts beside its owner: who waits for it, and what is told when it never comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.evaluate import launcher
from harness.evaluate.launcher import CommandResult, Limits, Preload, WarmParent
from harness.evaluate.sandbox import probe

ISOLATION = probe()  # with a parent of its own, before any test breaks those

SAYS = (
    "import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); s.send(b'%s'); s.recv(1); "
    "sys.exit()"
)


def run(parent: WarmParent, folder: Path, *argv: str) -> CommandResult:
    return parent.run_command(
        argv,
        job_folder=folder,
        limits=Limits(),
        environment={"PATH": "/usr/bin:/bin"},
        timeout_seconds=20.0,
    )


@pytest.mark.parametrize(
    ("bootstrap", "expected"),
    [
        ("import sys; sys.exit('there is no such package')", "there is no such package"),
        (SAYS % '{"ok": true, "threads": 3}', "has 3 threads"),
    ],
)
def test_a_parent_that_never_starts_says_why_to_everybody_who_waits(
    bootstrap: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "_BOOTSTRAP", bootstrap)
    with WarmParent("none", ISOLATION) as parent:
        for _ in range(2):
            with pytest.raises(InfraError, match=expected):
                parent.wait()
        with pytest.raises(InfraError, match=expected):
            run(parent, tmp_path, "true")
    parent.close()


def test_a_parent_that_is_still_importing_is_not_waited_for_when_it_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launcher, "_BOOTSTRAP", "import time; time.sleep(600)")
    monkeypatch.setattr(launcher, "_END_SECONDS", 300.0)  # longer than a test may take
    parent = WarmParent("none", ISOLATION)
    parent.close()
    with pytest.raises(InfraError, match="does not answer"):
        parent.wait()


@pytest.mark.parametrize(("preload", "niceness"), [("none", "0"), ("build", "10")])
def test_what_is_built_gives_way_to_what_is_timed(
    preload: Preload, niceness: str, tmp_path: Path
) -> None:
    with WarmParent(preload, ISOLATION) as parent:
        assert run(parent, tmp_path, "nice").stdout.strip() == niceness

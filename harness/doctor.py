"""What this machine can run, how well it can isolate candidates, its peaks, and what is missing.

Covered: platform, cores, memory, compiler, Python packages, isolation (probed by making one), peaks
(measured, about a second), free disk, keys of models (present or not, never shown). Not covered:
whether a key is valid or an endpoint answers; that needs a call that may cost money.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.environment import cores, fingerprint
from harness.errors import EnvironmentMissing, HarnessError
from harness.requirements import missing, requirements

if TYPE_CHECKING:
    from rich.console import Console

Verdict = Literal["ok", "note", "missing"]

MINIMUM_FREE_GIB = 1.0  # a default comparison writes about 0.1 GiB; a large cache more


@dataclass(frozen=True)
class Finding:
    """One line of the examination. advice: what to do, where something should be done."""

    subject: str
    verdict: Verdict
    fact: str
    advice: str = ""


def examine(folder: Path) -> list[Finding]:
    """Every finding, in the order shown. folder: where runs would be written."""
    findings = [_platform(), _packages(), _compiler()]
    findings += [_guarded("isolation", _isolation), _guarded("peaks", _peaks)]
    return [*findings, _disk(folder), _methods(), *_models()]


def examine_machine() -> list[Finding]:
    """What decides whether candidates can be judged here, for a machine that only does that: it
    needs the standard library, numpy and torch."""
    return [_platform(), _compiler(), _guarded("isolation", _isolation)]


def show(findings: list[Finding], console: Console) -> bool:
    """Print them; whether nothing is missing."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    for name in ("verdict", "subject"):
        table.add_column(name, no_wrap=True)
    table.add_column("fact")
    styles = {"ok": "green", "note": "yellow", "missing": "red"}
    for finding in findings:
        text = Text(finding.fact)
        if finding.advice:
            text.append(f"\n{finding.advice}", style="bold")
        verdict = Text(finding.verdict, style=styles[finding.verdict])
        table.add_row(verdict, finding.subject, text)
    console.print(table)
    complete = all(finding.verdict != "missing" for finding in findings)
    console.print(
        "This machine can run comparisons."
        if complete
        else "Something is missing: see the lines above."
    )
    return complete


def _guarded(subject: str, examine_one: Callable[[], Finding]) -> Finding:
    try:
        return examine_one()
    except HarnessError as error:
        return Finding(subject, "missing", str(error))


def _platform() -> Finding:
    machine = fingerprint()
    fact = (
        f"{machine['system']} {machine['kernel']}, {machine['architecture']}, {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['memory_gib']} GiB, Python {machine['python']}"
    )
    if machine["gpus"]:
        fact += ", " + ", ".join(f"{g['name']} (driver {g['driver']})" for g in machine["gpus"])
    if machine["system"] == "Linux" and machine["architecture"] in ("x86_64", "aarch64"):
        return Finding("machine", "ok", fact)
    return Finding(
        "machine",
        "missing",
        fact,
        "Evaluation needs Linux on x86-64 or aarch64: use the Dockerfile.",
    )


def _packages() -> Finding:
    try:
        lacking = missing(requirements())
    except FileNotFoundError:
        return Finding("packages", "note", "no pyproject.toml beside the package: not compared")
    versions = fingerprint()
    if not lacking:
        return Finding("packages", "ok", f"torch {versions['torch']}, numpy {versions['numpy']}")
    return Finding("packages", "missing", "; ".join(lacking), "pip install -c constraints.txt -e .")


def _compiler() -> Finding:
    version = fingerprint()["compiler"]
    if version:
        return Finding("compiler", "ok", str(version))
    return Finding(
        "compiler",
        "missing",
        "neither g++ nor clang++ was found",
        "Debian, Ubuntu: apt install g++. Fedora: dnf install gcc-c++.",
    )


def _isolation() -> Finding:
    from harness.evaluate.sandbox import isolation_to_json, probe

    isolation = probe()
    fact = ", ".join(f"{name}: {value}" for name, value in isolation_to_json(isolation).items())
    if isolation.can_hide_keys:
        return Finding("isolation", "ok", fact)
    return Finding(
        "isolation",
        "missing",
        fact,
        "Candidate code could read keys. Allow unprivileged user namespaces, use a kernel with "
        "Landlock (5.13 or later), or use the Dockerfile.",
    )


def _peaks() -> Finding:
    from harness.evaluate.launcher import WarmParent
    from harness.evaluate.peaks import measure_peaks
    from harness.evaluate.sandbox import probe

    with closing(WarmParent("none", probe())) as builder:
        peaks = measure_peaks(builder, cores())
    return Finding(
        "peaks",
        "ok",
        f"{peaks.flops_per_second / 1e9:.0f} GFLOP/s (float32), "
        f"{peaks.bytes_per_second / 1e9:.0f} GB/s from cache",
    )


def _disk(folder: Path) -> Finding:
    there = next(p for p in (folder.resolve(), *folder.resolve().parents) if p.exists())
    try:
        free = shutil.disk_usage(there).free / 2**30
    except OSError as error:
        raise EnvironmentMissing(f"Cannot look at {there}: {error.strerror}.") from error
    fact = f"{free:.1f} GiB free at {there}"
    if not os.access(there, os.W_OK):
        return Finding("disk", "missing", f"{there} cannot be written", "Choose another folder.")
    if free < MINIMUM_FREE_GIB:
        return Finding("disk", "missing", fact, f"Free at least {MINIMUM_FREE_GIB:g} GiB.")
    return Finding("disk", "ok", fact)


def _methods() -> Finding:
    from harness.method import METHODS, load_method

    needs = [method.needs for method in map(load_method, sorted(METHODS)) if method.needs]
    lacking = [needed.name for needed in needs if not needed.ready]
    if not lacking:
        names = ", ".join(needed.name for needed in needs)
        return Finding("methods", "ok", f"environments made: {names}")
    return Finding(
        "methods",
        "note",
        f"environments to be made on first use: {', '.join(lacking)}",
        "They need the package index once: harness prepare makes them now.",
    )


def _models() -> list[Finding]:
    from harness.llm.models import load_models

    live = [m for m in load_models().values() if m.kind != "simulated" and m.key_variable]
    ready = [m.name for m in live if os.environ.get(m.key_variable or "")]
    lacking = sorted({m.key_variable or "" for m in live if m.name not in ready})
    fact = f"keys found for: {', '.join(ready) or 'none'}"
    advice = f"For live models set {' or '.join(lacking)}; the simulated model needs none."
    return [Finding("models", "ok" if ready else "note", fact, "" if ready else advice)]

"""What an inspection found, in words, and the table that the command prints.

Covered: one sentence for each kind of finding. Not covered: what is found (evaluate/inspection.py);
the page (reports/leaderboard.py), which shows the same sentences.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.evaluate.inspected import Checked, Inspection, Split
from harness.leaderboard import Entry, Leaderboard

NOTHING = "nothing found"
SKIPS = 1.05
"""From this ratio of fresh to reused times on, reused inputs save work: a few times what a device's
clock rate moves within a minute."""

_CHECKS = {
    "inputs_changed": "changes its inputs",
    "late_write": "writes after its call has returned",
    "out_of_bounds_write": "writes outside its tensors",
    "not_looked_at": "was not looked at on some workloads, since earlier ones took too long",
}


def findings(entry: Entry) -> list[str]:
    """Sentences without a full stop, the gravest first; none if nothing was found."""
    if entry.error is not None and entry.specified is None:
        return [entry.error]
    spec, upstream = entry.specified, entry.upstream
    if spec is None:
        return ["not inspected"]
    if spec.build_failure is not None:
        return [f"does not build: {_line(spec.build_failure)}"]
    found = [*_checks([*spec.checked, *(upstream.checked if upstream else ())])]
    found += _wrong(spec, "specified", ("final", "tests"))
    if upstream is not None:
        found += _wrong(upstream, "upstream's", ("final", "tests"))
    found += [
        f"fails on the held-out shape {c.workload}: {c.status}, {_line(c.message)}"
        for c in spec.failures("held_out")
    ]
    found += [
        f"has no valid time on {t.workload}: {_line(t.problem)}"
        for t in spec.timed
        if t.problem is not None
    ]
    found += _reused(entry, spec)
    found += _observed(spec, upstream)
    return found + ([entry.error] if entry.error is not None else [])


def _checks(checked: Sequence[Checked]) -> list[str]:
    """What the judge's side saw of inputs, guards and late writes: once each."""
    found = []
    for check, words in _CHECKS.items():
        where = [c for c in checked if c.check == check]
        if where:
            found.append(f"{words} ({_line(where[0].message)})")
    return found


def _wrong(inspection: Inspection, whose: str, splits: tuple[Split, ...]) -> list[str]:
    wrong = inspection.failures(*splits)
    if not wrong:
        return []
    cases = [c for c in inspection.checked if c.split in splits]
    masked = {c.workload for c in cases if "_mask_" in c.workload}
    if {c.workload for c in wrong} == masked and len(masked) < len(cases):
        return [
            f"is wrong on all {len(wrong)} {whose} cases that have a mask and right on all "
            f"{len(cases) - len(wrong)} without: it ignores the mask, or part of it"
        ]
    first = wrong[0]
    return [
        f"fails {len(wrong)} of {len(cases)} {whose} cases, first {first.workload}: "
        f"{first.status}, {_line(first.message)}"
    ]


def _reused(entry: Entry, spec: Inspection) -> list[str]:
    found = []
    if entry.ratio is not None and entry.ratio > SKIPS:
        found.append(
            f"takes {entry.ratio:.2f} times as long with fresh inputs as with reused ones: a timer "
            "that reuses its inputs measures less work"
        )
    wrong = [t for t in spec.timed if t.reused_problem is not None]
    if wrong and wrong[0].reused_problem != wrong[0].problem:
        found.append(
            f"fails when inputs are reused, on {len(wrong)} of {len(spec.timed)} workloads: "
            f"{_line(wrong[0].reused_problem or '')}"
        )
    return found


def _observed(spec: Inspection, upstream: Inspection | None) -> list[str]:
    seen = spec.observed if upstream is None else spec.observed.merged(upstream.observed)
    texts = (
        ("keeps state in the caller's dictionaries", seen.keys_added),
        ("replaces values in the caller's dictionaries", seen.values_replaced),
        ("sets attributes on the caller's tensors", seen.tensor_attributes),
        ("changes torch's global settings and leaves them changed", seen.settings_changed),
        ("returns memory of its input", seen.returned_inputs),
        ("keeps tensors in global names of its module", seen.module_tensors),
    )
    found = [f"{words}: {_some(facts)}" for words, facts in texts if facts]
    if seen.reused_outputs:
        found.append(
            f"returns the memory of its last result again, in {seen.reused_outputs} of "
            f"{seen.calls} calls: who keeps two results finds them equal"
        )
    return found


def print_leaderboard(record: Leaderboard, console: Console) -> None:
    """The ranks, then the findings."""
    _say(
        console,
        f"{record.title} on {record.hardware}, {record.date}. Microseconds, geometric mean over "
        "the final workloads of the median device time. Scored: fresh.",
    )
    if record.interpreter:
        _say(console, "These are times of an interpreter on a CPU and mean nothing.")
    table = Table(box=None, pad_edge=False)
    for name in ("rank", "submission", "upstream", "specified", "held-out"):
        table.add_column(name)
    for name in ("fresh us", "reused us", "fresh/reused", "speedup", "of floor"):
        table.add_column(name, justify="right")
    for rank, entry in record.ranked():
        table.add_row(*(Text(cell) for cell in _row(rank, entry)))
    console.print(table)
    for _, entry in record.ranked():
        _say(console, f"\n{entry.name}")
        for finding in findings(entry) or [NOTHING]:
            _say(console, f"  {finding}")


def _row(rank: int | None, entry: Entry) -> list[str]:
    fresh, baseline, floor = entry.fresh_us, entry.baseline_us, entry.floor_us
    return [
        "-" if rank is None else str(rank),
        entry.name,
        verdict(entry.upstream, "final", "tests"),
        verdict(entry.specified, "final", "tests"),
        verdict(entry.specified, "held_out"),
        _number(fresh),
        _number(entry.reused_us),
        "-" if entry.ratio is None else f"{entry.ratio:.3f}",
        "-" if fresh is None or baseline is None else f"{baseline / fresh:.2f}",
        "-" if fresh is None or not floor else f"{100 * floor / fresh:.0f} %",
    ]


def verdict(inspection: Inspection | None, *splits: Split) -> str:
    """ "25 of 25", or a dash where nothing was checked."""
    cases = [c for c in inspection.checked if c.split in splits] if inspection else []
    return f"{sum(c.passed for c in cases)} of {len(cases)}" if cases else "-"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _some(facts: Sequence[str], most: int = 5) -> str:
    rest = f" and {len(facts) - most} more" if len(facts) > most else ""
    return ", ".join(facts[:most]) + rest


def _line(text: str) -> str:
    """The first line of a message, at most 200 characters."""
    line = text.strip().partition("\n")[0]
    return line if len(line) <= 200 else f"{line[:199]}…"


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)

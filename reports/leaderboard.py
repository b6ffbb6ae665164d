"""`build_leaderboard`: a folder with leaderboard.json in, its page and tables beside it out.

The measured table names its hardware, versions and date and stands apart from the published ones
(published/BOARD.json, each with its own hardware and sources): no figure of one card is shown as
another's. The same input gives the same bytes.

Covered: index.html (one file, no network), and every table as .csv, .md and .tex. Not covered:
measuring and ranking (harness/leaderboard.py); the sentences (harness/leaderboard_words.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import cast

from markupsafe import Markup

from harness.errors import EnvironmentMissing
from harness.evaluate.inspected import Inspection
from harness.leaderboard import Entry, Leaderboard, read_leaderboard
from harness.leaderboard_words import NOTHING, SKIPS, findings, verdict
from harness.types import JsonObject
from reports.files import write_page
from reports.html import page_environment
from reports.manifest import Facts, facts
from reports.table import Cell, Column, Kind, Table, significant

_WARNING = "Times of an interpreter on a CPU: they mean nothing. Verdicts and findings are real"


@dataclass(frozen=True)
class LeaderboardPaths:
    """Where the page is. tables: the files beside it."""

    page: Path
    tables: tuple[Path, ...]


@dataclass(frozen=True)
class Published:
    """A table that was measured elsewhere or earlier, with where it comes from. facts: hardware,
    software, who measured, and what one number is."""

    table: Table
    facts: Facts
    sources: tuple[tuple[str, str], ...]  # (columns, where they come from)


def build_leaderboard(folder: Path) -> LeaderboardPaths:
    """Write the page and the tables into `folder`. Raises LogError, EnvironmentMissing."""
    record = read_leaderboard(folder)
    published = read_published(record.board)
    tables = [
        _measured(record),
        _workloads(record),
        _verdicts(record),
        _findings(record),
        *(shown.table for shown in published),
    ]
    text = _render(record, {table.name: table for table in tables}, published)
    try:
        written = write_page(folder, text, tables)
    except OSError as error:
        raise EnvironmentMissing(
            f"Cannot write the page into {folder}: {error.strerror}. Free some space or make the "
            "folder writable, then run `harness leaderboard` again."
        ) from error
    return LeaderboardPaths(written.page, written.tables)


def read_published(board: str) -> tuple[Published, ...]:
    """The shipped tables of a board; none for one that has none."""
    path = files("reports").joinpath("published", f"{board}.json")
    if not path.is_file():
        return ()
    return tuple(_published(table) for table in json.loads(path.read_text("utf-8"))["tables"])


def _published(data: JsonObject) -> Published:
    columns = tuple(Column(c["key"], c["title"], cast(Kind, c["kind"])) for c in data["columns"])
    decimals = [column.get("decimals") for column in data["columns"]]
    title = f"{data['title']}: {data['hardware']}"
    sources = tuple((source["of"], source["what"]) for source in data["sources"])
    table = Table(
        data["name"],
        title,
        f"{data['statistic'][0].upper()}{data['statistic'][1:]}. {data['note']} "
        f"Sources: {'; '.join(f'{of}: {what}' for of, what in sources)}.",
        columns,
        tuple(tuple(map(_as_published, row, decimals)) for row in data["rows"]),
        f"not measured by this run; {data['hardware']}, {data['software']}",
    )
    about = tuple(
        (name.replace("_", " "), str(data[name]))
        for name in ("hardware", "software", "measured_by", "statistic")
    )
    return Published(table, about, sources)


def _as_published(cell: Cell, decimals: int | None) -> Cell:
    """A number with the digits that it was published with."""
    return f"{cell:.{decimals}f}" if isinstance(cell, int | float) else cell


def _levels(record: Leaderboard) -> str:
    """What every measured table is marked with."""
    versions = ", ".join(f"{n} {record.packages.get(n)}" for n in ("torch", "triton"))
    doubt = "; an interpreter's times, which mean nothing" if record.interpreter else ""
    return f"measured on {record.hardware}, {versions}, {record.date[:10]}{doubt}"


def _measured(record: Leaderboard) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for rank, e in record.ranked():
        fresh, baseline, floor = e.fresh_us, e.baseline_us, e.floor_us
        rows.append(
            (
                rank,
                e.name,
                verdict(e.upstream, "final", "tests"),
                verdict(e.specified, "final", "tests"),
                verdict(e.specified, "held_out"),
                fresh,
                e.reused_us,
                e.ratio,
                baseline / fresh if fresh and baseline else None,
                floor / fresh if fresh and floor else None,
                _percent(_library_share(e.specified)),
                e.reason or "",
            )
        )
    names = {_baseline(e.specified) for e in record.entries if e.specified is not None}
    return Table(
        "leaderboard",
        f"{record.title}: {len(record.entries)} submission{'s' * (len(record.entries) != 1)}",
        "Scored: fresh. Geometric mean over the final workloads of the median device time; fresh: "
        "all inputs refilled and new containers before every call; reused: contents written once, "
        "the same containers in every call, a diagnostic that is never scored. Speedup over "
        f"{', '.join(sorted(names)) or 'the baseline'}. Floor / fresh: 1 would be the roofline. "
        "In libraries: share of the kernels' time, by their names, as the submission's own process "
        "tells it. Ranked is who is right on all specified cases; held-out shapes are a verdict "
        "beside it.",
        (
            Column("rank", "Rank", "integer"),
            Column("submission", "Submission"),
            Column("upstream", "Upstream's cases"),
            Column("specified", "Specified cases"),
            Column("held_out", "Held-out shapes"),
            Column("fresh_us", "Fresh, µs (scored)", "number"),
            Column("reused_us", "Reused, µs", "number"),
            Column("fresh_over_reused", "Fresh / reused", "number"),
            Column("speedup", "Speedup", "ratio"),
            Column("floor_share", "Floor / fresh", "number"),
            Column("library_percent", "In libraries, %", "number"),
            Column("notes", "Why it is not ranked"),
        ),
        tuple(rows),
        _levels(record),
    )


def _library_share(inspection: Inspection | None) -> float | None:
    """Time in library kernels over that in all kernels, over the search workloads."""
    told = [t.diagnostics for t in (inspection.timed if inspection else ())]
    known = [d for d in told if d.get("kernels_us") and "library_share" in d]
    whole = sum(d["kernels_us"] for d in known)
    return sum(d["kernels_us"] * d["library_share"] for d in known) / whole if known else None


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _baseline(inspection: Inspection) -> str:
    return f"the baseline {inspection.baseline}"


def _workloads(record: Leaderboard) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for _, entry in record.ranked():
        for t in entry.specified.timed if entry.specified is not None else ():
            fresh, reused = t.fresh, t.reused
            notes = [t.problem, f"reused: {t.reused_problem}" if t.reused_problem else None]
            rows.append(
                (
                    entry.name,
                    t.workload,
                    fresh,
                    reused,
                    fresh / reused if fresh and reused else None,
                    t.baseline,
                    t.floor_us or None,
                    t.floor_us / fresh if fresh and t.floor_us else None,
                    t.host_us,
                    t.diagnostics.get("hot_us"),
                    t.diagnostics.get("graph_us"),
                    t.diagnostics.get("kernels_us"),
                    t.diagnostics.get("kernels"),
                    _percent(t.diagnostics.get("library_share")),
                    len(t.fresh_us),
                    "; ".join([*(note for note in notes if note), *t.flags]),
                )
            )
    return Table(
        "workloads",
        "Times by workload",
        "Medians in microseconds. The floor is what the device's peaks allow for the work that "
        "these inputs require; nothing can be faster. Host: until the submission's function had "
        "returned. Hot (back to back, warm L2 cache), CUDA graph (captured, replayed; in both a "
        "device may reach its power limit, which lowers its clocks) and kernels (by CUPTI; a "
        "library's by their names: cuBLAS, cuDNN, CUTLASS, torch's own) are told by the "
        "submission's own process.",
        (
            Column("submission", "Submission"),
            Column("workload", "Workload"),
            Column("fresh_us", "Fresh, µs (scored)", "number"),
            Column("reused_us", "Reused, µs", "number"),
            Column("fresh_over_reused", "Fresh / reused", "number"),
            Column("baseline_us", "Baseline, µs", "number"),
            Column("floor_us", "Floor, µs", "number"),
            Column("floor_share", "Floor / fresh", "number"),
            Column("host_us", "Host, µs", "number"),
            Column("hot_us", "Hot, µs", "number"),
            Column("graph_us", "CUDA graph, µs", "number"),
            Column("kernels_us", "Kernels, µs", "number"),
            Column("kernels", "Kernels", "integer"),
            Column("library_percent", "In libraries, %", "number"),
            Column("samples", "Samples", "integer"),
            Column("notes", "Notes"),
        ),
        tuple(rows),
        _levels(record),
    )


def _verdicts(record: Leaderboard) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (entry.name, inspection.task, c.split, c.workload, str(c.status), c.check, c.message)
        for _, entry in record.ranked()
        for inspection in (entry.specified, entry.upstream)
        if inspection is not None
        for c in inspection.checked
        if not c.passed
    ]
    return Table(
        "verdicts",
        "Every workload that did not pass",
        "Each workload is verified on fresh inputs against a float64 reference, whatever became of "
        "the others.",
        (
            Column("submission", "Submission"),
            Column("task", "Task"),
            Column("split", "Split"),
            Column("workload", "Workload"),
            Column("status", "Status"),
            Column("check", "Check"),
            Column("notes", "What happened"),
        ),
        tuple(rows),
        _levels(record),
    )


def _findings(record: Leaderboard) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (entry.name, finding)
        for _, entry in record.ranked()
        for finding in findings(entry) or [NOTHING]
    ]
    return Table(
        "findings",
        "Findings",
        "What the judge saw, and what the submission's own process says of it.",
        (Column("submission", "Submission"), Column("notes", "Finding")),
        tuple(rows),
        _levels(record),
    )


def answers(record: Leaderboard) -> list[str]:
    """The first screen's sentences."""
    ranked = [entry for rank, entry in record.ranked() if rank is not None]
    if not ranked:
        return ["No submission is right on all specified cases, so none is ranked."]
    sentences = []
    if not record.interpreter:
        best = ranked[0]
        sentences.append(
            f"{best.name} is the fastest of those that are right on all specified cases: "
            f"{significant(best.fresh_us or 0)} µs with fresh inputs on {record.hardware}."
        )
    keeping = [e for e in record.entries if e.ratio is not None and e.ratio > SKIPS]
    sentences += [_kept(entry) for entry in keeping if not record.interpreter]
    left = len(record.entries) - len(ranked)
    if left:
        sentences.append(
            f"{left} of {len(record.entries)} {'is' if left == 1 else 'are'} not ranked; the table "
            "says why."
        )
    return sentences or ["Verdicts and findings are below; these times rank nothing."]


def _kept(entry: Entry) -> str:
    fresh, reused = entry.fresh_us or 0, entry.reused_us or 0
    return (
        f"A timer that reuses its inputs would show {significant(reused)} µs for {entry.name} "
        f"instead of {significant(fresh)}."
    )


def _render(record: Leaderboard, tables: dict[str, Table], published: Sequence[Published]) -> str:
    resources = files("reports")
    template = page_environment().from_string(
        resources.joinpath("leaderboard.html.j2").read_text(encoding="utf-8")
    )
    return template.render(
        css=Markup(resources.joinpath("report.css").read_text(encoding="utf-8")),
        record=record,
        warning=_WARNING if record.interpreter else "",
        answers=answers(record),
        levels=_levels(record),
        tables=tables,
        published=published,
        findings=[(rank, entry, findings(entry) or [NOTHING]) for rank, entry in record.ranked()],
        cards=_cards(record),
        details=[
            ("Evaluator", facts({k: v for k, v in record.evaluator.items() if k != "lock"})),
            ("Machine", facts(record.machine)),
            ("Packages", facts(record.packages)),
        ],
    )


def _cards(record: Leaderboard) -> list[tuple[str, str, str]]:
    """(title, value, note) of the first screen."""
    ranked = sum(rank is not None for rank, _ in record.ranked())
    versions = ", ".join(f"{n} {record.packages.get(n)}" for n in ("torch", "triton"))
    return [
        ("Hardware", record.hardware, str(record.evaluator.get("clock", ""))),
        ("Date", record.date[:10], versions),
        ("Submissions", f"{len(record.entries)}", f"{ranked} ranked"),
        ("Scored", "fresh inputs", "reused inputs are a diagnostic"),
    ]

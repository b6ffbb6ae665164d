"""The leaderboard comparison: submissions as they are, inspected on both variants of a task.

Each file is wrapped (the suite says how), inspected on the specified task (verdicts, times with
fresh and with reused inputs) and on upstream's variant (verdicts), and written to leaderboard.json
as soon as it is known, so that a later failure loses nothing. Then they are ranked: the scored time
is the geometric mean over the final workloads of the median with fresh inputs, and a rank has who
is right on every specified case with a valid fresh time on every final workload; held-out shapes
are a verdict beside it.

Covered: files that cannot be read or are no submissions (a row with the reason), faults of the
harness on one file (likewise), the record, its reading, ranks.
Not covered: how things are measured (evaluate/inspection.py); words (leaderboard_words.py); the
page (reports/leaderboard.py, found by name).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, cast

from harness.environment import fingerprint, git_state, packages
from harness.errors import EnvironmentMissing, InfraError, LogError, UnknownName, UsageError
from harness.evaluate.inspected import Inspection, inspection_from_json, inspection_to_json
from harness.evaluate.local_gpu import GpuDevice
from harness.folder import write_text
from harness.loading import load
from harness.types import Candidate, JsonObject, content_hash, geometric_mean

FORMAT = 1
RECORD = "leaderboard.json"


@dataclass(frozen=True)
class Board:
    """A leaderboard that submissions can be held against.

    suite: its name. specified and upstream: tasks of it. wrap: "module:attribute" of the function
    that makes a program of a submission.
    """

    name: str
    title: str
    suite: str
    specified: str
    upstream: str
    wrap: str


BOARDS = {
    "trimul": Board(
        "trimul",
        "GPUMode's TriMul",
        "gpumode",
        "trimul@spec",
        "trimul@upstream",
        "suites.gpumode.submission:wrap",
    )
}


@dataclass(frozen=True)
class Entry:
    """One submission. error: why it could not be inspected at all. source_hash: None where it could
    not be read."""

    name: str
    source_hash: str | None = None
    error: str | None = None
    specified: Inspection | None = None
    upstream: Inspection | None = None

    @property
    def fresh_us(self) -> float | None:
        """Geometric mean over the final workloads, None where one has no time."""
        return self._mean("fresh")

    @property
    def reused_us(self) -> float | None:
        return self._mean("reused")

    @property
    def baseline_us(self) -> float | None:
        return self._mean("baseline")

    @property
    def floor_us(self) -> float | None:
        return self._mean("floor_us")

    @property
    def ratio(self) -> float | None:
        """Fresh over reused: above 1 where calls on reused inputs skip work."""
        fresh, reused = self.fresh_us, self.reused_us
        return None if fresh is None or reused is None else fresh / reused

    def _mean(self, field: str) -> float | None:
        timed = self.specified.timed if self.specified is not None else ()
        values = [getattr(t, field) for t in timed]
        return geometric_mean(values) if values and all(values) else None

    @property
    def reason(self) -> str | None:
        """Why it is not ranked; None where it is."""
        if self.error is not None:
            return self.error
        spec = self.specified
        if spec is None:
            return "not inspected"
        if spec.build_failure is not None:
            return f"does not build: {spec.build_failure.strip().partition(chr(10))[0]}"
        wrong = spec.failures("final", "tests")
        if wrong:
            cases = sum(c.split in ("final", "tests") for c in spec.checked)
            first = wrong[0]
            return (
                f"wrong on {len(wrong)} of {cases} specified cases, first on {first.workload}: "
                f"{first.status}, {first.message}"
            )
        for timed in spec.timed:
            if timed.problem is not None:
                return f"no valid time on {timed.workload}: {timed.problem}"
        if self.fresh_us is None:
            return "no time on some workload"
        return None


@dataclass(frozen=True)
class Leaderboard:
    """The record. date: ISO 8601, UTC. machine, packages, git, evaluator: as in a comparison's
    manifest. interpreter: there was no GPU; times mean nothing."""

    board: str
    title: str
    date: str
    interpreter: bool
    git: JsonObject
    machine: JsonObject
    packages: JsonObject
    evaluator: JsonObject
    entries: tuple[Entry, ...]

    @property
    def hardware(self) -> str:
        """What the times were measured on."""
        return str(self.evaluator.get("device", "unknown"))

    def ranked(self) -> list[tuple[int | None, Entry]]:
        """The ranked by fresh time, then the others in the order of the request."""
        good = sorted(
            (e for e in self.entries if e.reason is None), key=lambda e: e.fresh_us or 0.0
        )
        others = [e for e in self.entries if e.reason is not None]
        return [*enumerate(good, start=1), *((None, entry) for entry in others)]


class _Report(Protocol):
    @property
    def page(self) -> Path: ...


def named_board(name: str) -> Board:
    """Raises UnknownName."""
    if name not in BOARDS:
        raise UnknownName("leaderboard", name, BOARDS)
    return BOARDS[name]


def run_leaderboard(
    board: Board,
    files: Sequence[Path],
    out: Path,
    *,
    trust_candidates: bool = False,
    device: GpuDevice = "cuda",
    say: Callable[[str], None] = print,
) -> Leaderboard:
    """Inspect every file, keep `out`/leaderboard.json whole after each, and return the record.

    Raises UsageError if no file is a submission, EnvironmentMissing without a GPU.
    """
    from harness.evaluate.local import LocalEvaluator

    wrap = cast(Callable[[str], str], load("submission format", board.wrap, {}))
    read = [_read(name, path, wrap) for name, path in zip(_names(files), files, strict=True)]
    if all(candidate is None for _, candidate in read):
        reasons = "\n".join(f"  {entry.name}: {entry.error}" for entry, _ in read)
        raise UsageError(f"None of the files is a submission:\n{reasons}")
    entries = [entry for entry, _ in read]
    _make_folder(out)
    with (
        tempfile.TemporaryDirectory(prefix="harness-leaderboard-") as builds,  # for both tasks
        closing(
            LocalEvaluator(
                board.suite,
                cache_folder=Path(builds),
                trust_candidates=trust_candidates,
                device=device,
            )
        ) as evaluator,
    ):

        def record() -> Leaderboard:
            made = Leaderboard(
                board.name,
                board.title,
                datetime.now(UTC).isoformat(timespec="seconds"),
                device == "interpreter",
                git_state(),
                fingerprint(),
                dict(packages()),
                evaluator.describe(),
                tuple(entries),
            )
            write_text(out / RECORD, json.dumps(to_json(made), indent=1, allow_nan=False) + "\n")
            return made

        for place, (entry, candidate) in enumerate(read):
            if candidate is None:
                continue
            say(f"{entry.name}: {place + 1} of {len(read)}")
            entries[place] = _inspected(evaluator, board, entry, candidate)
            record()
        return record()


def _inspected(evaluator: _Inspecting, board: Board, entry: Entry, candidate: Candidate) -> Entry:
    """Both inspections; what is known stays if the second one cannot be made."""
    try:
        specified = evaluator.inspect(board.specified, candidate)
        entry = replace(entry, specified=specified)
        upstream = evaluator.inspect(board.upstream, candidate, timed=False)
        return replace(entry, upstream=upstream)
    except InfraError as error:
        return replace(entry, error=f"the harness failed on it: {error}")


class _Inspecting(Protocol):
    def inspect(self, task: str, candidate: Candidate, *, timed: bool = True) -> Inspection: ...


def _read(name: str, path: Path, wrap: Callable[[str], str]) -> tuple[Entry, Candidate | None]:
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        return Entry(name, error=f"cannot be read: {why}"), None
    entry = Entry(name, content_hash(source))
    try:
        return entry, Candidate("triton", wrap(source))
    except UsageError as error:
        return replace(entry, error=str(error)), None


def _names(files: Sequence[Path]) -> list[str]:
    """File names; with their folder's name, then with a number, where they would be the same."""
    names = [path.name for path in files]
    names = [
        f"{path.resolve().parent.name}/{name}" if names.count(name) > 1 else name
        for name, path in zip(names, files, strict=True)
    ]
    return [
        f"{name} ({names[: place + 1].count(name)})" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentMissing(
            f"Cannot make the folder {out}: {error.strerror}. Choose another with --out."
        ) from error


def build_page(out: Path) -> Path:
    """Write the page and the tables of `out`/leaderboard.json; the page's path. Raises LogError."""
    build = load("report", "leaderboard", {"leaderboard": "reports.leaderboard:build_leaderboard"})
    return cast(Callable[[Path], _Report], build)(out).page


def to_json(record: Leaderboard) -> JsonObject:
    """The whole record; ranks, means, reasons and findings are written out for other readers."""
    from harness.leaderboard_words import findings

    ranks = {entry.name: rank for rank, entry in record.ranked()}
    return {
        "format": FORMAT,
        "kind": "leaderboard",
        "board": record.board,
        "title": record.title,
        "date": record.date,
        "scored": "fresh",
        "interpreter": record.interpreter,
        "hardware": record.hardware,
        "git": record.git,
        "machine": record.machine,
        "packages": record.packages,
        "evaluator": record.evaluator,
        "entries": [
            {
                "name": e.name,
                "rank": ranks[e.name],
                "reason": e.reason,
                "fresh_us": e.fresh_us,
                "reused_us": e.reused_us,
                "fresh_over_reused": e.ratio,
                "baseline_us": e.baseline_us,
                "floor_us": e.floor_us,
                "findings": findings(e),
                "source_hash": e.source_hash,
                "error": e.error,
                "specified": inspection_to_json(e.specified) if e.specified else None,
                "upstream": inspection_to_json(e.upstream) if e.upstream else None,
            }
            for e in record.entries
        ],
    }


def read_leaderboard(folder: Path) -> Leaderboard:
    """The record in a folder. Raises LogError."""
    path = folder / RECORD
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LogError(
            f"{folder} has no {RECORD}: {error.strerror}. `harness leaderboard` writes one."
        ) from error
    except ValueError as error:
        raise LogError(f"{path} is no JSON: {error}. Make it again.") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise LogError(f"{path} is of another format than {FORMAT}. Make it again.")
    try:
        entries = tuple(
            Entry(
                row["name"],
                row["source_hash"],
                row["error"],
                inspection_from_json(row["specified"]) if row["specified"] else None,
                inspection_from_json(row["upstream"]) if row["upstream"] else None,
            )
            for row in data["entries"]
        )
        plain = ("board", "title", "date", "interpreter", "git", "machine", "packages", "evaluator")
        return Leaderboard(**{name: data[name] for name in plain}, entries=entries)
    except (KeyError, TypeError, ValueError) as error:
        raise LogError(f"{path} is not whole ({error!r}). Make it again.") from error

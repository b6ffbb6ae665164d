"""RUNS/modal/calls.jsonl: every call of a container, written down before it is waited for.

Each line has `n` (the call's number, from 1), `kind` and `t` (seconds since the epoch):

    intent    key (of the request), function, task: before anything is sent
    call      call_id: the container may be running from here on; a resumed comparison waits for it
    answer    seconds, dollars, and where it ran (container): it was paid, and its result is kept
    lost      why, seconds, dollars: it will not answer; seconds is what it can have cost at most

Append-only, one writer (the lock of the comparison's folder). A torn last line is dropped. What
was paid is the sum over `answer` and `lost`; a number whose last line is `intent` or `call` is
open, and what it costs is not known yet.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import EnvironmentMissing, LogError
from harness.types import JsonObject

NAME = "calls.jsonl"


@dataclass
class Entry:
    """One call as far as its lines tell. ended: "" while it is open, else "answer" or "lost"."""

    n: int
    key: str
    function: str
    task: str = ""
    call_id: str | None = None
    ended: str = ""
    seconds: float = 0.0
    dollars: float | None = 0.0
    why: str = ""
    container: JsonObject = field(default_factory=dict)


class Ledger:
    """The calls of one comparison. Thread-safe. Raises LogError for a file of another form."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "modal" / NAME
        self._lock = threading.Lock()
        self._entries = {entry.n: entry for entry in read_ledger(folder)}
        self._mend()

    def entries(self) -> list[Entry]:
        with self._lock:
            return list(self._entries.values())

    def open_calls(self, key: str) -> list[Entry]:
        """Calls for this request that may still answer, or answered and can be asked once more."""
        with self._lock:
            return [
                entry
                for entry in self._entries.values()
                if entry.key == key and entry.call_id and entry.ended != "lost"
            ]

    def intent(self, key: str, function: str, task: str) -> int:
        """The number of a new call."""
        with self._lock:
            n = max(self._entries, default=0) + 1
            self._entries[n] = Entry(n, key, function, task)
            self._write(n, "intent", {"key": key, "function": function, "task": task})
            return n

    def called(self, n: int, call_id: str) -> None:
        with self._lock:
            self._entries[n].call_id = call_id
            self._write(n, "call", {"call_id": call_id})

    def answered(
        self, n: int, seconds: float, dollars: float | None, container: JsonObject
    ) -> None:
        self._end(n, "answer", seconds, dollars, container=container)

    def lost(self, n: int, why: str, seconds: float, dollars: float | None) -> None:
        self._end(n, "lost", seconds, dollars, why=why)

    def _end(
        self,
        n: int,
        kind: str,
        seconds: float,
        dollars: float | None,
        *,
        why: str = "",
        container: JsonObject | None = None,
    ) -> None:
        with self._lock:
            entry = self._entries[n]
            if entry.ended == "answer":  # it was paid once, also if its result is no longer kept
                seconds, dollars = entry.seconds, entry.dollars
            entry.ended, entry.seconds, entry.dollars = kind, seconds, dollars
            entry.why, entry.container = why, container or {}
            more = {"why": why} if kind == "lost" else {"container": container}
            self._write(n, kind, {"seconds": seconds, "dollars": dollars, **more})

    def _write(self, n: int, kind: str, fields: JsonObject) -> None:
        line = json.dumps({"n": n, "kind": kind, "t": time.time(), **fields}) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise EnvironmentMissing(
                f"Cannot write {self.path}: {error.strerror}. Free space there; then `harness "
                "resume` goes on."
            ) from error

    def _mend(self) -> None:
        """Cut a torn last line off, so that the next one begins at its own."""
        if not self.path.exists():
            return
        data = self.path.read_bytes()
        if data and not data.endswith(b"\n"):
            os.truncate(self.path, data.rfind(b"\n") + 1)


def read_ledger(folder: Path) -> list[Entry]:
    """The calls of the comparison in `folder`, in the order in which they were begun; none where
    Modal was not used. Raises LogError."""
    path = folder / "modal" / NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise LogError(f"Cannot read {path}: {error}. Restore it from a copy.") from error
    entries: dict[int, Entry] = {}
    complete = text[: text.rfind("\n") + 1]
    for number, line in enumerate(complete.splitlines(), 1):
        try:
            fields = json.loads(line)
            _apply(entries, fields)
        except (ValueError, KeyError, TypeError) as error:
            raise LogError(
                f"{path}, line {number} is no line of a ledger ({error!r}). Restore it from a copy."
            ) from error
    return list(entries.values())


def _apply(entries: dict[int, Entry], fields: JsonObject) -> None:
    n, kind = int(fields["n"]), fields["kind"]
    if kind == "intent":
        entries[n] = Entry(n, fields["key"], fields["function"], fields["task"])
        return
    entry = entries[n]
    if kind == "call":
        entry.call_id = fields["call_id"]
        return
    if kind not in ("answer", "lost"):
        raise ValueError(f"unknown kind {kind!r}")
    entry.ended, entry.seconds, entry.dollars = kind, float(fields["seconds"]), fields["dollars"]
    entry.why, entry.container = fields.get("why", ""), fields.get("container") or {}


@dataclass(frozen=True)
class Spending:
    """What a comparison's calls come to. dollars: None where a price is unknown. open_calls: begun,
    and not known to have ended."""

    calls: int
    lost: int
    open_calls: int
    seconds: float
    dollars: float | None


def spending(entries: Iterable[Entry]) -> Spending:
    """The sum over calls."""
    calls = list(entries)
    known = [entry.dollars for entry in calls if entry.dollars is not None]
    return Spending(
        calls=len(calls),
        lost=sum(entry.ended == "lost" for entry in calls),
        open_calls=sum(not entry.ended for entry in calls),
        seconds=sum(entry.seconds for entry in calls),
        dollars=sum(known) if len(known) == len(calls) else None,
    )


def spent_in_words(folder: Path) -> str | None:
    """What the containers of a comparison came to; None where there were none. Raises LogError."""
    total = spending(read_ledger(folder))
    if not total.calls:
        return None
    dollars = "at unknown prices" if total.dollars is None else f"about ${total.dollars:.2f}"
    return (
        f"Modal: {total.calls} calls ({total.lost} lost, {total.open_calls} open), "
        f"{total.seconds:.0f} s of containers, {dollars}."
    )

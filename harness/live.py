"""What a running comparison shows: a live table on a terminal, plain lines elsewhere.

One row per task and arm (the seeds together): progress, best so far, failures, cost, state; above
it the phase, the time passed and the time left. Off a terminal the same facts go out as one line,
at most every few seconds and only when something changed, so that a log file stays readable.

Covered: drawing, from facts that it is told. Not covered: reading run logs, deciding anything. The
time left is an estimate from the pace of this session and covers the search alone; it is no
measurement. Drawing computes, so it takes the machine lock (shared): no table is drawn while a
block is being timed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Literal, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harness.evaluate.machine import busy

State = Literal["waiting", "running", "finished", "paused", "failed"]

PLAIN_INTERVAL_SECONDS = 5.0  # between two lines off a terminal
DRAW_INTERVAL_SECONDS = 0.5  # between two drawings of the table


@dataclass(frozen=True)
class RunView:
    """What the display knows of one run. best: score of the best candidate so far, or None."""

    task: str
    arm: str
    seed: int
    charges: int = 0
    best: float | None = None
    failures: int = 0
    tokens: int = 0
    dollars: float | None = 0.0
    state: State = "waiting"
    doing: str = ""


class LiveView:
    """The display of one comparison. Thread-safe: runs report from their own threads.

    A context manager; `tick` draws and is called by the main thread only.
    """

    def __init__(
        self,
        runs: Sequence[RunView],
        charges_per_run: int,
        *,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runs = {(r.task, r.arm, r.seed): r for r in runs}
        self._total = charges_per_run
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._began = clock()
        self._lock = threading.Lock()
        self._phase = "starting"
        self._served = 0  # charges that came from the logs of an earlier session
        self._changed = True
        self._last_drawn = float("-inf")
        self._last_line = ""
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=False)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.tick(now=True)
        if self._live is not None:
            self._live.stop()
            self._live = None

    def update(self, run: RunView) -> None:
        """The newest facts of one run."""
        with self._lock:
            key = (run.task, run.arm, run.seed)
            self._changed = self._changed or self._runs.get(key) != run
            self._runs[key] = run

    def state(self, task: str, arm: str, seed: int, state: State, doing: str = "") -> None:
        """A run starts, ends, or does something else than before."""
        self.update(replace(self._runs[(task, arm, seed)], state=state, doing=doing))

    def end(
        self,
        task: str,
        arm: str,
        seed: int,
        state: State,
        charges: int | None,
        best: float | None,
        failures: int = 0,
        tokens: int = 0,
    ) -> None:
        """A run ended. The rest is from its log; charges: None where there is none to read."""
        run = replace(self._runs[(task, arm, seed)], state=state, doing="")
        if charges is not None:
            run = replace(run, charges=charges, best=best, failures=failures, tokens=tokens)
        self.update(run)

    def already_done(self, charges: int) -> None:
        """Charges that earlier sessions paid: they do not count for the pace."""
        with self._lock:
            self._served += charges

    def phase(self, text: str) -> None:
        """What the comparison as a whole is doing now: "searching", "confirming matmul", ..."""
        with self._lock:
            self._phase = text
            self._changed = True
        if self._live is None:
            self.tick(now=True)

    def say(self, text: str) -> None:
        """A line that stays (a warning, a run's end with its reason)."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def tick(self, *, now: bool = False) -> None:
        """Draw if something changed and it is time (or `now`)."""
        moment = self._clock()
        interval = DRAW_INTERVAL_SECONDS if self._live else PLAIN_INTERVAL_SECONDS
        if not now and moment - self._last_drawn < interval:
            return
        with self._lock:
            changed, self._changed = self._changed, False
        if self._live is None and not changed:
            return
        self._last_drawn = moment
        with busy():
            if self._live is not None:
                self._live.update(self._drawing(), refresh=True)
                return
            line = self.summary()
            if line != self._last_line:
                self._last_line = line
                self.say(f"[{_clock_text(moment - self._began)}] {line}")

    def summary(self) -> str:
        """The comparison in one line."""
        with self._lock:
            runs, phase = list(self._runs.values()), self._phase
        done = sum(r.charges for r in runs)
        parts = [
            phase,
            f"{sum(r.state == 'finished' for r in runs)}/{len(runs)} runs",
            f"{done}/{self._total * len(runs)} charges",
        ]
        scored = [r for r in runs if r.best is not None]
        if scored:
            best = max(scored, key=lambda r: r.best or 0.0)
            parts.append(f"best {best.best:.2f}x ({best.task}, {best.arm})")
        stopped = sum(r.state in ("paused", "failed") for r in runs)
        parts.append(f"{sum(r.failures for r in runs)} candidates failed")
        if stopped:
            parts.append(f"{stopped} runs stopped")
        parts.append(_cost(runs))
        left = self._seconds_left(runs)
        if left is not None:
            parts.append(f"about {_clock_text(left)} of search left")
        return ", ".join(part for part in parts if part)

    def _seconds_left(self, runs: Sequence[RunView]) -> float | None:
        """From the pace of this session; None before the first charge and after the last."""
        paid = sum(r.charges for r in runs) - self._served
        open_runs = [r for r in runs if r.state in ("waiting", "running")]
        left = sum(max(0, self._total - r.charges) for r in open_runs)
        if paid <= 0 or left == 0:
            return None
        return (self._clock() - self._began) / paid * left

    def _drawing(self) -> Group:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("task")
        table.add_column("arm")
        for name in ("seeds", "charges", "best", "failed", "cost"):
            table.add_column(name, justify="right")
        table.add_column("now", overflow="ellipsis", no_wrap=True)
        with self._lock:
            groups: dict[tuple[str, str], list[RunView]] = {}
            for run in self._runs.values():
                groups.setdefault((run.task, run.arm), []).append(run)
        for (task, arm), runs in groups.items():
            scores = [r.best for r in runs if r.best is not None]
            finished = sum(r.state == "finished" for r in runs)
            table.add_row(
                Text(task),
                Text(arm),
                f"{finished}/{len(runs)}",
                f"{sum(r.charges for r in runs)}/{self._total * len(runs)}",
                f"{max(scores):.2f}x" if scores else "-",
                str(sum(r.failures for r in runs)),
                _cost(runs) or "-",
                Text(_now(runs)),
            )
        head = f"[{_clock_text(self._clock() - self._began)}] {self.summary()}"
        return Group(Text(head, style="bold"), table)


def _now(runs: Sequence[RunView]) -> str:
    """What the seeds of one arm are doing, the stopped ones first."""
    words = []
    for state in ("failed", "paused", "running", "waiting"):
        members = [r for r in runs if r.state == state]
        if members:
            doing = next((r.doing for r in members if r.doing), "")
            words.append(f"{len(members)} {state}" + (f" ({doing})" if doing else ""))
    return ", ".join(words) or "finished"


def _cost(runs: Sequence[RunView]) -> str:
    """Tokens, and dollars where every price is known."""
    tokens = sum(r.tokens for r in runs)
    if not tokens:
        return ""
    text = f"{tokens / 1e6:.2f}M tokens" if tokens >= 1e6 else f"{tokens / 1e3:.0f}k tokens"
    known = [r.dollars for r in runs if r.dollars is not None]
    if len(known) < len(runs):
        return text
    return text + (f" ${sum(known):.2f}" if sum(known) else "")


def _clock_text(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"

"""Recording and replay: a client in front of a tape.

Modes: off (pass through), record (ask, and write), replay (serve; a miss is an error),
replay-or-record (serve, else ask and write). Refusals, length stops and empty replies are replies
like any other. Errors are not recorded: nothing was answered.

Covered: the levels that LLM= may name, the four modes, a miss explained by the nearest recorded
request and the first line that differs. Not covered: the files (`harness.llm.tape`), and requests
that are only similar: one changed character misses.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Literal, cast, get_args

from harness.errors import LogError, UnknownName, UsageError
from harness.llm.client import Client, Reply, Request
from harness.llm.tape import Call, Tape
from harness.types import canonical_json

Mode = Literal["off", "record", "replay", "replay-or-record"]


@dataclass(frozen=True)
class LLMLevel:
    """Where completions come from. path: of the tapes; set for every kind but live and
    simulated."""

    kind: Literal["live", "simulated", "replay", "record", "replay-or-record"]
    path: Path | None = None

    def __str__(self) -> str:
        return self.kind if self.path is None else f"{self.kind}:{self.path}"

    @property
    def mode(self) -> Mode:
        return "off" if self.kind in ("live", "simulated") else cast(Mode, self.kind)


def parse_level(text: str) -> LLMLevel:
    """ "live", "simulated", "replay:PATH", "record:PATH" or "replay-or-record:PATH".

    Raises UnknownName for another word, UsageError for a missing or a superfluous path.
    """
    kind, separator, path = text.partition(":")
    if kind in ("live", "simulated"):
        if separator:
            raise UsageError(f"LLM={text}: {kind} takes no path. Write LLM={kind}.")
        return LLMLevel(cast(Literal["live", "simulated"], kind))
    if kind not in ("replay", "record", "replay-or-record"):
        raise UnknownName(
            "LLM level", kind, ["live", "simulated", "replay", "record", "replay-or-record"]
        )
    if not path:
        raise UsageError(f"LLM={text}: {kind} needs a path. Write LLM={kind}:PATH.")
    return LLMLevel(cast(Literal["replay", "record", "replay-or-record"], kind), Path(path))


class TapeClient:
    """A `Client` that serves and writes a tape, in front of another client.

    inner: asked on a miss; None in mode "replay". waits: whether a call may wait for the network.
    """

    def __init__(self, mode: str, tape: Tape, inner: Client | None) -> None:
        """Raises UnknownName for an unknown mode."""
        if mode not in get_args(Mode):
            raise UnknownName("recording mode", mode, get_args(Mode))
        if (inner is None) != (mode == "replay"):
            raise ValueError(f"mode {mode} and inner client {inner!r} do not go together")
        self._mode, self._tape, self._inner = mode, tape, inner
        self.waits = bool(getattr(inner, "waits", False))

    def complete(self, request: Request, occurrence: int) -> Reply:
        """From the tape or from the inner client. Raises LogError on a miss in mode "replay"."""
        if self._mode in ("replay", "replay-or-record"):
            reply = self._tape.find(request, occurrence)
            if reply is not None:
                return reply
        if self._inner is None:
            raise miss(self._tape, request, occurrence)
        reply = self._inner.complete(request, occurrence)
        if self._mode != "off":
            self._tape.add(Call(request, occurrence, reply))
        return reply


def miss(tape: Tape, request: Request, occurrence: int) -> LogError:
    """The error for a request that is not on the tape: the nearest one and where they part."""
    calls = tape.calls()
    start = f"The tape has no completion for occurrence {occurrence} of request {request.key}."
    advice = (
        "Replay serves exact requests only: use the code, models.toml and options of the "
        "recording, or LLM=replay-or-record:PATH to ask a model for what is missing."
    )
    same = sum(c.request.key == request.key for c in calls)
    if same:
        return LogError(f"{start} It has {same} of the same request. {advice}")
    if not calls:
        return LogError(f"{start} It is empty. {advice}")
    wanted = _lines(request)
    nearest = max(calls, key=lambda c: _likeness(wanted, _lines(c.request)))
    number, asked, recorded = _first_difference(wanted, _lines(nearest.request))
    return LogError(
        f"{start} The nearest of its {len(calls)} is {nearest.request.key} (occurrence "
        f"{nearest.occurrence}); they part at line {number}:\n"
        f"  asked:    {asked}\n  recorded: {recorded}\n{advice}"
    )


def _lines(request: Request) -> list[str]:
    """A request as a person would compare it, line by line."""
    lines = [
        f"model: {request.model}",
        f"purpose: {request.purpose}",
        f"sampling: {canonical_json(dict(request.sampling))}",
    ]
    for message in request.messages:
        lines += [f"[{message.role}]", *message.content.split("\n")]
    return lines


def _likeness(left: list[str], right: list[str]) -> float:
    """The share of lines in common, whatever their order (Dice's coefficient), 0 to 1."""
    common = sum((Counter(left) & Counter(right)).values())
    return 2 * common / (len(left) + len(right))


def _first_difference(asked: list[str], recorded: list[str]) -> tuple[int, str, str]:
    for number, (left, right) in enumerate(zip_longest(asked, recorded), 1):
        if left != right:
            return number, _shown(left), _shown(right)
    return len(asked), "(no line differs)", "(a message is split elsewhere)"


def _shown(line: str | None) -> str:
    return "(nothing: the text ends before)" if line is None else line[:200]

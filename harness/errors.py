"""One exception tree. Every message says what happened, what was expected, and what to do.

HarnessError               shown to the user as one message, exit status 1
├── UsageError             the request is wrong: unknown name, bad value (exit status 2)
│   └── UnknownName        with did-you-mean and the list of what there is
├── EnvironmentMissing     this machine lacks a compiler, a package, a key, a permission or space
├── LogError               a run folder that cannot be read, or that somebody else writes
│   └── ReplayMismatch     a resumed run asked for something else than the log holds
├── InfraError             ours: the evaluator or endpoint failed after its retries; the run
│   │                      pauses, resumable and uncharged
│   ├── EndpointError      the LLM endpoint (time-out, 429, 5xx) after its retries
│   └── QuotaExhausted     the endpoint says that the account has no quota left
├── ForeignError           a foreign method's program died, hung or gave up before its budget did
└── ReplyError             an LLM reply that cannot be used (in methods it becomes NO_CODE)
BudgetExhausted            a BaseException: no `except Exception` of a method swallows it
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HarnessError(Exception):
    """Base of everything that the CLI shows as a message instead of a traceback."""


class UsageError(HarnessError):
    """The request cannot be carried out as it was written."""


class UnknownName(UsageError):
    """A name that is not registered. `kind` is what was looked up ("method", "suite", "task",
    ...)."""

    def __init__(self, kind: str, name: str, available: Iterable[str]) -> None:
        names = sorted(available)
        close = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        super().__init__(f"Unknown {kind} {name!r}.{hint} Available: {', '.join(names) or 'none'}.")


class EnvironmentMissing(HarnessError):
    """This machine lacks something that the request needs; the message says how to get it."""


class LogError(HarnessError):
    """A run folder is unreadable, of another version, locked, or cannot be written."""


class ReplayMismatch(LogError):
    """Re-executing a run asked for something else than its log holds."""


class InfraError(HarnessError):
    """The harness's own side failed, after retries. Never a method's fault, never charged."""


class EndpointError(InfraError):
    """The LLM endpoint failed after its retries."""


class QuotaExhausted(InfraError):
    """The LLM account has no quota left: the run pauses until `harness resume`."""


class ForeignError(HarnessError):
    """A foreign method's program did not do its run. Raised in the method: the run is failed, and
    resumable once the program is mended."""


class ReplyError(HarnessError):
    """An LLM reply from which nothing usable can be read."""


class BudgetExhausted(BaseException):
    """Raised before the first LLM call that would exceed the budget. `limit` names the limit."""

    def __init__(self, limit: str) -> None:
        super().__init__(limit)
        self.limit = limit

"""A foreign method in a shell script: hill climbing with curl.

    harness compare --methods "best_of_n examples.curl_search:method" --tasks matmul

The script, search.sh, is the whole search; this module only says how to start it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.foreign.drive import ForeignProgram, drive
from harness.method import Method, Problem, Search


@dataclass(frozen=True)
class Options:
    """The script has no settings."""


def search(problem: Problem) -> Search:
    """Run the script against the problem."""
    script = Path(__file__).with_name("search.sh")
    yield from drive(problem, ForeignProgram(["/bin/sh", str(script)]))


method = Method(
    name="curl_search",
    title="Hill climbing with curl",
    search=search,
    options=Options,
    package="examples.curl_search",
)

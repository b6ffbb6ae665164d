"""OpenEvolve, as its authors ship it (openevolve 0.4.0), driven from outside.

The package runs unmodified in an environment of its own (requirements.lock) as a foreign program:
its prompts, its population and its choices, with the harness's task prose, model, evaluator and
budget. One iteration costs one charge, also where it ends without a program. driver.py, which runs
inside that environment, holds the configuration and the pins; docs/baselines.md holds the reasons.

    openevolve              the configuration that the K-Search paper gives
    openevolve@one-island   the same on one island, which is what the versions of that time did
    openevolve@defaults     the package's own defaults

Not covered: resuming a run with more than one worker (it starts over), embeddings and novelty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from harness.foreign.drive import ForeignProgram, drive
from harness.foreign.environments import PythonEnvironment, beside, files
from harness.method import Method, Problem, Search

Edits = Literal["full", "diff"]

ENVIRONMENT = PythonEnvironment("openevolve-0.4.0", beside(__file__, "requirements.lock"), 154)


@dataclass(frozen=True)
class Options:
    """Names are OpenEvolve's, shortened. Defaults are the paper's. Raises ValueError.

    population, archive: their sizes. islands: 3 in the paper's files, of which the versions of that
    time used one. elite_ratio, exploitation_ratio, exploration_ratio: how parents are drawn.
    top_programs, diverse_programs: how many a prompt shows besides the parent. migration_interval:
    generations of an island between migrations (the package's default; the paper is silent);
    migration_rate: share of an island. edits: "full" rewrites or "diff". max_code_length:
    characters above which a program is dropped. workers: iterations at once; with more than one a
    seed labels a replicate only.
    """

    population: int = 25
    archive: int = 12
    islands: int = 3
    elite_ratio: float = 0.3
    exploitation_ratio: float = 0.65
    exploration_ratio: float = 0.35
    top_programs: int = 3
    diverse_programs: int = 2
    migration_interval: int = 50
    migration_rate: float = 0.1
    edits: Edits = "full"
    max_code_length: int = 90_000
    workers: int = 1

    def __post_init__(self) -> None:
        for name in ("population", "archive", "islands", "migration_interval", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("elite_ratio", "exploitation_ratio", "exploration_ratio", "migration_rate"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if self.exploitation_ratio + self.exploration_ratio > 1.0:
            raise ValueError("exploitation_ratio and exploration_ratio must not exceed 1 together")
        for name in ("top_programs", "diverse_programs"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.max_code_length < 1:
            raise ValueError(f"max_code_length must be at least 1, got {self.max_code_length}")
        if self.edits not in get_args(Edits):
            raise ValueError(f"edits must be full or diff, got {self.edits!r}")


def search(problem: Problem) -> Search:
    """Run the package against the problem."""
    program = ForeignProgram(
        command=ENVIRONMENT.command("driver.py"),
        files=files(__file__, "driver.py"),
    )
    yield from drive(problem, program)


def replicates(options: Options) -> str | None:
    """Why a seed does not reproduce a run with these options, or None."""
    if options.workers > 1:
        return f"{options.workers} workers finish in an order that is not pinned"
    return None


method = Method(
    name="openevolve",
    title="OpenEvolve 0.4.0",
    search=search,
    options=Options,
    package="methods.openevolve",
    variants={
        "one-island": {"islands": 1},
        "defaults": {
            "population": 1000,
            "archive": 100,
            "islands": 5,
            "elite_ratio": 0.1,
            "exploitation_ratio": 0.7,
            "exploration_ratio": 0.2,
            "edits": "diff",
            "max_code_length": 10_000,
        },
    },
    needs=ENVIRONMENT,
    replicates=replicates,
)

"""ShinkaEvolve, as its authors ship it (shinka-evolve 0.0.7), driven from outside.

The package runs unmodified in an environment of its own (requirements.lock) as a foreign program:
its prompts, its population and its choices, with the harness's task prose, model, evaluator and
budget. One generation costs one charge, also where all of its proposals fail. driver.py, which runs
inside that environment, holds the configuration, pins.py what is pinned; docs/baselines.md holds
the reasons.

    shinkaevolve             the configuration that the K-Search paper gives
    shinkaevolve@as-run      what the paper's files did: defaults of that time, 4 islands, archive
                             of 100, failing kernels counted as correct with a score of 0
    shinkaevolve@defaults    the package's own defaults
    shinkaevolve@meta        the paper's, with a meta summary every 10 programs
    shinkaevolve@novelty     the paper's, with a novelty judge over embeddings

Not covered: resuming a run with more than one job or with summaries (it starts over).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from harness.foreign.drive import ForeignProgram, drive
from harness.foreign.environments import PythonEnvironment, beside, files
from harness.method import Method, Problem, Search

Parents = Literal["power_law", "weighted", "beam_search", "best_of_n"]
EDITS = ("diff", "full", "cross")

ENVIRONMENT = PythonEnvironment("shinka-evolve-0.0.7", beside(__file__, "requirements.lock"), 632)


@dataclass(frozen=True)
class Options:
    """Names are ShinkaEvolve's, shortened. Defaults are the paper's, and the package's of that time
    where the paper is silent. Raises ValueError.

    islands, archive: numbers of islands and of programs in the archive. archive_inspirations,
    top_inspirations: programs that a prompt shows besides the parent. migration_interval:
    generations between migrations; migration_rate: share of an island. parents: how they are drawn.
    edits, shares: kinds of edits and how often each is asked for, "diff+full+cross" and "0.6+0.3+
    0.1". patch_attempts, resamples, novelty_attempts: LLM calls of one generation are at most their
    product. text_feedback: whether prompts show verdicts. meta_interval: programs between two meta
    summaries, 0 for none. embeddings: whether programs are embedded. novelty: whether a model
    judges programs whose embeddings are alike; similarity: from which cosine on.
    failed_is_correct: whether a failing program counts as correct with a score of 0, as in the
    paper's evaluator. jobs: evaluations at once; with more than one, or with summaries, a seed
    labels a replicate only.
    """

    islands: int = 2
    archive: int = 40
    archive_inspirations: int = 5
    top_inspirations: int = 2
    migration_interval: int = 10
    migration_rate: float = 0.1
    parents: Parents = "power_law"
    edits: str = "full"
    shares: str = "1.0"
    patch_attempts: int = 5
    resamples: int = 3
    novelty_attempts: int = 3
    text_feedback: bool = True
    meta_interval: int = 0
    embeddings: bool = False
    novelty: bool = False
    similarity: float = 0.99
    failed_is_correct: bool = False
    jobs: int = 1

    def __post_init__(self) -> None:
        for name in ("islands", "archive", "migration_interval", "jobs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("archive_inspirations", "top_inspirations", "meta_interval"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("migration_rate", "similarity"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if self.parents not in get_args(Parents):
            raise ValueError(f"parents must be one of {', '.join(get_args(Parents))}")
        self._check_attempts()
        self._check_edits()

    def _check_attempts(self) -> None:
        attempts = (self.patch_attempts, self.resamples, self.novelty_attempts)
        if min(attempts) < 1:
            raise ValueError("patch_attempts, resamples and novelty_attempts must be at least 1")
        if attempts[0] * attempts[1] * attempts[2] > 45:
            raise ValueError(
                "patch_attempts x resamples x novelty_attempts must be at most 45: the harness "
                "ends a run after 50 LLM calls of one purpose without a proposal"
            )
        if self.meta_interval > 40:
            raise ValueError(
                f"meta_interval must be at most 40, got {self.meta_interval}: a summary asks once "
                "for each program, and the harness ends a run after 50 such calls"
            )

    def _check_edits(self) -> None:
        kinds, shares = self.edits.split("+"), self.shares.split("+")
        try:
            total = sum(float(share) for share in shares)
        except ValueError:
            raise ValueError(f"shares must be numbers joined by +, got {self.shares!r}") from None
        if not set(kinds) <= set(EDITS) or len(kinds) != len(shares) or abs(total - 1) > 1e-6:
            raise ValueError(
                f"edits must be of {', '.join(EDITS)}, joined by +, with as many shares that sum "
                f"to 1; got {self.edits!r} and {self.shares!r}"
            )


def search(problem: Problem) -> Search:
    """Run the package against the problem."""
    program = ForeignProgram(
        command=ENVIRONMENT.command("driver.py"),
        files=files(__file__, "driver.py", "pins.py", "evaluate.py"),
    )
    yield from drive(problem, program)


def replicates(options: Options) -> str | None:
    """Why a seed does not reproduce a run with these options, or None."""
    if options.jobs > 1:
        return f"{options.jobs} jobs finish in an order that is not pinned"
    if options.meta_interval:
        return "calls for meta summaries are made at once, and their order is not pinned"
    return None


method = Method(
    name="shinkaevolve",
    title="ShinkaEvolve 0.0.7",
    search=search,
    options=Options,
    package="methods.shinkaevolve",
    variants={
        "as-run": {"islands": 4, "archive": 100, "failed_is_correct": True},
        "defaults": {
            "archive_inspirations": 1,
            "top_inspirations": 1,
            "migration_rate": 0.0,
            "parents": "weighted",
            "edits": "diff+full+cross",
            "shares": "0.6+0.3+0.1",
            "patch_attempts": 1,
            "text_feedback": False,
            "embeddings": True,
        },
        "meta": {"meta_interval": 10},
        "novelty": {"novelty": True},
    },
    needs=ENVIRONMENT,
    replicates=replicates,
)

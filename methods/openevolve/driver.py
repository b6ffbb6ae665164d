"""Runs OpenEvolve, unmodified, against one run of the harness. It runs in OpenEvolve's environment
and imports nothing of the harness but `bridge`, which lies beside it.

OpenEvolve owns the search: prompts, parents, islands, archive, migration. The driver gives it the
task's prose, the run's model and a way to have programs evaluated, and pins from outside what the
package leaves to chance, so that a serial run can be replayed:

    list(a set of uuid strings)      PYTHONHASHSEED=0 (set by whoever starts this) and uuid4 from a
                                     seeded generator
    `random` in the population       a generator of its own, seeded by the run
    `random` in the pool's worker    the same, seeded anew at each iteration, so that it does not
                                     matter which worker has it; the process-wide one is reseeded
                                     by the operating system in every fork

One iteration is one LLM call and one charge: a submission, or, where no program came of it, a
proposal without one. The population is written down by the worker at the start of an iteration, as
its snapshot shows it: only there the order of events does not depend on the clock.

Covered: OpenEvolve 0.4.0. Not covered: more than one worker cannot be pinned (completion order).
"""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import os
import random
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, os.environ["HARNESS_FILES"])

import bridge

bridge.require("openevolve", "0.4.0")
bridge.loopback_only()

import openevolve.controller
import openevolve.database
import openevolve.process_parallel
import openevolve.prompt.sampler
from openevolve import OpenEvolve
from openevolve.config import Config
from openevolve.evaluation_result import EvaluationResult
from openevolve.population import PopulationSnapshot, PopulationStrategy, ProgramState

NEVER_SECONDS = 10**7  # time-outs are the harness's: this process may be stopped for a while
LANGUAGES = {"cpp": "cpp", "cuda": "cuda", "python": "python", "triton": "python"}
SUFFIXES = {"cpp": ".cpp", "cuda": ".cu", "python": ".py", "triton": ".py"}

Json = dict[str, Any]


@dataclass
class Iteration:
    """What the worker is at; number 0 is the starting program, evaluated in the parent."""

    number: int = 0
    parent: str | None = None
    lineage: Json = field(default_factory=dict)
    candidate: str | None = None
    submitted: bool = False


@dataclass
class Driver:
    """The state of this process, and of the workers that are forked from it."""

    run: bridge.Run
    draws: random.Random
    identities: random.Random
    iteration: Iteration = field(default_factory=Iteration)
    migrations: list[Json] = field(default_factory=list)
    population: Json = field(default_factory=dict)

    def seed(self, what: str) -> None:
        """Both generators afresh, fixed by the run's seed and a name."""
        self.draws.seed(f"{self.run.seed} {what} draws")
        self.identities.seed(f"{self.run.seed} {what} identities")

    def evaluate(self, path: str) -> EvaluationResult:
        """OpenEvolve's evaluation function, in the parent and in the workers."""
        source = Path(path).read_text(encoding="utf-8")
        now = self.iteration
        if now.number == 0:
            verdict = self.run.start
        else:
            now.submitted = True
            note = f"iteration {now.number}, island {now.lineage['island']}"
            verdict = self.run.evaluate(source, parent=now.parent, note=note, lineage=now.lineage)
        now.candidate = verdict["candidate_id"]
        score = verdict["score"]
        return EvaluationResult(
            metrics={"combined_score": 0.0 if score is None else 100.0 * score},
            artifacts={"verdict": verdict["info"]["feedback"]},
        )

    def candidate_of(self, metadata: Mapping[str, Any]) -> str | None:
        """The harness's id of a program in OpenEvolve's population; None where the harness found no
        program in what was submitted. The start alone is not marked."""
        found = metadata.get("candidate", self.run.start["candidate_id"])
        return str(found) if found else None

    def work(self, original: Callable[..., Any], *arguments: Any) -> Any:
        """One iteration in a worker. original: OpenEvolve's own function, with its arguments
        (iteration, snapshot, parent id, inspiration ids)."""
        number, snapshot, parent_id, inspirations = arguments
        self.seed(f"iteration {number}")
        self.write_down(snapshot["harness"])
        known = {k: self.candidate_of(p["metadata"]) for k, p in snapshot["programs"].items()}
        self.iteration = now = Iteration(
            number=number,
            parent=known[parent_id],
            lineage={
                "island": snapshot["sampling_island"],
                "generation": snapshot["programs"][parent_id]["generation"] + 1,
                "operator": self.run.options["edits"],
                "inspirations": [known[i] for i in inspirations if known.get(i)],
            },
        )
        result = original(*arguments)
        if not now.submitted:
            reason = str(result.error or "the iteration ended without a program")
            self.run.no_candidate(reason, parent=now.parent, lineage=now.lineage)
        elif result.child_program_dict is not None:
            result.child_program_dict["metadata"]["candidate"] = now.candidate
        return result

    def snapshot(self, original: Callable[[Any], Json], controller: Any) -> Json:
        """OpenEvolve's snapshot for a worker, with what is to be written down."""
        made = original(controller)
        made["harness"] = self.news(controller.database)
        return made

    def news(self, database: Any) -> Json:
        """What happened to the population since the last time."""

        def ids(keys: Any) -> list[str]:
            programs = (database.programs[key] for key in keys if key in database.programs)
            candidates = (self.candidate_of(program.metadata) for program in programs)
            return sorted(candidate for candidate in candidates if candidate)

        best = database.programs.get(database.best_program_id)
        population = {
            "islands": [ids(island) for island in database.islands],
            "archive": ids(database.archive),
            "best": self.candidate_of(best.metadata) if best is not None else None,
        }
        changed = population if population != self.population else None
        found = {"migrations": self.migrations, "population": changed}
        self.migrations, self.population = [], population
        return found

    def write_down(self, news: Json) -> None:
        """Into the run log."""
        for migration in news["migrations"]:
            self.run.record("migration", migration)
        if news["population"] is not None:
            self.run.record("population", news["population"])

    def admit(self, snapshot: PopulationSnapshot, program: ProgramState, island: int) -> bool:
        """OpenEvolve's hook for every program that enters the population: keeps all of them."""
        if program.metadata.get("migrant"):
            origin = snapshot.programs.get(program.parent_id or "")
            came_from = origin.metadata.get("island") if origin is not None else None
            candidate = self.candidate_of(program.metadata)
            if candidate:
                moved = {"candidate": candidate, "from": came_from, "to": island}
                self.migrations.append(moved)
        return True


def pin(driver: Driver) -> None:
    """Take chance out of the package, from outside. The names of the wrapped functions stay, since
    the pool pickles them by name."""
    uuid.uuid4 = lambda: uuid.UUID(int=driver.identities.getrandbits(128), version=4)
    openevolve.database.random = driver.draws
    openevolve.prompt.sampler.random = driver.draws
    module = openevolve.process_parallel
    original = module._run_iteration_worker

    @functools.wraps(original)
    def work(*arguments: Any) -> Any:
        return driver.work(original, *arguments)

    module._run_iteration_worker = work
    controller = module.ProcessParallelController
    make_snapshot = controller._create_database_snapshot
    controller._create_database_snapshot = lambda self: driver.snapshot(make_snapshot, self)


def configuration(run: bridge.Run) -> Config:
    """The package's configuration. What is not named here is the package's default."""
    options = run.options
    return Config.from_dict(
        {
            "max_iterations": run.budget["total"],
            "checkpoint_interval": NEVER_SECONDS,
            "log_level": "WARNING",
            "random_seed": run.seed,
            "language": LANGUAGES[run.task["language"]],
            "diff_based_evolution": options["edits"] == "diff",
            "max_code_length": options["max_code_length"],
            "llm": {
                "api_base": os.environ["OPENAI_BASE_URL"],
                "api_key": os.environ["OPENAI_API_KEY"],
                "models": [{"name": run.model}],
                "timeout": NEVER_SECONDS,
                "retries": 0,  # the harness retries; here every attempt would count as a call
            },
            "prompt": {
                "system_message": "\n\n".join(
                    [run.prompt["system"], run.prompt["task"], run.prompt["scores"]]
                ),
                "num_top_programs": options["top_programs"],
                "num_diverse_programs": options["diverse_programs"],
                "artifact_security_filter": False,  # it rewrites "num_token=128" in verdicts
            },
            "database": {
                "population_size": options["population"],
                "archive_size": options["archive"],
                "num_islands": options["islands"],
                "elite_selection_ratio": options["elite_ratio"],
                "exploitation_ratio": options["exploitation_ratio"],
                "exploration_ratio": options["exploration_ratio"],
                "migration_interval": options["migration_interval"],
                "migration_rate": options["migration_rate"],
                "log_prompts": False,
            },
            "evaluator": {
                "timeout": NEVER_SECONDS,
                "max_retries": 0,
                "cascade_evaluation": False,
                "parallel_evaluations": options["workers"],
            },
        }
    )


async def evolve(driver: Driver, controller: OpenEvolve) -> None:
    """One iteration for each charge. A second call would begin again with iterations that were made
    already, so an early end (a worker that died) is the end."""
    await controller.run(iterations=driver.run.charges_left)
    left = driver.run.status()["budget"]["charges_left"]
    if left > 0:
        sys.exit(f"OpenEvolve ended with {left} iterations to go; did its worker die?")
    driver.write_down(driver.news(controller.database))


def main(driver: Driver) -> None:
    """Set everything up in the current folder, which is empty, and run."""
    multiprocessing.set_start_method("fork")  # workers must inherit what is pinned
    driver.seed("population")
    pin(driver)
    suffix = SUFFIXES[driver.run.task["language"]]
    start, evaluation = Path(f"start{suffix}"), Path("evaluation.py")
    start.write_text(driver.run.start["candidate"], encoding="utf-8")
    evaluation.write_text("import __main__\n\nevaluate = __main__.driver.evaluate\n")
    controller = OpenEvolve(
        initial_program_path=str(start),
        evaluation_file=str(evaluation),
        config=configuration(driver.run),
        output_dir="output",
        population_strategy=PopulationStrategy(admit=driver.admit),
    )
    asyncio.run(evolve(driver, controller))


if __name__ == "__main__":
    driver = Driver(bridge.connect(), random.Random(), random.Random())
    main(driver)

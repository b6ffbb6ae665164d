"""Runs ShinkaEvolve, unmodified, against one run of the harness. It runs in ShinkaEvolve's
environment and imports nothing of the harness but `bridge`, which lies beside it.

ShinkaEvolve owns the search: prompts, parents, islands, archive, migration, summaries. The driver
gives it the task's prose, the run's model and an evaluation program (evaluate.py), ends it at the
last charge, and pins from outside what the package leaves to chance (pins.py).

A generation that brings a program to evaluation costs one charge, and one whose proposals all fail
costs one too. The next one starts when all work on the last one is done, its archive and migration
included: the package would start it when its timer says so.

    runner hook                         what it is used for
    _start_proposals                    one generation after the other; none after the last charge
    sample_with_fix_mode_async          who the parent is, for the run log
    _run_patch_async, _run_fix_...      which kind of edit was asked for
    _submit_evaluation_job_with_slot    lineage.json, for evaluate.py
    _record_terminal_failed_proposal    a charge without a program
    _update_completed_generations       the end, exactly at the last charge
    _apply_persisted_program_side_...   islands, archive and migrations into the run log

Covered: ShinkaEvolve 0.0.7. Not covered: more than one job and summaries cannot be pinned (order of
completion).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, os.environ["HARNESS_FILES"])

import bridge
import pins

bridge.require("shinka-evolve", "0.0.7")
bridge.loopback_only()

from shinka.core import EvolutionConfig, ShinkaEvolveRunner
from shinka.database import DatabaseConfig
from shinka.launch import LocalJobConfig

LANGUAGES = {"cpp": "cpp", "cuda": "cuda", "python": "python", "triton": "python"}
COMMENTS = {"cpp": "//", "cuda": "//", "python": "#"}
HOURS = "240:00:00"  # time-outs are the harness's: this process may be stopped for a while
WAKE_SECONDS = 0.02

Json = dict[str, Any]


class Runner(ShinkaEvolveRunner):
    """The package's runner, with the hooks of the module's docstring."""

    def __init__(self, run: bridge.Run, **settings: Any) -> None:
        self.bridge = run
        self.serial = run.options["jobs"] == 1
        self.used_up = False
        self.parents: dict[int, Json] = {}
        self.operators: dict[int, str] = {}
        self.population: Json = {}
        self.homes: dict[str, int] = {}
        super().__init__(**settings)

    # --- one generation after the other, and the end ---------------------------------------------

    async def _start_proposals(self, num_proposals: int) -> None:
        if self.used_up:
            return
        unfinished = (
            self.running_jobs
            or self.active_proposal_tasks
            or self.processing_lock.locked()
            or self._get_completed_job_work_count()
            or self._has_background_side_effect_work()
        )
        if self.serial and unfinished:
            self._look_again()
            return
        await super()._start_proposals(num_proposals)

    def _look_again(self) -> None:
        """Wake the coordinator soon; by itself it looks every five seconds."""
        asyncio.get_running_loop().call_later(WAKE_SECONDS, self.slot_available.set)

    async def _cleanup_proposal_task_state(self, **arguments: Any) -> None:
        await super()._cleanup_proposal_task_state(**arguments)
        self._look_again()

    async def _update_completed_generations(self) -> None:
        await super()._update_completed_generations()
        await self._end_at_the_last_charge()

    async def _end_at_the_last_charge(self) -> None:
        status = await asyncio.to_thread(self.bridge.status)
        if status["budget"]["charges_left"] > 0:
            return
        self.used_up = True
        self.evo_config.num_generations = self.completed_generations
        self.meta_summarizer = None  # a last summary would be for nobody
        self.embedding_client = None  # and so would be its last map of embeddings

    # --- what the run log is told ----------------------------------------------------------------

    async def _setup_async(self) -> None:
        await super()._setup_async()
        sample = self.async_db.sample_with_fix_mode_async

        async def sample_with_fix_mode_async(**arguments: Any) -> Any:
            found = await sample(**arguments)
            parent, archive, top, _ = found
            known = [candidate_of(program) for program in (*archive, *top)]
            self.parents[arguments["target_generation"]] = {
                "parent": candidate_of(parent),
                "island": parent.island_idx,
                "inspirations": [key for key in known if key],
            }
            return found

        self.async_db.sample_with_fix_mode_async = sample_with_fix_mode_async
        if self.meta_summarizer is not None:
            self._tell_summaries(self.meta_summarizer)
        await self._tell_population()

    def _tell_summaries(self, summarizer: Any) -> None:
        update = summarizer.update_meta_memory_async

        async def update_meta_memory_async(*arguments: Any) -> Any:
            recommendations, cost = await update(*arguments)
            if recommendations:
                await self._record("summary", {"text": recommendations})
            return recommendations, cost

        summarizer.update_meta_memory_async = update_meta_memory_async

    async def _run_patch_async(self, *arguments: Any, **named: Any) -> Any:
        return await self._patch(super()._run_patch_async, arguments, named, generation=3)

    async def _run_fix_patch_async(self, *arguments: Any, **named: Any) -> Any:
        return await self._patch(super()._run_fix_patch_async, arguments, named, generation=2)

    async def _patch(
        self,
        run: Callable[..., Awaitable[Any]],
        arguments: tuple[Any, ...],
        named: Json,
        *,
        generation: int,
    ) -> Any:
        """generation: its place among the arguments."""
        found = await run(*arguments, **named)
        kind = (found[1] or {}).get("patch_type") if found else None
        if kind:
            self.operators[arguments[generation]] = str(kind)
        return found

    def _lineage(self, generation: int) -> Json:
        told = self.parents.get(generation, {"parent": None, "island": None, "inspirations": []})
        operator = self.operators.get(generation)
        return {**told, "generation": generation, "operator": operator}

    async def _submit_evaluation_job_with_slot(
        self, exec_fname: str, results_dir: str, sampling_worker_id: int | None
    ) -> Any:
        found = re.search(r"gen_(\d+)", results_dir)
        if found:
            lineage = self._lineage(int(found.group(1)))
            (Path(results_dir) / "lineage.json").write_text(json.dumps(lineage), encoding="utf-8")
        return await super()._submit_evaluation_job_with_slot(
            exec_fname, results_dir, sampling_worker_id
        )

    async def _record_terminal_failed_proposal(self, **facts: Any) -> None:
        await super()._record_terminal_failed_proposal(**facts)
        lineage = self._lineage(facts["generation"])
        parent = lineage.pop("parent")
        reason = f"{facts['failure_stage']}: {facts['failure_reason']}"
        await asyncio.to_thread(self.bridge.no_candidate, reason, parent=parent, lineage=lineage)
        await self._end_at_the_last_charge()

    async def _apply_persisted_program_side_effects(self, persisted_event: Any) -> None:
        await super()._apply_persisted_program_side_effects(persisted_event)
        await self._tell_population()

    async def _tell_population(self) -> None:
        """Islands and archive as the database has them, and who moved since the last time."""
        rows = await asyncio.to_thread(_population, Path(self.results_dir) / "programs.sqlite")
        islands: list[list[str]] = [[] for _ in range(self.db_config.num_islands)]
        archive: list[str] = []
        best: tuple[float, str] | None = None
        homes: dict[str, int] = {}
        for program, candidate, island, archived, score, correct in rows:
            if island is not None:
                homes[program] = island
                islands[island].append(candidate)
                origin = self.homes.get(program, island)
                if origin != island:
                    moved = {"candidate": candidate, "from": origin, "to": island}
                    await self._record("migration", moved)
            if archived:
                archive.append(candidate)
            if correct and (best is None or score > best[0]):
                best = (score, candidate)
        self.homes = homes
        population = {
            "islands": [sorted(island) for island in islands],
            "archive": sorted(archive),
            "best": best[1] if best else None,
        }
        if population != self.population:
            self.population = population
            await self._record("population", population)

    async def _record(self, kind: str, data: Json) -> None:
        await asyncio.to_thread(self.bridge.record, kind, data)


def candidate_of(program: Any) -> str | None:
    """The harness's id of a program in ShinkaEvolve's database."""
    found = (program.private_metrics or {}).get("candidate")
    return str(found) if found else None


def _population(path: Path) -> list[tuple[str, str, int | None, bool, float, bool]]:
    """(id, candidate, island, archived, score, correct) of every program, oldest first."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        found = connection.execute(
            "SELECT p.id, p.private_metrics, p.island_idx, a.program_id IS NOT NULL, "
            "p.combined_score, p.correct FROM programs p LEFT JOIN archive a "
            "ON a.program_id = p.id ORDER BY p.rowid"
        ).fetchall()
    finally:
        connection.close()
    rows = []
    for program, private, island, archived, score, correct in found:
        candidate = json.loads(private or "{}").get("candidate")
        if candidate:
            rows.append((program, candidate, island, bool(archived), score or 0.0, bool(correct)))
    return rows


def model_name(run: bridge.Run, purpose: str = "") -> str:
    """The run's model as ShinkaEvolve names endpoints; the purpose goes with the name."""
    name = f"{run.model}/{purpose}" if purpose else run.model
    return f"local/{name}@{os.environ['OPENAI_BASE_URL']}?api_key_env=OPENAI_API_KEY"


def evolution(run: bridge.Run, start: Path) -> EvolutionConfig:
    """The package's configuration of a search. What is not named is the package's default."""
    options, language = run.options, LANGUAGES[run.task["language"]]
    fence = f"Put code into a fence that begins with ```{language}."  # its prompts say {language}
    judged, summaries = options["novelty"], options["meta_interval"] > 0
    return EvolutionConfig(
        task_sys_msg="\n\n".join(
            [run.prompt["system"], run.prompt["task"], run.prompt["scores"], fence]
        ),
        patch_types=options["edits"].split("+"),
        patch_type_probs=[float(share) for share in options["shares"].split("+")],
        num_generations=20 * run.budget["total"] + 100,  # the charges end the run
        max_patch_resamples=options["resamples"],
        max_patch_attempts=options["patch_attempts"],
        max_novelty_attempts=options["novelty_attempts"],
        language=language,
        llm_models=[model_name(run)],
        llm_dynamic_selection=None,  # there is one model
        llm_kwargs={"temperatures": 0.6, "max_tokens": 80_000},  # the harness owns both
        meta_rec_interval=options["meta_interval"] if summaries else None,
        meta_llm_models=[model_name(run, "summary")] if summaries else None,
        novelty_llm_models=[model_name(run, "judge")] if judged else None,
        code_embed_sim_threshold=options["similarity"],
        embedding_model=model_name(run, "embedding") if options["embeddings"] or judged else None,
        init_program_path=str(start),
        results_dir="results",
        use_text_feedback=options["text_feedback"],
    )


def database(run: bridge.Run) -> DatabaseConfig:
    """The package's configuration of the population."""
    options = run.options
    return DatabaseConfig(
        num_islands=options["islands"],
        archive_size=options["archive"],
        num_archive_inspirations=options["archive_inspirations"],
        num_top_k_inspirations=options["top_inspirations"],
        migration_interval=options["migration_interval"],
        migration_rate=options["migration_rate"],
        parent_selection_strategy=options["parents"],
    )


def main() -> None:
    run = bridge.connect()
    pins.pin(run.seed)
    language = LANGUAGES[run.task["language"]]
    comment, suffix = COMMENTS[language], {"cuda": "cu", "cpp": "cpp", "python": "py"}[language]
    start = Path(f"start.{suffix}")
    marked = [f"{comment} EVOLVE-BLOCK-START", run.start["candidate"].rstrip("\n")]
    start.write_text("\n".join([*marked, f"{comment} EVOLVE-BLOCK-END", ""]), encoding="utf-8")
    jobs = run.options["jobs"]
    runner = Runner(
        run,
        evo_config=evolution(run, start),
        job_config=LocalJobConfig(
            eval_program_path=str(Path(os.environ["HARNESS_FILES"]) / "evaluate.py"),
            time=HOURS,
            python_executable=sys.executable,
        ),
        db_config=database(run),
        verbose=False,
        max_evaluation_jobs=jobs,
        max_proposal_jobs=jobs,
        max_db_workers=1 if jobs == 1 else 2,
    )
    runner.run()


if __name__ == "__main__":
    main()

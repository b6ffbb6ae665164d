"""What identifies a run, and the start of an attempt at it.

Covered: `RunSpec`; the manifest of a new run; on a later attempt, the check that the folder holds
this run and was made with this code of the method; the `attempt` event; starting over where the
method cannot do the same again. Not covered: the loop (harness/search.py); how an attempt is put
aside (`harness.runlog.restart`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.budget import Budget
from harness.code_hash import MethodCode, code_difference, method_code
from harness.errors import LogError, ReplayMismatch
from harness.method import Method, TaskCard
from harness.runlog import RunLog, read_events, restart
from harness.types import Candidate, Evaluation, JsonObject

METHOD_RAISED = "method raised "  # how the reason of such a pause begins


@dataclass(frozen=True)
class RunSpec:
    """One run: one arm on one task with one seed.

    folder: the run's own. start_evaluation: iteration 0; a resumed run uses the recorded one.
    options: an instance of method.options. manifest: the comparison's share of manifest.json; what
    identifies the run is added to it.
    """

    folder: Path
    task: TaskCard
    start: Candidate
    start_evaluation: Evaluation
    method: Method
    options: object
    arm: str
    seed: int
    budget: Budget
    manifest: JsonObject

    def identity(self) -> JsonObject:
        """What must be the same when the run is resumed."""
        return {
            "task": self.task.name,
            "arm": self.arm,
            "method": self.method.name,
            "seed": self.seed,
            "budget": self.budget.to_json(),
        }


def begin_attempt(spec: RunSpec, log: RunLog) -> None:
    """Write or check the manifest, and log the attempt.

    Raises LogError (the folder holds another run), ReplayMismatch (other code of the method) or
    UsageError (the method's package has no files).
    """
    code = method_code(spec.method.package)
    attempt: JsonObject = {
        "number": 1 + sum(event["kind"] == "attempt" for event in log.events),
        "resumed_at": len(log.events),
    }
    if log.manifest is None or not log.events:
        made_with = {"code_hash": code.hash, "source": log.put_blob(code.text)}
        log.write_manifest(spec.manifest | {"kind": "run"} | spec.identity() | made_with)
    else:
        _check_identity(spec, log.manifest)
        if _code_changed(spec, log, code):
            attempt |= {"code_hash": code.hash, "source": log.put_blob(code.text)}
    log.append("attempt", attempt)


def put_replicate_aside(spec: RunSpec) -> None:
    """Put an unfinished attempt aside, with its cost, if the method cannot be replayed to its end:
    the run starts over. Raises LogError."""
    if not (spec.folder / "events.jsonl").exists() or not spec.method.replicates(spec.options):
        return
    kinds = [
        event["kind"]
        for event in read_events(spec.folder)
        if event["kind"] != "evaluation" or event["charge"] > 0
    ]
    paid = {"llm_intent", "evaluation", "record"} & set(kinds)
    if paid and kinds[-1] != "finished":
        restart(spec.folder)


def recorded_code(log: RunLog) -> tuple[str, str]:
    """Hash and blob name of the method's code that the run was last made with."""
    manifest = log.manifest or {}
    found = str(manifest.get("code_hash")), str(manifest.get("source"))
    for event in log.events:
        if event["kind"] == "attempt" and "code_hash" in event:
            found = event["code_hash"], event["source"]
    return found


def _check_identity(spec: RunSpec, manifest: JsonObject) -> None:
    for name, now in spec.identity().items():
        recorded = manifest.get(name)
        if recorded != now:
            raise LogError(
                f"{spec.folder} is a run with {name} {recorded!r}, asked for is {now!r}. Use "
                "another folder for another run, or start this one over with --restart."
            )


def _code_changed(spec: RunSpec, log: RunLog, code: MethodCode) -> bool:
    """Whether the run goes on with other code. That is allowed only where an error of the method
    itself paused the run: there the replay shows whether old and new agree up to that point."""
    recorded_hash, recorded_source = recorded_code(log)
    if code.hash == recorded_hash:
        return False
    if str(log.events[-1].get("reason", "")).startswith(METHOD_RAISED):
        return True
    commit = ((log.manifest or {}).get("git") or {}).get("commit") or "unknown"
    difference = code_difference(log.get_text(recorded_source), code.text)
    raise ReplayMismatch(
        f"{spec.folder}: the code of method {spec.method.name} changed since the run was made "
        f"(git commit {commit}): {difference}\nGo back to that code, or start the run over with "
        "--restart, which keeps this attempt and its cost."
    )

"""A comparison folder in the documented format, by seed and of any size, for tests and benchmarks.

Covered: every kind of event, K-Search's records and those of populations (inline and in blobs),
failing candidates, paused, failed and killed runs, methods that raised, attempts that were put
aside, missing confirmations, failed finalists, a torn last line. Not covered: prompts, replies,
programs and samples (reports open none of them; blob names are made up).
"""

from __future__ import annotations

import gzip
import json
import math
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.types import (
    Confirmation,
    Failed,
    Finalist,
    Measurement,
    Passed,
    Stage,
    Status,
    confirmation_to_json,
    content_hash,
    geometric_mean,
)

POPULATIONS = {"openevolve": 1, "shinkaevolve": 3}  # methods with one, and their calls per charge
_LIMITS = ("llm_calls", "tokens", "dollars", "seconds")
FAILURES = ("COMPILE_ERROR", "INCORRECT_NUMERICAL", "RUNTIME_ERROR", "NO_CODE", "REJECTED")


@dataclass(frozen=True)
class Plan:
    """What to write. ends: (task, arm, seed) -> "paused" | "raised" | "failed" | "killed"; others
    finish.

    gain: per arm the mean growth of the log score per improving candidate. hopeless: runs without
    any pass. unconfirmed: tasks without a confirmation. rejected_best: runs whose best candidate
    fails its confirmation. replicates: per arm why its seeds label replicates. put_aside: runs that
    started over once. islands: of a population; 0 for one without islands.
    """

    tasks: tuple[str, ...] = ("matmul", "softmax", "gqa_paged_decode")
    arms: tuple[str, ...] = ("best_of_n", "ksearch", "ksearch+simulated-noise")
    seeds: tuple[int, ...] = (0, 1, 2)
    charges: int = 20
    seed: int = 0
    llm_level: str = "simulated"
    evaluator_level: str = "live"
    dollars: float | None = 0.004
    blocks: int = 10
    workloads: tuple[str, ...] = ("m64n64k64", "m256n256k64", "m127n63k255", "m512n512k512")
    gain: dict[str, float] = field(default_factory=dict)
    ends: dict[tuple[str, str, int], str] = field(default_factory=dict)
    hopeless: frozenset[tuple[str, str, int]] = frozenset()
    unconfirmed: frozenset[str] = frozenset()
    rejected_best: frozenset[tuple[str, str, int]] = frozenset()
    isolation: str = "namespaces"
    replicates: dict[str, str] = field(default_factory=dict)
    put_aside: frozenset[tuple[str, str, int]] = frozenset()
    islands: int = 3


def write_comparison(folder: Path, plan: Plan | None = None) -> Path:
    """Write the folder and return it."""
    plan = plan or Plan()
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "comparison.json", _manifest(plan))
    for task in plan.tasks:
        start = _start_speedups(plan, task)
        finalists: dict[str, Finalist] = {}
        _confirm(plan, task, content_hash(f"start {task}"), start, finalists)
        for arm in plan.arms:
            for seed in plan.seeds:
                best = _Run(folder, plan, task, arm, seed, start).write()
                for candidate, speedups in best[:1]:
                    failed = (task, arm, seed) in plan.rejected_best
                    _confirm(plan, task, candidate, speedups, finalists, failed=failed)
                if (task, arm, seed) in plan.rejected_best and len(best) > 1:
                    _confirm(plan, task, *best[1], finalists)
        if task not in plan.unconfirmed:
            confirmation = Confirmation(
                task, "torch", tuple(finalists.values()), plan.blocks, 12.5, capped=False
            )
            (folder / "confirm").mkdir(exist_ok=True)
            _write(folder / "confirm" / f"{task}.json", confirmation_to_json(confirmation))
    return folder


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1))


def _models(plan: Plan) -> dict[str, object]:
    knobs = {
        "kind": "simulated", "seed": 0, "skill": 0.5, "format_error": 0.05, "compile_error": 0.1,
        "wrong_result": 0.08, "edit_distance": [0.7, 0.2, 0.1], "world_model": "rules",
    }  # fmt: skip
    if plan.llm_level == "simulated":
        return {"simulated": knobs, "simulated-noise": knobs | {"world_model": "noise"}}
    return {"some-model": {"base_url": "https://llm.example/v1", "temperature": 0.6}}


def _manifest(plan: Plan) -> dict[str, Any]:
    models = _models(plan)
    default = next(iter(models))
    arms = []
    for arm in plan.arms:
        head, _, model = arm.partition("+")
        method, _, variant = head.partition("@")
        chosen = {"model": model or default, "models": [model or default]}
        known = {"name": arm, "method": method, "variant": variant or None, "options": {}}
        arms.append(known | chosen | {"replicates": plan.replicates.get(arm)})
    return {
        "format": 1,
        "kind": "comparison",
        "asked": {"suite": "cpu", "methods": " ".join(plan.arms)},
        "resolved": {
            "suite": "cpu",
            "suite_title": "C++ kernels on this machine's CPU",
            "tasks": list(plan.tasks),
            "arms": arms,
            "seeds": list(plan.seeds),
            "budget": {"charges": plan.charges} | dict.fromkeys(_LIMITS),
            "language": "cpp",
            "llm_level": plan.llm_level,
            "evaluator_level": plan.evaluator_level,
            "cache": True,
        },
        "llm": {"level": plan.llm_level, "models": models},
        "evaluator": {
            "level": plan.evaluator_level,
            "device": "CPU, 2 cores, AVX-512",
            "isolation": {"worker": plan.isolation, "network": "none", "trust_candidates": False},
            "settings": {"samples_min": 10, "samples_max": 100, "interval_percent": 95},
            "peaks": {"gflops_float32": 181.4, "memory_gb_per_s": 21.9},
        },
        "machine": {"cpu": "Example CPU @ 2.60GHz", "cores": 2, "memory_gib": 23, "os": "Linux"},
        "packages": {"torch": "2.13.0", "numpy": "2.4.6", "python": "3.11.9"},
        "git": {"commit": "0123456789abcdef0123", "dirty": False},
    }


def _start_speedups(plan: Plan, task: str) -> list[float]:
    stream = random.Random(f"{plan.seed} start {task}")
    return [stream.uniform(0.15, 0.4) for _ in plan.workloads]


def _confirm(
    plan: Plan,
    task: str,
    candidate: str,
    speedups: list[float],
    into: dict[str, Finalist],
    failed: bool = False,
) -> None:
    if candidate in into:
        return
    if failed:
        where = plan.workloads[0]
        why = "tolerance", "3 of 4096 elements", where
        outcome = Failed(Status.INCORRECT_NUMERICAL, Stage.CORRECTNESS, *why)
        into[candidate] = Finalist(candidate, outcome, None)
        return
    stream = random.Random(f"{plan.seed} confirm {task} {candidate}")
    shrunk = [s * math.exp(stream.gauss(-0.02, 0.01)) for s in speedups]
    rows = []
    for index, (name, s) in enumerate(zip(plan.workloads, shrunk, strict=True)):
        flags = ("below 1.2 x floor",) if index == 0 and s > 1.5 else ()
        rows.append(
            Measurement(name, 100.0 / s, 100.0, s, s * 0.985, s * 1.015, 20.0, 40, None, flags)
        )
    score = geometric_mean(shrunk)
    blocks = tuple(math.log(score) + stream.gauss(0, 0.008) for _ in range(plan.blocks))
    into[candidate] = Finalist(
        candidate, Passed(tuple(rows), score * 0.99, score * 1.01), Status.PASSED, "", blocks
    )


class _Run:
    """One run folder: a noisy climb over candidates, and a world model beside it for K-Search."""

    def __init__(
        self, folder: Path, plan: Plan, task: str, arm: str, seed: int, start: list[float]
    ) -> None:
        safe = "".join(c if c.isalnum() or c in "._+@=,-" else "_" for c in arm)
        self.folder = folder / "runs" / task / safe / f"seed-{seed}"
        self.plan, self.task, self.arm, self.seed, self.start = plan, task, arm, seed, start
        self.stream = random.Random(f"{plan.seed} {task} {arm} {seed}")
        self.lines: list[str] = []
        self.totals = {
            "llm_calls": 0, "prompt_tokens": 0, "completion_tokens": 0, "dollars": 0.0,
            "llm_seconds": 0.0, "evaluation_seconds": 0.0,
        }  # fmt: skip
        self.passed: dict[str, tuple[float, list[float]]] = {}
        self.population = _Population(self) if arm.startswith(tuple(POPULATIONS)) else None

    def write(self) -> list[tuple[str, list[float]]]:
        """Write the folder; the passing candidates by search score, best first."""
        self.folder.mkdir(parents=True)
        _write(
            self.folder / "manifest.json",
            _manifest(self.plan)
            | {
                "kind": "run",
                "task": self.task,
                "task_version": 1,
                "baseline": "torch",
                "arm": self.arm,
                "method": self.arm.partition("+")[0].partition("@")[0],
                "seed": self.seed,
                "code_hash": "0" * 16,
                "source": "1" * 16,
            },
        )
        key = (self.task, self.arm, self.seed)
        end = self.plan.ends.get(key, "finished")
        last = self.plan.charges if end == "finished" else max(1, self.plan.charges // 2)
        self.event("attempt", number=1, resumed_at=0)
        self.evaluation(0, content_hash(f"start {self.task}"), "PASSED", self.start)
        tree = _Tree(self) if self.arm.startswith("ksearch") else None
        best = list(self.start)
        for charge in range(1, last + 1):
            if tree:
                tree.step(charge)
            if self.population:
                best = self.population.choose(charge)
            for _ in range(POPULATIONS.get(self.arm.partition("[")[0], 1)):
                self.llm(charge - 1, "propose")
            best = self.propose(charge, best, hopeless=key in self.plan.hopeless)
        if end == "paused":
            self.event("paused", reason="InfraError: the endpoint answered 429 six times")
        elif end == "raised":
            self.event("paused", reason="method raised ForeignError: the program ended with 1")
        elif end != "killed":
            reason = "budget: charges" if end == "finished" else "failed: ValueError: bad edit"
            calls = self.totals["llm_calls"]
            self.event("finished", reason=reason, charges=last, llm_calls=calls)
        text = "".join(self.lines)
        if end == "killed":
            text += '{"i": 9999, "kind": "llm", "rep'
        (self.folder / "events.jsonl").write_text(text)
        if key in self.plan.put_aside:
            earlier = self.folder / "attempts" / "1" / "events.jsonl"
            earlier.parent.mkdir(parents=True)
            earlier.write_text("".join(self.lines[: len(self.lines) // 2]))
        ranked = sorted(self.passed.items(), key=lambda item: -item[1][0])
        return [(candidate, speedups) for candidate, (_, speedups) in ranked]

    def event(self, kind: str, **fields: object) -> None:
        number = len(self.lines)
        line = {"i": number, "t": 1.7e9 + number, "kind": kind} | fields
        self.lines.append(json.dumps(line) + "\n")

    def llm(self, charges: int, purpose: str) -> None:
        totals = self.totals
        totals["llm_calls"] += 1
        call = totals["llm_calls"]
        key = content_hash(f"{self.task} {self.arm} {self.seed} {call}")
        tokens = self.stream.randrange(800, 3000), self.stream.randrange(200, 1500)
        totals["prompt_tokens"] += tokens[0]
        totals["completion_tokens"] += tokens[1]
        cost = self.plan.dollars
        totals["dollars"] = None if cost is None else totals["dollars"] + cost
        totals["llm_seconds"] = round(totals["llm_seconds"] + 1.5, 6)
        self.event("llm_intent", call=call, key=key, occurrence=1, purpose=purpose)
        self.event(
            "llm", call=call, key=key, occurrence=1, purpose=purpose, model="simulated",
            charges=charges, request=key, reply=key, finish_reason="stop",
            prompt_tokens=tokens[0], completion_tokens=tokens[1], reasoning_tokens=0,
            dollars=cost, estimated=False, seconds=1.5,
        )  # fmt: skip

    def propose(self, charge: int, best: list[float], hopeless: bool) -> list[float]:
        if hopeless or self.stream.random() < 0.3:
            self.evaluation(charge, None, self.stream.choice(FAILURES), None)
            return best
        # Progress slows down towards eight times the baseline.
        room = max(0.0, 1 - math.log(max(1.0, geometric_mean(best))) / math.log(8))
        gain = room * self.plan.gain.get(self.arm, 0.15)
        step = self.stream.gauss(gain - 0.2 * (1 - room), 0.2 * room)
        speedups = [b * math.exp(step + self.stream.gauss(0, 0.1)) for b in best]
        candidate = content_hash(f"{self.task} {self.arm} {self.seed} candidate {charge}")
        self.evaluation(charge, candidate, "PASSED", speedups)
        self.passed[candidate] = (geometric_mean(speedups), speedups)
        return speedups if geometric_mean(speedups) > geometric_mean(best) else best

    def evaluation(
        self, charge: int, candidate: str | None, status: str, speedups: list[float] | None
    ) -> None:
        if status not in ("PASSED", "NO_CODE"):
            candidate = content_hash(f"{self.task} {self.arm} {self.seed} failure {charge}")
        score = geometric_mean(speedups) if speedups else None
        failure = None
        if speedups is None:
            failure = {"stage": "build", "check": "compile", "workload": None, "message": "error"}
        seconds = 0.5 + 0.25 * (charge % 3)
        if charge and self.population:
            self.population.proposed(charge, candidate)
        if charge:
            self.totals["evaluation_seconds"] += 0.5 + seconds
        rows = None
        if speedups:
            rows = [
                [w, 100 / s, 100.0, s] for w, s in zip(self.plan.workloads, speedups, strict=True)
            ]
        self.event(
            "evaluation", charge=charge, candidate=candidate, language="cpp", source=candidate,
            parent=None, note="", status=status, score=score,
            score_low=score and score * 0.97, score_high=score and score * 1.03,
            arithmetic_mean=speedups and sum(speedups) / len(speedups), failure=failure,
            workloads=rows, evaluation="2" * 16, samples=None, build_seconds=0.5,
            device_seconds=seconds, cached=False, **self.totals,
        )  # fmt: skip
        if self.population:
            self.population.took(charge, candidate, speedups)

    def record(self, kind: str, charge: int, data: dict[str, Any]) -> None:
        text = json.dumps(data, sort_keys=True)
        if len(text) <= 1024:
            self.event("record", record=kind, charge=charge, data=data, blob=None)
            return
        name = content_hash(text)
        path = self.folder / "blobs" / name[:2] / f"{name}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode(), mtime=0))
        self.event("record", record=kind, charge=charge, data=None, blob=name)


class _Population:
    """Islands in turn, each bred from its three best; migration, an archive, summaries."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.islands: list[list[str]] = [[] for _ in range(max(1, run.plan.islands))]
        self.speedups: dict[str, list[float]] = {}
        self.island, self.parent = 0, ""

    def ranked(self, members: list[str]) -> list[str]:
        return sorted(members, key=lambda m: -geometric_mean(self.speedups[m]))

    def choose(self, charge: int) -> list[float]:
        """The speedups of the program that the next proposal changes."""
        self.island = (charge - 1) % len(self.islands)
        self.parent = self.run.stream.choice(self.ranked(self.islands[self.island])[:3])
        return self.speedups[self.parent]

    def proposed(self, charge: int, candidate: str | None) -> None:
        island = self.island if self.run.plan.islands else None
        self.run.record(
            "lineage", charge - 1,
            {
                "charge": charge, "candidate": candidate, "parent": self.parent, "island": island,
                "generation": 1 + charge // len(self.islands), "operator": "full",
                "inspirations": self.ranked(self.islands[self.island])[:2],
            },
        )  # fmt: skip

    def took(self, charge: int, candidate: str | None, speedups: list[float] | None) -> None:
        if candidate is not None and speedups is not None:
            self.speedups[candidate] = speedups
            for island in self.islands if charge == 0 else [self.islands[self.island]]:
                island.append(candidate)
        if charge % 15 == 14:
            moves = [
                (self.ranked(members)[0], (number + 1) % len(self.islands), number)
                for number, members in enumerate(self.islands)
            ]
            for best, to, number in moves if len(self.islands) > 1 else []:
                self.islands[to].append(best)
                moved = {"candidate": best, "from": number, "to": to}
                self.run.record("migration", charge, moved)
        if charge % 20 == 19:
            self.run.record("summary", charge, {"text": "Vector loads helped. " * 60})
        self.islands = [self.ranked(list(dict.fromkeys(i)))[:8] for i in self.islands]
        archive = self.ranked(list(self.speedups))[:6]
        data = {"islands": self.islands, "archive": archive, "best": archive[0]}
        self.run.record("population", charge, data)


class _Tree:
    """A plausible world model: inserts, updates, prunes and a failed update, cycle by cycle."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.round = 0
        self.nodes: list[dict[str, Any]] = [self.node("n0", None, "closed", "starting program")]
        run.llm(0, "world-model")
        self.insert("n0", 3)
        self.snapshot(0, "initial", [{"op": "insert", "node": n["id"]} for n in self.nodes[1:]])

    def node(self, name: str, parent: str | None, state: str, title: str) -> dict[str, Any]:
        return {
            "id": name, "parent": parent, "state": state, "title": title,
            "priority": round(self.run.stream.uniform(0.2, 0.95), 2),
            "difficulty": self.run.stream.randrange(1, 5),
            "score": 0.3 if state == "closed" else None, "attempts": 0,
            "round_created": self.round,
        }  # fmt: skip

    def insert(self, parent: str, count: int) -> list[str]:
        titles = (
            "tile the loops for the L1 cache", "vectorise the inner loop", "pack B into panels",
            "split the rows over threads", "fuse the two passes", "prefetch the next page",
        )  # fmt: skip
        names = []
        for _ in range(count):
            name = f"n{len(self.nodes)}"
            self.nodes.append(self.node(name, parent, "open", self.run.stream.choice(titles)))
            names.append(name)
        return names

    def step(self, charge: int) -> None:
        if charge % 4 != 1:
            return
        self.round += 1
        by_id = {n["id"]: n for n in self.nodes}
        frontier = [
            n
            for n in self.nodes
            if n["state"] == "open" and by_id[n["parent"]]["state"] == "closed"
        ]
        if not frontier:
            return
        chosen = max(frontier, key=lambda n: n["priority"])
        self.run.record(
            "selection", charge - 1,
            {
                "round": self.round, "node": chosen["id"], "title": chosen["title"],
                "priority": chosen["priority"], "frontier": [n["id"] for n in frontier],
            },
        )  # fmt: skip
        chosen["attempts"] += 1
        improved = self.run.stream.random() < 0.7
        score = round(self.run.stream.uniform(0.4, 2.5), 4)
        if improved:
            chosen |= {"state": "closed", "score": score}
        self.run.record(
            "cycle", charge,
            {
                "round": self.round, "node": chosen["id"], "evaluations": 4,
                "best_score": score if improved else None, "improved": improved,
            },
        )  # fmt: skip
        self.run.llm(charge, "world-model")
        if self.round % 4 == 3:
            self.snapshot(charge, "failed update", [], "edit 2: there is no node n99")
            return
        edits = [{"op": "insert", "node": n} for n in self.insert(chosen["id"], 2)]
        others = [n for n in frontier if n is not chosen]
        if others:
            others[0]["priority"] = round(others[0]["priority"] * 0.7, 2)
            edits.append({"op": "update", "node": others[0]["id"]})
        if len(others) > 2:
            others[-1]["state"] = "pruned"
            edits.append({"op": "prune", "node": others[-1]["id"]})
        self.snapshot(charge, "update", edits)

    def snapshot(
        self, charge: int, reason: str, edits: list[dict[str, Any]], rejected: str | None = None
    ) -> None:
        data = {
            "round": self.round, "reason": reason, "nodes": [dict(n) for n in self.nodes],
            "edits": edits, "rejected": rejected,
        }  # fmt: skip
        self.run.record("world_model", charge, data)

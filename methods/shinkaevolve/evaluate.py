"""ShinkaEvolve's evaluation program: one process per candidate, in ShinkaEvolve's environment.

    evaluate.py --program_path FILE --results_dir FOLDER

It submits the program to the harness and writes what ShinkaEvolve reads: metrics.json and
correct.json. The driver leaves lineage.json in FOLDER; where there is none, the program is the
starting program, whose verdict is known. The lines that mark the part of the file which may be
changed are ShinkaEvolve's and not the program's: they are taken out.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import bridge

_MARKER = re.compile(r"^\s*(?://|#)\s*EVOLVE-BLOCK-(?:START|END)\s*$")


def without_markers(text: str) -> str:
    """The program in ShinkaEvolve's file."""
    return "\n".join(line for line in text.split("\n") if not _MARKER.match(line))


def metrics(verdict: dict[str, Any]) -> dict[str, Any]:
    """metrics.json. Scores are times 100: ShinkaEvolve shows two decimals. It cuts the last two
    characters of its list of numbers where there is no public one, so there is one."""
    score = 0.0 if verdict["score"] is None else 100.0 * verdict["score"]
    return {
        "combined_score": score,
        "public": {"score": score},
        "private": {"candidate": verdict["candidate_id"]},
        "text_feedback": verdict["info"]["feedback"],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--program_path", type=Path, required=True)
    parser.add_argument("--results_dir", type=Path, required=True)
    given = parser.parse_args()
    bridge.loopback_only()
    run = bridge.connect()
    told = given.results_dir / "lineage.json"
    if told.exists():
        lineage = json.loads(told.read_text(encoding="utf-8"))
        parent = lineage.pop("parent")
        generation, island = lineage["generation"], lineage["island"]
        verdict = run.evaluate(
            without_markers(given.program_path.read_text(encoding="utf-8")),
            parent=parent,
            note=f"generation {generation}, island {island}, {lineage['operator']}",
            lineage=lineage,
        )
    else:
        verdict = run.start
    correct = verdict["score"] is not None or bool(run.options["failed_is_correct"])
    answers = {
        "metrics.json": metrics(verdict),
        "correct.json": {"correct": correct, "error": None if correct else verdict["status"]},
    }
    for name, answer in answers.items():
        (given.results_dir / name).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()

"""The lineage of a population: what is read of a run log, and what its figure shows."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import LogError
from reports.build import build_report
from reports.figure import PALETTE, Figure
from reports.frames import read_frames
from reports.lineage import read_lineage
from reports.lineage_figure import draw_lineages
from reports.manifest import read_comparison
from tests.fake_comparison import Plan, write_comparison

RUN = ("matmul", "openevolve", 0)
ONE: dict[str, Any] = {"tasks": ("matmul",), "arms": ("openevolve",), "seeds": (0,)}
SVG = "{http://www.w3.org/2000/svg}"

Event = dict[str, Any]


def write(tmp_path: Path, **plan: Any) -> Path:
    return write_comparison(tmp_path / "c", Plan(**(ONE | plan)))


def run_folder(folder: Path, arm: str = "openevolve", seed: int = 0) -> Path:
    return folder / "runs" / "matmul" / arm / f"seed-{seed}"


def rewrite(run: Path, change: Callable[[list[Event]], list[Event]]) -> None:
    """Edit the events of a run; they are numbered anew."""
    path = run / "events.jsonl"
    events = change([json.loads(line) for line in path.read_text().splitlines()])
    lines = [json.dumps(event | {"i": i}) + "\n" for i, event in enumerate(events)]
    path.write_text("".join(lines))


def without(*kinds: str) -> Callable[[list[Event]], list[Event]]:
    return lambda events: [e for e in events if e.get("record", e["kind"]) not in kinds]


def record(kind: str, after: int, /, **data: Any) -> Event:
    return {"t": 0.0, "kind": "record", "record": kind, "charge": after, "data": data}


def told(charge: int, **data: Any) -> Event:
    """A lineage record."""
    usual = {"candidate": None, "parent": None, "island": None, "generation": None}
    rest = {"operator": None, "inspirations": []}
    return record("lineage", charge - 1, charge=charge, **(usual | rest | data))


def evaluated(like: Event, charge: int, candidate: str | None, score: float | None) -> Event:
    status = "PASSED" if score else "RUNTIME_ERROR" if candidate else "NO_CODE"
    return like | {"charge": charge, "candidate": candidate, "status": status, "score": score}


def log(run: Path, *after: Callable[[Event], Event] | Event) -> str:
    """A log of the start and what is given (a function is given an evaluation to copy); the id of
    the start."""
    start: list[str] = []

    def change(events: list[Event]) -> list[Event]:
        at = next(i for i, e in enumerate(events) if e["kind"] == "evaluation")
        start.append(events[at]["candidate"])
        made = [e(events[at]) if callable(e) else e for e in after]
        return [*events[: at + 1], *made]

    rewrite(run, change)
    return start[0]


def passes(charge: int, candidate: str, score: float) -> Callable[[Event], Event]:
    return lambda like: evaluated(like, charge, candidate, score)


def fails(charge: int, candidate: str | None) -> Callable[[Event], Event]:
    return lambda like: evaluated(like, charge, candidate, None)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return run_folder(write(tmp_path, charges=3))


def draw(folder: Path) -> list[Figure]:
    comparison = read_comparison(folder)
    frames = read_frames(folder, comparison.tasks, comparison.arm_names)
    return draw_lineages(comparison, folder, frames.runs)


def figure(tmp_path: Path, **plan: Any) -> Figure:
    (found,) = draw(write(tmp_path, **plan))
    return found


def texts(svg: str) -> set[str]:
    return {"".join(t.itertext()).strip() for t in ElementTree.fromstring(svg).iter(f"{SVG}text")}


def marks(svg: str, colour: str) -> int:
    """How many markers are filled with a colour, those of the legend included."""
    uses = ElementTree.fromstring(svg).iter(f"{SVG}use")
    return sum(f"fill: {colour}" in (use.get("style") or "") for use in uses)


def test_a_child_leads_to_its_parents_charge(run):
    log(run, told(1), passes(1, "a" * 16, 0.5), told(2, parent="a" * 16), passes(2, "b" * 16, 0.6))
    assert [node.parent for node in read_lineage(run).nodes] == [None, None, 1]


def test_a_parent_that_was_proposed_twice_is_meant_as_last_proposed_before_the_child(run):
    log(
        run, told(1), passes(1, "a" * 16, 0.5), told(2), passes(2, "a" * 16, 0.5),
        told(3, parent="a" * 16), passes(3, "b" * 16, 0.6), told(4), passes(4, "a" * 16, 0.5),
    )  # fmt: skip
    assert read_lineage(run).nodes[3].parent == 2


def test_a_parent_may_be_the_starting_program(tmp_path):
    lineage = read_lineage(run_folder(write(tmp_path, charges=3, islands=1)))
    assert lineage.nodes[1].parent == 0


def test_an_unknown_parent_is_none(run):
    log(run, told(1, parent="f" * 16), passes(1, "a" * 16, 0.5))
    lineage = read_lineage(run)
    assert lineage.nodes[1].parent is None
    assert [node.charge for node in lineage.descent] == [1]


def test_a_charge_without_a_lineage_record_has_the_parent_of_its_evaluation(run):
    log(
        run,
        told(1, island=2),
        passes(1, "a" * 16, 0.5),
        lambda like: evaluated(like, 2, "b" * 16, 0.6) | {"parent": "a" * 16},
    )
    node = read_lineage(run).nodes[2]
    assert (node.parent, node.island) == (1, None)


def test_a_proposal_that_was_never_evaluated_is_left_out(run):
    log(run, told(1), passes(1, "a" * 16, 0.5), told(2, parent="a" * 16))
    assert [node.charge for node in read_lineage(run).nodes] == [0, 1]


def test_a_migration_is_of_the_program_as_it_was_then(run):
    log(
        run, told(1), passes(1, "a" * 16, 0.5),
        record("migration", 1, candidate="a" * 16, **{"from": None, "to": 1}),
        told(2), passes(2, "a" * 16, 0.7),
    )  # fmt: skip
    (migration,) = read_lineage(run).migrations
    assert (migration.charge, migration.source, migration.island) == (1, 1, 1)


def test_the_archive_is_that_of_the_last_population(run):
    log(
        run, told(1), passes(1, "a" * 16, 0.5), told(2), passes(2, "b" * 16, 0.6),
        record("population", 1, islands=[["a" * 16]], archive=["a" * 16], best="a" * 16),
        record("population", 2, islands=[[], []], archive=["b" * 16, "f" * 16], best=None),
    )  # fmt: skip
    lineage = read_lineage(run)
    assert (lineage.archive, lineage.archived, lineage.archived_at) == ((2,), 2, 2)
    assert lineage.islands == 2


def test_copies_in_the_archive_are_counted_once_too(tmp_path):
    folder = write(tmp_path, charges=60)

    def doubled(events: list[Event]) -> list[Event]:
        data = {"islands": [["a" * 16]], "archive": ["a" * 16, "a" * 16, "b" * 16], "best": None}
        last = max(i for i, e in enumerate(events) if e.get("record") == "population")
        events[last] |= {"data": data, "blob": None}
        return events

    rewrite(run_folder(folder), doubled)
    assert "(after charge 60): 3 programs, 2 different." in draw(folder)[0].caption


def test_no_population_but_the_last_is_opened(tmp_path):
    run = run_folder(write(tmp_path, charges=60, islands=10))
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    blobs = [e["blob"] for e in events if e.get("record") == "population" and e["blob"]]
    assert len(set(blobs)) > 10
    for name in set(blobs[:-1]) - {blobs[-1]}:
        (run / "blobs" / name[:2] / f"{name}.gz").unlink()
    assert read_lineage(run).archived == 6


def test_the_ancestors_of_the_best_go_through_a_parent_that_failed(run):
    start = log(run)
    log(
        run, told(1, parent=start), fails(1, "a" * 16), told(2, parent="a" * 16),
        passes(2, "b" * 16, 0.9),
    )  # fmt: skip
    assert [node.charge for node in read_lineage(run).descent] == [2, 1, 0]


@pytest.mark.parametrize(
    "event",
    [
        record("lineage", 0),
        record("lineage", 0, charge="one", parent=None, island=None),
        record("lineage", 0, charge=1, parent=7, island=None),
        record("lineage", 0, charge=1, parent=None, island="left"),
        record("migration", 0, candidate="a" * 16),
        record("population", 0, islands=[[]]),
        record("population", 0, islands=None, archive=[]),
        record("lineage", 0) | {"data": None, "blob": "0" * 16},
        record("lineage", 0) | {"data": None, "blob": None},
        record("lineage", 0) | {"data": [1, 2]},
    ],
)
def test_a_damaged_record_is_named_by_file_and_line(run, event):
    log(run, event)
    with pytest.raises(LogError, match=rf"events\.jsonl, line 3: the {event['record']} record"):
        read_lineage(run)


def test_a_blob_that_does_not_unpack_is_named_by_file_and_line(run):
    log(run, record("population", 0) | {"data": None, "blob": "ab" + "0" * 14})
    path = run / "blobs" / "ab" / ("ab" + "0" * 14 + ".gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + b"\xff" * 20)
    with pytest.raises(LogError, match=r"events\.jsonl, line 3: the population record"):
        read_lineage(run)


def test_charges_out_of_order_are_refused(run):
    log(run, told(2), passes(2, "a" * 16, 0.5))
    with pytest.raises(LogError, match=r"line 4: the evaluation event .*charge 2, expected 1"):
        read_lineage(run)


@pytest.mark.parametrize("islands", [0, 1, 10])
@pytest.mark.parametrize("charges", [5, 300])
def test_runs_of_any_size_are_drawn(tmp_path, islands, charges):
    drawn = figure(tmp_path, charges=charges, islands=islands)
    assert drawn.caption.startswith(f"{charges} charges, ")
    named = {text for text in texts(drawn.svg) if text.startswith("island ")}
    assert len(named) == (min(islands, charges) if islands else 0)


def test_the_caption_counts_what_the_log_holds(tmp_path):
    folder = write(tmp_path, charges=60)
    lineage = read_lineage(run_folder(folder))
    passed = sum(node.score is not None for node in lineage.nodes[1:])
    caption = draw(folder)[0].caption
    assert f"60 charges, {passed} passed; 3 islands, 12 migrations, 3 summaries." in caption
    assert "Archive at the end (after charge 60): 6 programs." in caption
    assert caption.endswith("Scores are search scores.")


def test_the_best_is_named_with_its_score_and_its_descent(tmp_path):
    folder = write(tmp_path, charges=60)
    descent = read_lineage(run_folder(folder)).descent
    drawn = draw(folder)[0]
    assert f"best {descent[0].score:.2f}×" in texts(drawn.svg)
    assert (
        f"charge {descent[0].charge}, is {len(descent) - 1} steps from the start" in drawn.caption
    )


def test_the_legend_explains_every_mark_of_a_whole_run(tmp_path):
    assert {
        "island 0", "island 1", "island 2", "starting program", "parent to child",
        "ancestors of the best", "failed", "no program", "migration", "archive at the end",
        "summary",
    } <= texts(figure(tmp_path, charges=60).svg)  # fmt: skip


def test_the_legend_leaves_out_what_does_not_occur(tmp_path):
    folder = write(tmp_path, charges=60, islands=0)
    kinds = ("population", "migration", "summary")
    rewrite(run_folder(folder), without(*kinds))
    words = texts(draw(folder)[0].svg)
    assert "passed" in words
    assert not {"migration", "archive at the end", "summary", "no island"} & words


def test_a_run_without_population_records_says_so(tmp_path):
    folder = write(tmp_path, charges=10)
    rewrite(run_folder(folder), without("population"))
    assert "No population was recorded." in draw(folder)[0].caption


def test_a_run_in_which_everything_failed_is_drawn(tmp_path):
    drawn = figure(tmp_path, charges=30, hopeless=frozenset({RUN}))
    assert "30 charges, none passed" in drawn.caption
    assert "In the search no program scored above the start." in drawn.caption
    assert not {"parent to child", "ancestors of the best"} & texts(drawn.svg)


def test_a_run_whose_start_failed_too_is_drawn(tmp_path):
    folder = write(tmp_path, charges=5, hopeless=frozenset({RUN}))

    def change(events: list[Event]) -> list[Event]:
        failed = {"status": "TIMEOUT", "score": None}
        return [e | failed if e.get("charge") == 0 and "status" in e else e for e in events]

    rewrite(run_folder(folder), change)
    assert "no program passed" in texts(draw(folder)[0].svg)


def test_an_interrupted_run_is_drawn_as_far_as_it_came(tmp_path):
    drawn = figure(tmp_path, charges=20, ends={RUN: "killed"})
    assert drawn.caption.startswith("10 charges, ")


def test_failures_and_proposals_without_a_program_have_lanes_of_their_own(tmp_path):
    folder = write(tmp_path, charges=3)
    log(run_folder(folder), told(1), fails(1, "a" * 16), told(2), fails(2, None))
    assert {"failed", "no program"} <= texts(draw(folder)[0].svg)


def test_a_migration_has_the_colour_of_the_island_that_receives_it(tmp_path):
    folder = write(tmp_path, charges=3)
    log(
        run_folder(folder), told(1), passes(1, "a" * 16, 0.5),
        record("migration", 1, candidate="a" * 16, **{"from": None, "to": 4}),
    )  # fmt: skip
    assert marks(draw(folder)[0].svg, PALETTE[4]) == 2  # the legend's and the migration's


def test_a_migration_of_a_program_without_a_score_is_counted_and_not_drawn(tmp_path):
    folder = write(tmp_path, charges=3)
    moved = {"from": 0, "to": 1}
    log(
        run_folder(folder), told(1, island=0), passes(1, "a" * 16, 0.5),
        record("migration", 1, candidate="f" * 16, **moved),
    )  # fmt: skip
    drawn = draw(folder)[0]
    assert "1 migration of programs without a score not drawn." in drawn.caption
    assert "migration" not in texts(drawn.svg)


def test_islands_beyond_the_palette_have_another_shape_of_the_same_colour(tmp_path):
    folder = write(tmp_path, charges=3)
    first, eighth = told(1, island=0), told(2, island=7)
    log(run_folder(folder), first, passes(1, "a" * 16, 0.5), eighth, passes(2, "b" * 16, 0.6))
    svg = draw(folder)[0].svg
    link = "{http://www.w3.org/1999/xlink}href"
    uses = ElementTree.fromstring(svg).iter(f"{SVG}use")
    assert len({u.get(link) for u in uses if f"fill: {PALETTE[0]}" in (u.get("style") or "")}) == 2


def test_the_figure_is_titled_with_its_run_and_the_levels(tmp_path):
    svg = figure(tmp_path, charges=5).svg
    title = ElementTree.fromstring(svg).findtext(f"{SVG}title")
    assert title == "Lineage: matmul, openevolve, seed 0 (simulated LLM × live evaluator)"


MANY: dict[str, Any] = {"arms": ("openevolve", "shinkaevolve"), "seeds": tuple(range(7))}


def test_of_many_runs_the_first_seed_of_each_task_and_arm_is_drawn(tmp_path):
    titles = [f.title for f in draw(write(tmp_path, charges=5, **MANY))]
    assert titles == [
        "Lineage: matmul, openevolve, seed 0",
        "Lineage: matmul, shinkaevolve, seed 0",
    ]


def test_a_run_that_is_not_drawn_is_not_read(tmp_path):
    folder = write(tmp_path, charges=5, **MANY)
    rewrite(run_folder(folder, seed=1), lambda events: [*events, record("lineage", 0)])
    assert len(draw(folder)) == 2


def section(folder: Path) -> str:
    page = build_report(folder).page.read_text()
    found = re.search(r'(?s)<section id="traces">.*?</section>', page)
    return re.sub(r"(?s)<svg.*?</svg>|<[^>]+>", " ", found.group(0)) if found else ""


def test_independent_samples_have_no_lineage_and_nothing_is_said_of_one(tmp_path):
    folder = write(tmp_path, charges=5, arms=("best_of_n",))
    assert section(folder) == ""
    assert "lineage" not in (folder / "report" / "index.html").read_text().lower()


def test_a_page_about_populations_does_not_speak_of_world_models(tmp_path):
    words = section(write(tmp_path, charges=5))
    assert "Lineages of populations" in words
    assert "1 of 1 such runs is drawn" in words
    assert not re.search("K-Search|[Ww]orld model|node", words)


def test_a_page_about_world_models_does_not_speak_of_populations(tmp_path):
    words = section(write(tmp_path, charges=5, arms=("ksearch",)))
    assert "World models" in words
    assert not re.search("[Pp]opulation|[Ll]ineage", words)


def test_world_models_and_lineages_stand_side_by_side_each_with_its_own_limit(tmp_path):
    arms = ("best_of_n", "ksearch", "openevolve")
    words = section(write(tmp_path, charges=5, arms=arms, seeds=tuple(range(13))))
    assert words.count("1 of 13 such runs is drawn: the first seed of a task and arm") == 2

"""Levels, tapes, recording, replay, and the connection of a model at a level."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import EnvironmentMissing, LogError, UnknownName, UsageError
from harness.llm.client import Message, Reply, Request
from harness.llm.connect import connect
from harness.llm.models import ModelSettings
from harness.llm.record import LLMLevel, TapeClient, parse_level
from harness.llm.tape import Call, Tape, open_tape
from harness.types import Usage, canonical_json, content_hash


class Counting:
    """A toy model: answers with how often it was asked."""

    waits = True

    def __init__(self) -> None:
        self.asked = 0

    def complete(self, request: Request, occurrence: int) -> Reply:
        self.asked += 1
        return Reply(f"answer {self.asked}", Usage(10, 2, 1, 0.25), 1.5, "stop", "toy-1")


def ask(text: str, *, purpose: str = "propose", model: str = "toy") -> Request:
    return Request(model, (Message("user", text),), purpose, {"temperature": 0.5})


def record(folder: Path, *texts: str, run: str = "") -> list[Reply]:
    client = TapeClient("record", open_tape(folder, run, write=True), Counting())
    return [client.complete(ask(text), 0) for text in texts]


def replay(folder: Path, run: str = "") -> TapeClient:
    return TapeClient("replay", open_tape(folder, run, write=False), None)


# --- Levels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["live", "simulated", "replay:a/b", "record:c:d", "replay-or-record:e"]
)
def test_a_level_reads_back_as_it_was_written(text):
    assert str(parse_level(text)) == text


def test_a_level_holds_its_path():
    assert parse_level("record:c:d") == LLMLevel("record", Path("c:d"))


def test_an_unknown_level_comes_with_a_suggestion():
    with pytest.raises(UnknownName, match="Did you mean 'replay'"):
        parse_level("repaly:x")


@pytest.mark.parametrize("text", ["replay", "record:", "live:x", "simulated:"])
def test_a_path_that_is_missing_or_superfluous_is_a_usage_error(text):
    with pytest.raises(UsageError, match="Write LLM="):
        parse_level(text)


# --- Recording and replay -------------------------------------------------------------------------


def test_a_recording_replays_every_field_of_every_reply(tmp_path):
    replies = record(tmp_path, "a", "b")
    client = replay(tmp_path)
    assert [client.complete(ask(text), 0) for text in "ab"] == replies


@pytest.mark.parametrize("reason", ["refusal", "length", "empty"])
def test_results_without_an_answer_are_recorded_too(tmp_path, reason):
    reply = Reply("", Usage(estimated=True, dollars=None), 0.1, reason)
    open_tape(tmp_path, "", write=True).add(Call(ask("a"), 0, reply))
    assert replay(tmp_path).complete(ask("a"), 0) == reply


@settings(max_examples=30)  # each writes a file to the disk
@given(text=st.text(st.characters(exclude_categories=["Cs"])), occurrence=st.integers(0, 9))
def test_any_text_survives_a_tape(tmp_path_factory, text, occurrence):
    folder = tmp_path_factory.mktemp("tape")
    reply = Reply(text, Usage(1, 2), 0.5)
    open_tape(folder, "", write=True).add(Call(ask(text), occurrence, reply))
    assert replay(folder).complete(ask(text), occurrence) == reply


def test_replay_or_record_asks_only_for_what_is_missing(tmp_path):
    record(tmp_path, "a")
    inner = Counting()
    client = TapeClient("replay-or-record", open_tape(tmp_path, "", write=True), inner)
    client.complete(ask("a"), 0)
    assert inner.asked == 0
    fresh = client.complete(ask("b"), 0)
    assert inner.asked == 1
    assert replay(tmp_path).complete(ask("b"), 0) == fresh


def test_mode_record_asks_again_and_the_newest_reply_holds(tmp_path):
    client = TapeClient("record", open_tape(tmp_path, "", write=True), Counting())
    client.complete(ask("a"), 0)
    newest = client.complete(ask("a"), 0)
    assert newest.text == "answer 2"
    assert replay(tmp_path).complete(ask("a"), 0) == newest


def test_mode_off_passes_through_and_writes_nothing(tmp_path):
    tape = open_tape(tmp_path, "", write=True)
    TapeClient("off", tape, Counting()).complete(ask("a"), 0)
    assert len(tape) == 0
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_mode_is_an_error():
    with pytest.raises(UnknownName, match="Did you mean 'record'"):
        TapeClient("recrod", Tape(), Counting())


@pytest.mark.parametrize(
    ("mode", "waits"), [("replay", False), ("record", True), ("replay-or-record", True)]
)
def test_a_client_waits_only_if_it_may_ask_a_live_one(mode, waits):
    assert TapeClient(mode, Tape(), None if mode == "replay" else Counting()).waits is waits


# --- Misses ---------------------------------------------------------------------------------------


def test_a_miss_shows_the_nearest_request_and_the_first_line_that_differs(tmp_path):
    record(tmp_path, "one\ntwo\nthree", "something\nelse")
    with pytest.raises(LogError) as caught:
        replay(tmp_path).complete(ask("one\ntwo!\nthree"), 0)
    message = str(caught.value)
    assert ask("one\ntwo\nthree").key in message
    assert "line 6" in message
    assert "asked:    two!\n" in message
    assert "recorded: two\n" in message


def test_a_miss_in_the_purpose_is_shown_too(tmp_path):
    record(tmp_path, "same")
    with pytest.raises(LogError, match=r"asked:    purpose: judge\n  recorded: purpose: propose"):
        replay(tmp_path).complete(ask("same", purpose="judge"), 0)


def test_an_occurrence_too_many_says_how_many_there_are(tmp_path):
    record(tmp_path, "a")
    with pytest.raises(LogError, match=r"occurrence 1 .*has 1 of the same request"):
        replay(tmp_path).complete(ask("a"), 1)


def test_an_empty_tape_says_that_it_is_empty():
    with pytest.raises(LogError, match="empty"):
        TapeClient("replay", Tape(), None).complete(ask("a"), 0)


# --- Files ----------------------------------------------------------------------------------------


def test_every_run_has_its_own_tape(tmp_path):
    first, second = (record(tmp_path, "same", run=f"runs/t/a/seed-{n}") for n in (0, 1))
    (tmp_path / "runs/t/a/seed-1/calls.jsonl").write_text(
        (tmp_path / "runs/t/a/seed-1/calls.jsonl").read_text().replace("answer 1", "another")
    )
    assert replay(tmp_path, "runs/t/a/seed-0").complete(ask("same"), 0) == first[0]
    assert replay(tmp_path, "runs/t/a/seed-1").complete(ask("same"), 0).text == "another"
    assert second[0].text == "answer 1"


def test_two_models_of_one_run_write_one_tape(tmp_path):
    for model in ("x", "y"):
        client = TapeClient("record", open_tape(tmp_path, "r", write=True), Counting())
        client.complete(ask("a", model=model), 0)
    assert [c.request.model for c in open_tape(tmp_path, "r", write=False).calls()] == ["x", "y"]


def test_a_torn_last_line_is_dropped_and_recording_goes_on(tmp_path):
    record(tmp_path, "a", "b")
    file = tmp_path / "calls.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    assert len(open_tape(tmp_path, "", write=False)) == 1
    record(tmp_path, "c")
    tape = open_tape(tmp_path, "", write=False)
    assert [c.request for c in tape.calls()] == [ask("a"), ask("c")]


@settings(max_examples=30)
@given(cut=st.integers(0, 2000))
def test_a_tape_cut_anywhere_holds_its_whole_lines(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("tape")
    record(folder, "a", "b")
    file = folder / "calls.jsonl"
    content = file.read_bytes()[:cut]
    file.write_bytes(content)
    assert len(open_tape(folder, "", write=False)) == content.count(b"\n")


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[]",
        "{}",
        '{"tape": 9}',
        canonical_json({"tape": 1, "key": "0", "request": ask("a").to_json()}),
    ],
)
def test_a_damaged_line_in_the_middle_is_named_by_file_and_number(tmp_path, line):
    record(tmp_path, "a")
    file = tmp_path / "calls.jsonl"
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(LogError, match=r"calls\.jsonl, line 2"):
        open_tape(tmp_path, "", write=False)


def test_a_folder_without_a_tape_says_what_was_looked_for(tmp_path):
    with pytest.raises(LogError, match=r"calls\.jsonl nor events\.jsonl"):
        open_tape(tmp_path, "runs/t/a/seed-0", write=False)


def test_a_tape_that_cannot_be_written_is_a_log_error_and_is_not_kept(tmp_path):
    (tmp_path / "runs").write_text("a file where a folder should be")
    tape = open_tape(tmp_path, "runs/r", write=True)
    with pytest.raises(LogError, match="Cannot write the tape"):
        tape.add(Call(ask("a"), 0, Reply("x", Usage(), 0.0)))
    assert len(tape) == 0


def write_blob(run: Path, text: str) -> str:
    name = content_hash(text)
    file = run / "blobs" / name[:2] / f"{name}.gz"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(text.encode(), mtime=0))
    return name


def write_run(run: Path, *answers: str) -> None:
    """The log of a finished run, as docs/architecture.md describes it."""
    run.mkdir(parents=True)
    events = [{"i": 0, "t": 1.0, "kind": "attempt", "number": 1, "resumed_at": 0}]
    for occurrence, answer in enumerate(answers):
        request = ask("same")
        events.append(
            {
                "i": len(events), "t": 2.0, "kind": "llm", "call": occurrence + 1,
                "key": request.key, "occurrence": occurrence, "purpose": "propose",
                "model": "toy", "charges": 0,
                "request": write_blob(run, canonical_json(request.to_json())),
                "reply": write_blob(run, answer), "finish_reason": "stop",
                "prompt_tokens": 3, "completion_tokens": 4, "reasoning_tokens": 1,
                "dollars": None, "estimated": True, "seconds": 2.5,
            }
        )  # fmt: skip
    (run / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))


def test_a_finished_comparison_serves_each_run_its_own_completions(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / f"runs/t/a/seed-{seed}", f"first {seed}", f"second {seed}")
    client = replay(tmp_path, "runs/t/a/seed-1")
    usage = Usage(3, 4, 1, None, estimated=True)
    assert client.complete(ask("same"), 1) == Reply("second 1", usage, 2.5, "stop", "toy")
    assert client.complete(ask("same"), 0).text == "first 1"


def test_the_folder_of_one_run_is_a_tape_itself(tmp_path):
    write_run(tmp_path / "lone", "hello")
    assert replay(tmp_path / "lone", "runs/t/a/seed-0").complete(ask("same"), 0).text == "hello"


def test_a_blob_that_was_changed_is_refused(tmp_path):
    run = tmp_path / "run"
    write_run(run, "hello")
    name = content_hash("hello")
    (run / "blobs" / name[:2] / f"{name}.gz").write_bytes(gzip.compress(b"other"))
    with pytest.raises(LogError, match="does not hold what its name says"):
        open_tape(run, "", write=False)


# --- connect --------------------------------------------------------------------------------------

LIVE = ModelSettings(
    name="toy", model="m", base_url="http://127.0.0.1:1/v1", key_variable="TOY_KEY"
)
SIMULATED = ModelSettings(name="simulated", kind="simulated")


@pytest.mark.parametrize("environment", [{}, {"TOY_KEY": " "}])
def test_a_missing_key_says_how_to_go_on(environment):
    with pytest.raises(EnvironmentMissing, match=r"Set TOY_KEY.*LLM=simulated.*SUITE=cpu"):
        connect(LIVE, LLMLevel("live"), spaces={}, environment=environment)


def test_a_live_client_waits_and_a_simulated_one_computes():
    live = connect(LIVE, LLMLevel("live"), spaces={}, environment={"TOY_KEY": "k"})
    assert live.waits
    assert not connect(SIMULATED, LLMLevel("simulated"), spaces={}).waits


@pytest.mark.parametrize(("model", "kind"), [(LIVE, "simulated"), (SIMULATED, "live")])
def test_a_model_at_the_wrong_level_is_a_usage_error(model, kind):
    with pytest.raises(UsageError, match=f"LLM={kind}"):
        connect(model, LLMLevel(kind), spaces={}, environment={"TOY_KEY": "k"})


def test_replay_needs_no_key(tmp_path):
    replies = record(tmp_path, "a")
    client = connect(LIVE, LLMLevel("replay", tmp_path), spaces={}, environment={})
    assert client.complete(ask("a"), 0) == replies[0]


def test_a_simulated_model_is_recorded_and_replayed(tmp_path):
    request = ask("Say something.", model="simulated")
    level = LLMLevel("record", tmp_path)
    reply = connect(SIMULATED, level, spaces={}, run="r").complete(request, 0)
    client = connect(SIMULATED, LLMLevel("replay", tmp_path), spaces={}, run="r")
    assert client.complete(request, 0) == reply

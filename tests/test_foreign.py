"""The bridge to foreign programs: budgets, failures, containment, resume, in the toy world."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from foreign_programs import SEQUENTIAL, foreign, output, run, spec
from scripted_endpoint import completion, connect, endpoints, error
from toy_run import ToyClient, ToyEvaluator, essence, toy_method

from harness.budget import Budget
from harness.errors import EndpointError, EnvironmentMissing, ForeignError
from harness.evaluate import machine
from harness.foreign.child import OUTPUT_BYTES
from harness.foreign.drive import ForeignProgram, drive
from harness.foreign.keeper import below
from harness.method import load_method
from harness.replay import replay_run
from harness.runlog import abandoned_attempts, read_events
from harness.summary import read_summary

ALWAYS = "```cpp\n// score 1.{}\n```"


def events(folder: Path, kind: str) -> list[dict]:
    return [event for event in read_events(folder) if event["kind"] == kind]


def records(folder: Path, kind: str) -> list[dict]:
    return [e["data"] for e in events(folder, "record") if e["record"] == kind]


# --- budgets ------------------------------------------------------------------------------------


def test_a_program_is_served_to_its_last_charge_and_no_further(tmp_path):
    summary = run(tmp_path, SEQUENTIAL, 9)
    assert (summary.status, summary.reason) == ("finished", "budget: charges")
    assert summary.charges == 9 == len(events(tmp_path, "evaluation")) - 1
    assert summary.llm_calls == 9


def test_a_proposal_without_a_program_costs_a_charge(tmp_path):
    run(tmp_path, "ask('hello')\nwhile run.charges_left: run.no_candidate('failed patch')\n", 3)
    charged = events(tmp_path, "evaluation")[1:]
    assert [e["status"] for e in charged] == ["NO_CODE"] * 3
    assert charged[0]["failure"]["message"] == "failed patch"


def test_a_program_that_goes_on_after_its_last_charge_is_held_and_ended(tmp_path):
    script = "while True:\n  ask('more')\n  run.evaluate('// score 1.5')\n"
    summary = run(tmp_path, script, 4)
    assert (summary.reason, summary.charges, summary.llm_calls) == ("budget: charges", 4, 4)


def test_a_program_that_only_submits_for_ever_is_ended(tmp_path):
    script = "ask('once')\nwhile True: run.evaluate('// score 1.5')\n"
    assert run(tmp_path, script, 4).charges == 4


def test_the_last_answer_says_that_nothing_is_left_and_records_are_still_taken(tmp_path):
    script = SEQUENTIAL + "run.record('last', {'left': run.charges_left})\n"
    run(tmp_path, script, 3)
    assert records(tmp_path, "last") == [{"left": 0}]


@pytest.mark.parametrize("limit", ["llm_calls", "tokens", "seconds"])
def test_other_limits_end_a_program_too(tmp_path, limit):
    budget = Budget(**{"charges": 50, limit: 3 if limit != "tokens" else 100})
    summary = run(tmp_path, SEQUENTIAL, budget=budget)
    assert summary.reason == f"budget: {limit}"
    assert 0 < summary.charges < 50


def test_a_program_that_asks_and_never_proposes_is_stalled(tmp_path):
    assert run(tmp_path, "while True: ask('why?')\n").reason.startswith("stalled: 50 LLM calls")


def test_a_program_may_say_that_it_is_done(tmp_path):
    script = "ask('hi')\nrun.evaluate('// score 1.5')\nrun.finish('converged')\n"
    assert run(tmp_path, script).reason == "method finished"


def test_embeddings_are_llm_calls_and_are_logged(tmp_path):
    script = "ask('', '/embeddings', input=['a b', 'c'], messages=[])\n" + SEQUENTIAL
    assert run(tmp_path, script, 2).llm_calls == 3
    first = events(tmp_path, "llm")[0]
    assert (first["purpose"], first["model"]) == ("embedding", "feature-hashing")


def test_a_relative_folder_of_runs_will_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(Path("runs/toy"), SEQUENTIAL, 2).charges == 2


# --- answers ------------------------------------------------------------------------------------


class Crowded(ToyEvaluator):
    """Notes how many evaluations are under way at once, at most."""

    now, most = 0, 0

    def evaluate(self, task, candidate):
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return super().evaluate(task, candidate)
        finally:
            self.now -= 1


def test_submissions_that_are_there_at_once_are_evaluated_together_and_answered_by_number(tmp_path):
    script = """
from concurrent.futures import ThreadPoolExecutor
ask('hi')
with ThreadPoolExecutor(6) as pool:
    sources = [f'// score 1.{i}' for i in range(1, 7)]
    verdicts = list(pool.map(run.evaluate, sources))
print(json.dumps([v["score"] for v in verdicts]))
"""
    evaluator = Crowded(seconds=0.2)  # meanwhile the others arrive, if one came first
    run(tmp_path, script, 6, evaluator=evaluator)
    assert json.loads(output(tmp_path)) == [1.1, 1.2, 1.3, 1.4, 1.5, 1.6]
    assert evaluator.most > 1


def test_submit_answers_at_once_and_poll_gives_the_verdict_later(tmp_path):
    script = """
ask('hi')
number = run._call("POST", "/submit", {"candidate": "// score 1.5"})["id"]
seen = [run._call("GET", f"/poll?id={number}")["result"]]
while seen[-1] is None:
    time.sleep(0.01)
    seen.append(run._call("GET", f"/poll?id={number}")["result"])
print(seen[0], seen[-1]["score"], seen[-1]["id"] == number)
"""
    run(tmp_path, script, 1, evaluator=ToyEvaluator(seconds=0.2))
    assert output(tmp_path).split() == ["None", "1.5", "True"]


def test_the_task_tells_everything_a_method_may_know(tmp_path):
    script = "print(json.dumps(run._call('GET', '/task')))\nask('hi')\nrun.finish('seen')\n"
    run(tmp_path, script)
    told = json.loads(output(tmp_path))
    assert told["task"]["prose"] == "Write a number."
    assert told["task"]["workloads"] == ["small", "large"]
    assert told["start"]["candidate"] == "// score 1.0\n"
    assert told["start"]["score"] == 1.0
    assert told["budget"] == {"charges": 0, "charges_left": 6, "total": 6}
    assert (told["seed"], told["model"], told["options"]) == (7, "model", {"pause_seconds": 0.0})
    assert "Answer with the complete program" in told["prompt"]["answer"]


def test_lineage_is_in_the_log_before_the_evaluation_with_the_charge_it_gets(tmp_path):
    script = """
ask('hi')
first = run.evaluate('// score 1.5', lineage={"island": 2, "generation": 4, "operator": "diff"})
kin = {"inspirations": [first["candidate_id"]]}
run.evaluate('// score 1.6', parent=first["candidate_id"], lineage=kin)
run.no_candidate('nothing', parent=first["candidate_id"], lineage={"island": 1})
"""
    run(tmp_path, script, 3)
    first, second, third = records(tmp_path, "lineage")
    assert first == {
        "charge": 1, "candidate": first["candidate"], "parent": None, "island": 2,
        "generation": 4, "operator": "diff", "inspirations": [],
    }  # fmt: skip
    assert (second["charge"], second["parent"]) == (2, first["candidate"])
    assert second["inspirations"] == [first["candidate"]]
    assert (third["candidate"], third["island"], third["charge"]) == (None, 1, 3)
    kinds = [e["kind"] for e in read_events(tmp_path)]
    assert kinds[kinds.index("record") + 1] == "evaluation"


@pytest.mark.parametrize(
    ("verb", "path", "body", "expected"),
    [
        ("POST", "/evaluate", {}, "Send candidate as a text"),
        ("POST", "/evaluate", {"candidate": "x", "parent": "me"}, "parent must be"),
        ("POST", "/evaluate", {"candidate": "x", "lineage": {"age": 1}}, "known are island"),
        ("POST", "/evaluate", {"candidate": "x", "lineage": {"island": "a"}}, "wrong type"),
        ("POST", "/evaluate", {"candidate": "x", "parents": []}, "no field 'parents'; known: cand"),
        ("POST", "/no_candidate", {}, "Send reason as a text"),
        ("POST", "/finish", {"why": "x"}, "no field 'why'; known: reason"),
        ("POST", "/record", {"kind": "x"}, "{kind: one short word, data: an object}"),
        ("POST", "/record", {"kind": "two words", "data": {}}, "one short word"),
        ("POST", "/record", {"kind": "lineage", "data": {}}, "not a program's to write"),
        ("POST", "/record", {"kind": "world_model", "data": {}}, "not a program's to write"),
        ("POST", "/record", {"kind": "population", "data": {"islands": 3}}, "{islands: lists of"),
        ("POST", "/record", {"kind": "migration", "data": {"to": "x"}}, "from: an island or null"),
        ("POST", "/record", {"kind": "summary", "data": {"words": "x"}}, "{text: a text}"),
        ("GET", "/poll?id=" + "9" * 5000, None, "no submission"),
        ("GET", "/poll?id=99", None, "no submission '99'"),
        ("GET", "/nothing", None, "Served: GET /run/task"),
    ],
)
def test_a_wrong_request_is_told_what_was_expected(tmp_path, verb, path, body, expected):
    script = f"""
try:
    run._call({verb!r}, {path!r}, {body!r})
except bridge.BridgeError as error:
    print(error)
ask('hi')
run.finish('')
"""
    run(tmp_path, script)
    assert expected in output(tmp_path)


def test_a_whole_reply_that_is_submitted_is_read_by_the_one_parser(tmp_path):
    script = """
ask('hi')
run.evaluate('Here it is:\\n```cpp\\n// score 1.25\\n```\\nEnjoy.')
run.evaluate('cpp\\n// score 1.5')
run.evaluate('Here it is:\\n```cpp\\n// score 1.75')
"""
    run(tmp_path, script, 3)
    charged = events(tmp_path, "evaluation")[1:]
    assert [e["score"] for e in charged] == [1.25, 1.5, None]
    assert charged[2]["status"] == "NO_CODE"


def test_the_example_in_shell_is_a_method_like_any_other(tmp_path):
    method = load_method("examples.curl_search:method")
    summary = run(tmp_path, "", 5, method=method)
    assert (summary.reason, summary.charges, summary.llm_calls) == ("budget: charges", 5, 5)
    assert "0 charges left" in output(tmp_path)
    assert run(tmp_path / "again", "", 5, method=method) == summary


def test_plain_text_needs_no_json(tmp_path):
    script = """
import http.client
def plain(verb, path, text=None):
    connection = http.client.HTTPConnection("127.0.0.1", run._address.port)
    headers = {"Authorization": "Bearer " + os.environ["HARNESS_TOKEN"]}
    headers["Content-Type" if text is not None else "Accept"] = "text/plain"
    connection.request(verb, "/run" + path, None if text is None else text.encode(), headers)
    return connection.getresponse().read().decode()
told = plain("GET", "/task")
print("Write a number." in told and "// score 1.0" in told and "PASSED: score 1.0" in told)
print("score" in plain("POST", "/complete", "a prompt"))
print(plain("POST", "/evaluate", "// score 1.25"), end="")
print(plain("POST", "/no_candidate", "no idea"), end="")
print(plain("POST", "/submit", "// score 0.1"), end="")
print(plain("POST", "/finish", "done"), end="")
"""
    run(tmp_path, script, 5)
    lines = output(tmp_path).splitlines()
    assert lines[:2] == ["True", "True"]
    assert lines[2].startswith("id=1 charges_left=4 status=PASSED score=1.25 candidate_id=")
    assert lines[3] == "PASSED: score 1.2500"
    assert lines[4] == "id=2 charges_left=3 status=NO_CODE score= candidate_id="
    assert lines[6] == "id=3"
    assert lines[7].startswith("charges_left=")


# --- failures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("ask('hi'); run.evaluate('// score 1.5'); raise SystemExit('no more ideas')",
         "ended (exit status 1) after 1 of 6 charges and 1 LLM calls. Its last words:\nno more"),
        ("print('bye')", "ended (exit status 0) after 0 of 6 charges and 0 LLM calls. Its last"),
        ("os.kill(os.getpid(), 9)", "ended (signal SIGKILL) after 0 of 6"),
        ("while run.charges_left: run.evaluate('// score 1.5')", "never got an answer from the mo"),
    ],
)  # fmt: skip
def test_a_program_that_does_not_do_its_run_fails_it_with_its_last_words(
    tmp_path, script, expected
):
    with pytest.raises(ForeignError) as raised:
        run(tmp_path, script)
    assert expected in str(raised.value)
    assert read_summary(tmp_path).reason.startswith("method raised ForeignError")


def test_a_program_that_hangs_is_ended(tmp_path):
    with pytest.raises(ForeignError, match=r"was silent for 0\.5 s after 1 of 6 charges"):
        run(tmp_path, "ask('hi'); run.evaluate('x'); time.sleep(60)", silent_seconds=0.5)


@pytest.mark.parametrize("chatter", ["run.status()", "run._call('GET', '/task')"])
def test_looking_around_is_no_sign_of_life(tmp_path, chatter):
    script = f"ask('hi')\nwhile True: {chatter}; time.sleep(0.01)\n"
    with pytest.raises(ForeignError, match="was silent"):
        run(tmp_path, script, silent_seconds=0.5)


def test_records_are_limited(tmp_path):
    script = """
ask('hi')
try:
    for number in range(200): run.record('step', {'n': number})
except bridge.BridgeError as error:
    print(number, error)
run.finish('')
"""
    run(tmp_path, script)
    assert output(tmp_path).startswith("100 ")
    assert "Too many records: 101 after 0 charges" in output(tmp_path)


def test_a_record_that_is_too_deep_ends_nobody(tmp_path):
    script = """
ask('hi')
data = {}
for _ in range(960): data = {'a': data}
try:
    run.record('deep', data)
except bridge.BridgeError as error:
    print('refused')
run.finish('')
"""
    assert run(tmp_path, script).reason == "method finished"


@pytest.mark.parametrize("command", [["/bin/true"], ["/bin/sh", "-c", "exit 3"]])
def test_a_program_that_ends_at_once_is_noticed_at_once(tmp_path, command):
    def search(problem):
        yield from drive(problem, ForeignProgram(command))

    for number in range(8):
        began = time.monotonic()
        with pytest.raises(ForeignError, match="ended"):
            run(tmp_path / str(number), "", method=replace(toy_method(search)))
        assert time.monotonic() - began < 5


def test_a_program_that_kills_its_keeper_is_noticed(tmp_path):
    with pytest.raises(ForeignError, match="its keeper ended"):
        run(tmp_path, "os.kill(os.getppid(), 9); time.sleep(60)")


def test_a_user_who_stops_the_run_does_not_wait_for_a_program_that_does_not_ask(tmp_path):
    stop = threading.Event()
    threading.Timer(1.0, stop.set).start()
    began = time.monotonic()
    script = "ask('hi')\nwhile True: run.status(); time.sleep(0.05)\n"
    assert run(tmp_path, script, stop=stop).status == "paused"
    assert time.monotonic() - began < 6


@pytest.mark.parametrize("number", range(4))
def test_a_program_that_goes_on_when_the_endpoint_is_down_holds_nobody_up(tmp_path, number):
    class Down(ToyClient):
        def complete(self, request, occurrence):
            if self.calls >= 2:
                raise EndpointError("the endpoint is down")
            return super().complete(request, occurrence)

    script = """
while True:
    try:
        ask('more')
        run.evaluate('// score 1.5')
    except Exception as error:
        run.no_candidate(str(error))
"""
    began = time.monotonic()
    assert run(tmp_path, script, 50, client=Down()).reason == "the endpoint is down"
    assert time.monotonic() - began < 10
    with machine.quiet():  # nobody holds the machine
        pass


def test_waiting_for_an_evaluation_is_not_silence(tmp_path):
    script = "ask('hi')\nrun.evaluate('// score 1.5')\n"
    slow = ToyEvaluator(seconds=1.5)
    assert run(tmp_path, script, 1, evaluator=slow, silent_seconds=0.5).charges == 1


def test_a_program_that_ignores_the_end_is_killed(tmp_path):
    script = SEQUENTIAL + "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    began = time.monotonic()
    summary = run(tmp_path, script + "time.sleep(60)\n", 1, grace_seconds=0.3)
    assert summary.reason == "budget: charges"
    assert time.monotonic() - began < 8


def test_a_program_that_is_not_there_is_named(tmp_path):
    method = replace(toy_method(foreign("")), search=_missing)
    with pytest.raises(EnvironmentMissing, match=r"/no/such/program: No such file"):
        run(tmp_path, "", method=method)


def _missing(problem):
    yield from drive(problem, ForeignProgram(["/no/such/program"]))


def test_a_flood_of_output_is_kept_at_both_ends_only(tmp_path):
    flood = "print('first')\nfor i in range(60): print('x' * 99_999)\nprint('last')\n"
    run(tmp_path, flood + SEQUENTIAL, 1)
    kept = output(tmp_path)
    assert kept.startswith("first\n")
    assert kept.rstrip().endswith("last")
    assert "bytes left out]" in kept
    assert len(kept) < 1.5 * OUTPUT_BYTES


def test_whatever_a_program_starts_is_gone_when_it_ends(tmp_path):
    script = """
import subprocess
for _ in range(20):
    subprocess.Popen(["sleep", "600"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
"""
    before = set(below(os.getpid()))
    run(tmp_path, script + SEQUENTIAL, 2)
    assert set(below(os.getpid())) <= before


def test_a_program_that_multiplies_is_ended(tmp_path):
    script = """
import subprocess
held = [subprocess.Popen(["sleep", "600"]) for _ in range(1100)]
time.sleep(60)
"""
    with pytest.raises(ForeignError, match="more than 1000 processes"):
        run(tmp_path, script)


def test_a_failing_endpoint_pauses_the_run_and_reaches_no_program(tmp_path):
    class Broken(ToyClient):
        def complete(self, request, occurrence):
            if self.calls == 2:
                raise EndpointError("the endpoint is down")
            return super().complete(request, occurrence)

    summary = run(tmp_path, SEQUENTIAL, client=Broken())
    assert (summary.status, summary.reason) == ("paused", "the endpoint is down")
    assert run(tmp_path, SEQUENTIAL).status == "finished"
    assert essence(tmp_path)[-1].count("budget: charges") == 1


def test_429_and_500_of_the_endpoint_are_retried_and_cost_the_program_nothing(tmp_path):
    answers = [
        error(429), completion(ALWAYS.format(1)), error(500), error(503), completion("no program"),
        completion(ALWAYS.format(2)), error(429), completion(ALWAYS.format(3)),
    ]  # fmt: skip
    with endpoints() as start:
        client = connect(start(*answers).base_url).client
        summary = run(tmp_path, SEQUENTIAL, 5, client=client)
    assert (summary.reason, summary.charges, summary.llm_calls) == ("budget: charges", 5, 5)


# --- surroundings -------------------------------------------------------------------------------


def test_a_program_gets_a_scrubbed_environment_and_folders_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-user")
    monkeypatch.setenv("SOME_SECRET", "hush")
    script = "print(json.dumps([dict(os.environ), os.getcwd(), os.listdir(), sys.path]))\n"
    run(tmp_path, script + SEQUENTIAL, 1)
    environment, folder, content, path = json.loads(output(tmp_path).splitlines()[0])
    assert "hush" not in environment.values()
    assert environment["OPENAI_API_KEY"] == environment["HARNESS_TOKEN"] != "sk-of-the-user"
    assert content == []
    own = str(tmp_path / "workspace" / "1")
    assert all(environment[name].startswith(own) for name in ("HOME", "TMPDIR", "HARNESS_FILES"))
    assert folder.startswith(own)
    assert str(Path(__file__).parents[1]) not in path


def test_the_token_is_in_no_event_and_no_command_line(tmp_path):
    script = """
import glob
lines = []
for path in glob.glob('/proc/[0-9]*/cmdline'):
    try:
        lines.append(open(path, 'rb').read())
    except OSError:
        pass  # another test's process has ended meanwhile
assert any(b"program.py" in line for line in lines)
token = os.environ["HARNESS_TOKEN"]
print(any(token.encode() in line for line in lines), token)
"""
    run(tmp_path, script + SEQUENTIAL, 1)
    seen, token = output(tmp_path).split()
    assert seen == "False"
    assert token not in (tmp_path / "events.jsonl").read_text()


def test_the_guard_of_the_bridge_refuses_everything_but_loopback(tmp_path):
    script = """
import socket
bridge.loopback_only()
for address in (("192.0.2.1", 80), ("example.org", 80)):
    try:
        socket.create_connection(address, timeout=1)
    except PermissionError as error:
        print("refused", address[0])
"""
    run(tmp_path, script + SEQUENTIAL, 1)
    assert {"refused 192.0.2.1", "refused example.org"} <= set(output(tmp_path).splitlines())


def test_a_program_stands_still_while_a_block_is_timed(tmp_path):
    script = """
ask('hi')
beats = open(os.environ["HARNESS_FILES"] + "/beats", "w")
for _ in range(300):
    beats.write(f"{time.time()}\\n"); beats.flush(); time.sleep(0.01)
run.finish('')
"""
    beats = tmp_path / "workspace" / "1" / "files" / "beats"
    thread = threading.Thread(target=run, args=(tmp_path, script))
    thread.start()
    while not beats.exists() or len(beats.read_text().split()) < 5:
        time.sleep(0.01)
    with machine.quiet():
        time.sleep(0.02)  # a stop is a signal: it takes effect when the program next runs
        began = time.time()
        time.sleep(0.5)
        ended = time.time()
    thread.join()
    moments = [float(line) for line in beats.read_text().split()]
    assert not [moment for moment in moments if began < moment < ended]
    assert [moment for moment in moments if moment > ended]


def test_a_program_gets_its_share_where_blocks_follow_each_other(tmp_path):
    done = threading.Event()

    def time_blocks() -> None:
        while not done.is_set():
            with machine.quiet():
                time.sleep(0.05)

    timers = [threading.Thread(target=time_blocks) for _ in range(2)]
    for timer in timers:
        timer.start()
    try:
        summary = run(tmp_path, SEQUENTIAL, 3, silent_seconds=2.0)
    finally:
        done.set()
        for timer in timers:
            timer.join()
    assert summary.charges == 3


def test_a_machine_lock_that_cannot_be_had_for_a_while_disturbs_nothing_later(
    tmp_path, monkeypatch
):
    failed = []
    wanted = machine.wanted

    def failing() -> bool:
        if not failed:
            failed.append(1)
            raise OSError(24, "Too many open files")
        return wanted()

    monkeypatch.setattr(machine, "wanted", failing)
    run(tmp_path / "one", SEQUENTIAL, 2)
    assert failed
    test_a_program_stands_still_while_a_block_is_timed(tmp_path / "two")


# --- resume -------------------------------------------------------------------------------------


def test_a_run_cut_after_any_event_is_continued_to_the_same_events(tmp_path):
    whole = tmp_path / "whole"
    run(whole, SEQUENTIAL, 4)
    lines = (whole / "events.jsonl").read_bytes().splitlines(keepends=True)
    for count in range(1, len(lines), 2):
        copy = tmp_path / f"cut-{count}"
        subprocess.run(["cp", "-r", whole, copy], check=True)
        (copy / "events.jsonl").write_bytes(b"".join(lines[:count]))
        client = ToyClient()
        assert run(copy, SEQUENTIAL, 4, client=client).charges == 4
        assert essence(copy) == essence(whole), count
        recorded = sum(b'"kind":"llm"' in line for line in lines[:count])
        assert client.calls == 4 - recorded


def test_a_finished_run_is_explained_by_its_log(tmp_path):
    run(tmp_path, SEQUENTIAL, 4)
    report = replay_run(spec(tmp_path, SEQUENTIAL, 4))
    assert report.explained, report.message
    assert not (tmp_path / "workspace" / "2").exists()


def test_a_program_that_does_something_else_does_not_replay(tmp_path):
    run(tmp_path, SEQUENTIAL, 4)
    other = SEQUENTIAL.replace("after {best}", "following {best}")
    assert "differs" in replay_run(spec(tmp_path, other, 4)).message


def test_a_method_whose_seed_is_a_label_starts_over_and_keeps_the_attempt(tmp_path):
    method = replace(toy_method(foreign(SEQUENTIAL)), replicates=lambda options: "it is random")
    stop = threading.Event()

    class Stopping(ToyEvaluator):
        def evaluate(self, task, candidate):
            if len(self.evaluated) == 2:
                stop.set()
            return super().evaluate(task, candidate)

    paused = run(tmp_path, SEQUENTIAL, 6, method=method, evaluator=Stopping(), stop=stop)
    assert paused.status == "paused"
    client = ToyClient()
    assert run(tmp_path, SEQUENTIAL, 6, method=method, client=client).charges == 6
    assert client.calls == 6
    (kept,) = abandoned_attempts(tmp_path)
    assert sum(e["kind"] == "llm" for e in read_events(kept)) >= 3


def test_kill_9_of_the_harness_leaves_no_process_of_the_program(tmp_path):
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]\n"
        "import pathlib, foreign_programs\n"
        "import toy_run\n"
        "script = 'import subprocess\\n"
        'subprocess.Popen(["sleep", "7654"], start_new_session=True)\\n\''
        " + foreign_programs.SEQUENTIAL\n"
        "slow = toy_run.ToyClient(seconds_per_call=0.2)\n"
        "foreign_programs.run(pathlib.Path(sys.argv[3]), script, 500, client=slow)\n"
    )
    root = Path(__file__).parents[1]
    arguments = [sys.executable, "-c", code, str(root), str(root / "tests"), str(tmp_path)]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = tmp_path / "events.jsonl"
    while not log.exists() or log.read_bytes().count(b'"kind":"llm"') < 3:
        assert process.poll() is None
        time.sleep(0.02)
    running = below(process.pid)
    assert len(running) >= 3
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 2
    while left := [pid for pid in running if _alive(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def test_sixteen_programs_at_once_share_one_evaluator_and_end_correctly(tmp_path):
    evaluator = ToyEvaluator(seconds=0.002)
    summaries: dict[int, object] = {}

    def one(number: int) -> None:
        client = ToyClient(seconds_per_call=0.002)
        folder = tmp_path / str(number)
        summaries[number] = run(folder, SEQUENTIAL, 10, client=client, evaluator=evaluator)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [summaries[n].charges for n in range(16)] == [10] * 16
    assert len({tuple(essence(tmp_path / str(n))) for n in range(16)}) == 1

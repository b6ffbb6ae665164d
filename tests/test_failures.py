"""What can go wrong around a comparison, end to end: a clear error or a pause, and nothing lost.

Every command runs with the real evaluator (its answers come from the filled cache). A traceback on
the screen, or the sentence that owns up to a defect of the harness, fails any of these tests.

Covered: disks, folders, compilers, endpoints and keys, damaged logs, wrong names and requests.
Not covered: kills (test_kill.py), failures of the evaluator's own processes (test_evaluator.py).
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from real_comparison import (
    ROOT,
    RUNS,
    environment,
    essence,
    filled_cache,
    harness,
    request,
    tables,
    undisturbed,
)

from harness import cli
from harness.folder import locked
from harness.llm.gateway import Access, Gateway
from harness.llm.models import load_models
from harness.llm.simulated import SimulatedModel
from harness.llm.simulated_knobs import Knobs
from harness.runlog import read_text
from harness.suite import load_suite
from harness.types import content_hash

KEY_VARIABLE = "LOOPBACK_KEY"
QUIET = {"OPENAI_API_KEY": "", "GEMINI_API_KEY": ""}


@pytest.fixture(autouse=True)
def _in_a_fresh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No models.toml and no keys of whoever runs the tests; toy plugins can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "tests"))
    for name in QUIET:
        monkeypatch.delenv(name, raising=False)


def plain(text: str) -> str:
    """What was printed, which must be no traceback, with its line breaks taken out."""
    assert "Traceback" not in text, text
    assert "defect of the harness" not in text, text
    return " ".join(text.split())


def run(*arguments: str) -> tuple[int, str]:
    """(exit status, what was printed) of the console script, in this process."""
    before, sys.argv = sys.argv, ["harness", *arguments]
    shown = io.StringIO()
    try:
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
            cli.main()
    except SystemExit as ended:
        return int(ended.code or 0), plain(shown.getvalue())
    finally:
        sys.argv = before
    return 0, plain(shown.getvalue())


def compare(*more: str, runs: str = "runs") -> tuple[int, str]:
    """The small comparison, with further arguments."""
    return run(*request(filled_cache()), "--runs", runs, *more)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A copy of the finished small comparison."""
    return Path(shutil.copytree(undisturbed(), tmp_path / "finished"))


def one_run(runs: Path, arm: str = "best_of_n", seed: int = 0) -> Path:
    return runs / "runs" / "matmul" / arm / f"seed-{seed}"


# --- disks, folders, compilers --------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


@pytest.mark.parametrize("size", ["150k", pytest.param("450k", marks=pytest.mark.thorough)])
def test_a_full_disk_pauses_and_with_more_space_everything_continues(
    tmp_path: Path, size: str
) -> None:
    with small_disk(tmp_path / "disk", size) as disk:
        status, text = compare(runs=str(disk / "runs"))
        assert status in (1, 3)
        assert "No space left on device" in text
        remount(disk, "size=50m")
        begun = (disk / "runs" / "comparison.json").exists()
        again = run("resume", str(disk / "runs")) if begun else compare(runs=str(disk / "runs"))
        assert again[0] == 0
        assert tables(disk / "runs") == tables(undisturbed())
        assert essence(disk / "runs") == essence(undisturbed())


def test_a_full_disk_below_the_cache_pauses_the_runs(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "16k") as disk:
        arguments = request(disk / "cache", "best_of_n", "1", "1")
        status, text = run(*arguments, "--runs", "runs")
        assert status == 3
        assert "evaluation cache: No space left on device" in text
        assert not list(disk.rglob("tmp*")), "half-written files stay"


def test_a_limit_on_file_sizes_is_told_like_a_full_disk(tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "harness", *request(filled_cache()), "--runs", "runs"]
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 4; exec "$@"', "-", *arguments],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "comparison.json: File too large" in plain(done.stdout + done.stderr)
    assert compare()[0] == 0
    assert tables(tmp_path / "runs") == tables(undisturbed())


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, text = compare(runs="file/runs")
    assert status == 1
    assert "Cannot write into file/runs" in text
    assert "--runs" in text


def test_a_disk_that_is_read_only_is_named(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        remount(disk, "ro")
        status, text = compare(runs=str(disk / "runs"))
        assert status == 1
        assert "Read-only file system" in text


def test_a_missing_compiler_is_named_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    status, text = harness(
        *request(filled_cache()), "--runs", str(tmp_path / "runs"),
        changes={"PATH": str(tmp_path / "bin")},
    )  # fmt: skip
    assert status == 1
    assert "No C++ compiler was found. Install g++" in plain(text)
    assert not (tmp_path / "runs" / "runs").exists()


# --- endpoints ------------------------------------------------------------------------------------


@dataclass
class Front:
    """A loopback endpoint before a gateway: it answers by `failures` first, one each, then
    forwards. Where `down` is set, it answers nothing else."""

    access: Access
    failures: list[tuple[int, str]] = field(default_factory=list)
    down: tuple[int, str] | None = None
    asked: int = 0
    keys: set[str] = field(default_factory=set)

    def answer(self, path: str, body: bytes, authorization: str) -> tuple[int, bytes]:
        self.asked += 1
        self.keys.add(authorization)
        if self.down or self.failures:
            status, code = self.down or self.failures.pop(0)
            error = {"message": f"the script says {code}", "code": code, "type": code}
            return status, json.dumps({"error": error}).encode()
        headers = {"Authorization": authorization, "Content-Type": "application/json"}
        url = self.access.base_url.removesuffix("/v1") + path
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


@pytest.fixture
def front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    """The simulated model as a live endpoint, in models.toml as `loopback`, with its key set.

    Behind the gateway it is asked by the name and sampling that the simulated comparison uses, so
    that seed 0 of best_of_n gets the same answers.
    """
    settings = load_models()["simulated"]
    spaces = {s.name: s for task in load_suite("cpu").tasks if (s := task.design_space)}
    with Gateway() as gateway:
        model = SimulatedModel(Knobs.from_mapping(settings.knobs), spaces)
        sampling = settings.request_sampling() | {"seed": 0}
        made = Front(gateway.grant(model, model="simulated", sampling=sampling))
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(made))
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        (tmp_path / "my_models.toml").write_text(
            f"""
            [[model]]
            name = "loopback"
            model = "simulated"
            base_url = "http://127.0.0.1:{server.server_port}/v1"
            key_variable = "{KEY_VARIABLE}"
            retries = 1
            prices = {{ input_dollars_per_million = 1.0, output_dollars_per_million = 2.0, \
date = 2026-01-31, source = "this test" }}
            """
        )
        monkeypatch.setenv(KEY_VARIABLE, made.access.token)
        yield made
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(front: Front) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, content = front.answer(self.path, body, self.headers["Authorization"])
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    return Handler


def live(*more: str) -> tuple[int, str]:
    """The comparison of best_of_n with the endpoint, one seed."""
    arguments = request(filled_cache(), "best_of_n", "1")
    return run(
        *arguments, "--llm", "live", "--model", "loopback", "--models", "my_models.toml",
        "--runs", "runs", *more,
    )  # fmt: skip


def programs(runs: Path) -> list[object]:
    """The candidates of seed 0 of best_of_n, in order."""
    (found,) = (e for name, e in essence(runs).items() if name.endswith("best_of_n/seed-0"))
    return [event["candidate"] for event in found if event["kind"] == "evaluation"]


def test_a_live_comparison_through_the_openai_package_ends_with_a_report(
    front: Front, tmp_path: Path
) -> None:
    status, text = live()
    assert status == 0
    assert "Estimate before the start" in text
    runs = tmp_path / "runs"
    assert programs(runs) == programs(undisturbed())
    assert front.asked == 2
    assert json.loads((runs / "comparison.json").read_text())["llm"]["level"] == "live"
    (cost,) = csv.DictReader(tables(runs)["cost.csv"].decode().splitlines())
    assert float(cost["dollars"]) > 0
    assert run("replay", "runs")[0] == 0
    kept = b"".join(p.read_bytes() for p in runs.rglob("*") if p.is_file() and p.suffix != ".gz")
    kept += b"".join(gzip.decompress(p.read_bytes()) for p in runs.rglob("*.gz"))
    assert front.access.token.encode() not in kept


def test_a_comparison_is_a_recording_of_its_live_model(front: Front, tmp_path: Path) -> None:
    assert live()[0] == 0
    front.down = (500, "down")
    arguments = request(filled_cache(), "best_of_n", "1")
    models = ("--model", "loopback", "--models", "my_models.toml")
    assert run(*arguments, "--llm", "replay:runs", *models, "--runs", "again")[0] == 0
    assert programs(tmp_path / "again") == programs(tmp_path / "runs")
    assert front.asked == 2


def test_a_429_is_retried_and_charged_once(front: Front, tmp_path: Path) -> None:
    front.failures = [(429, "rate_limit_exceeded")]
    assert live()[0] == 0
    assert programs(tmp_path / "runs") == programs(undisturbed())
    assert front.asked == 3


@pytest.mark.parametrize(
    ("down", "words"),
    [
        ((500, "server_error"), "answered HTTP 500: the script says server_error. Attempt 2 of 2"),
        ((429, "insufficient_quota"), "the account has no quota left (HTTP 429)"),
        ((401, "invalid_api_key"), f"does not accept the key in {KEY_VARIABLE} (HTTP 401)"),
    ],
)
def test_an_endpoint_that_fails_pauses_the_run_and_resume_finishes_it(
    front: Front, tmp_path: Path, down: tuple[int, str], words: str
) -> None:
    front.down = down
    status, text = live()
    assert status == 3
    assert words in text
    assert "0 of 1 runs finished, 1 paused, 0 failed" in text
    assert front.access.token not in text
    front.down = None
    assert run("resume", "runs")[0] == 0
    assert programs(tmp_path / "runs") == programs(undisturbed())


def test_an_endpoint_that_nobody_serves_pauses_the_run(front: Front, tmp_path: Path) -> None:
    models = tmp_path / "my_models.toml"
    text = models.read_text()
    port = text.partition("127.0.0.1:")[2].partition("/")[0]
    models.write_text(text.replace(port, "9").replace("retries = 1", "retries = 0"))
    status, text = live()
    assert status == 3
    assert "could not be reached" in text
    models.write_text(models.read_text().replace("127.0.0.1:9/", f"127.0.0.1:{port}/"))
    assert run("resume", "runs")[0] == 0


def test_a_resume_without_the_key_asks_for_it(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    front.down = (500, "server_error")
    assert live()[0] == 3
    monkeypatch.delenv(KEY_VARIABLE)
    status, text = run("resume", "runs")
    assert status == 2
    assert f"needs the key in the variable {KEY_VARIABLE}" in text


def test_a_budget_in_dollars_ends_a_live_run(front: Front, tmp_path: Path) -> None:
    status, text = live("--budget", "charges=2,dollars=0.000001")
    assert status == 0, text
    assert front.asked == 1
    (found,) = essence(tmp_path / "runs").values()
    assert found[-1]["reason"] == "budget: dollars"


# --- requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--suite", "cpuu"], "Unknown suite 'cpuu'. Did you mean 'cpu'?"),
        (["--suite", "nowhere:suite"], "there is no module 'nowhere'"),
        (["--tasks", "matmull"], "Did you mean 'matmul'?"),
        (["--methods", "best_of_m"], "Unknown method 'best_of_m'. Did you mean 'best_of_n'?"),
        (["--methods", "ksearch@uctt"], "Did you mean 'uct'?"),
        (["--methods", "ksearch[kk=1]"], "Did you mean 'k'?"),
        (["--methods", "ksearch[k=many]"], "Option k of ksearch"),
        (["--methods", "ksearch[k=1"], "Cannot read the arm 'ksearch[k=1'"),
        (["--methods", "best_of_n best_of_n"], "best_of_n"),
        (["--methods", "best_of_n+simulatd"], "Did you mean 'simulated'?"),
        (["--model", "simulatd"], "Unknown model 'simulatd'. Did you mean 'simulated'?"),
        (["--language", "cppp"], "Did you mean 'cpp'?"),
        (["--llm", "liv"], "Did you mean 'live'?"),
        (["--evaluator", "locall"], "Cannot read the evaluator 'locall'"),
        (["--seeds", "x"], "Cannot read the seeds 'x'"),
        (["--budget", "charge=3"], "Did you mean 'charges'?"),
        (["--budget", "0"], "charges must be a whole number of at least 1"),
        (["--models", "nowhere.toml"], "Cannot read the models file nowhere.toml"),
        (["--suite", "toy_suite:suite", "--tasks", ""], "type --llm simulated (LLM=simulated)"),
        (
            ["--suite", "toy_suite:suite", "--tasks", "", "--model", "gpt-5.2"],
            "needs the key in the variable OPENAI_API_KEY, which is not set. Set it (export "
            "OPENAI_API_KEY=...), or type --llm simulated (LLM=simulated)",
        ),
        (["--model", "gpt-5.2"], "needs the key in the variable OPENAI_API_KEY"),
    ],
)
def test_a_wrong_request_is_told_before_anything_is_written(
    tmp_path: Path, arguments: Sequence[str], words: str
) -> None:
    status, text = compare(*arguments)
    assert status == 2
    assert words in text
    assert not (tmp_path / "runs").exists()


def test_a_budget_in_dollars_needs_known_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "unused")
    status, text = compare("--model", "gpt-5.2", "--budget", "charges=2,dollars=5", "--yes")
    assert status == 2
    assert "the price of model 'gpt-5.2' is unknown" in text


def test_a_folder_of_another_request_is_refused_and_stays_as_it_was(finished: Path) -> None:
    before = essence(finished)
    status, text = compare("--budget", "3", runs=str(finished))
    assert status == 2
    assert "holds another comparison (budget:" in text
    assert essence(finished) == before


def test_a_second_harness_in_one_folder_is_refused(finished: Path) -> None:
    with locked(finished):
        for arguments in (["resume", str(finished)], [*request(filled_cache()), "--runs",
                                                      str(finished)]):  # fmt: skip
            status, text = run(*arguments)
            assert status == 1
            assert "Another process works in" in text


@pytest.mark.parametrize("command", ["report", "resume", "replay", "show"])
def test_a_folder_that_is_no_comparison_is_told(tmp_path: Path, command: str) -> None:
    status, text = run(command, str(tmp_path))
    assert status == 1
    assert str(tmp_path) in text


def test_resume_of_a_finished_comparison_changes_nothing(finished: Path) -> None:
    logs = sorted(finished.glob("runs/*/*/*/events.jsonl"))
    before = [path.read_bytes() for path in logs]
    assert run("resume", str(finished))[0] == 0
    assert [path.read_bytes() for path in logs] == before
    assert tables(finished) == tables(undisturbed())


def test_a_method_that_raises_fails_alone(tmp_path: Path) -> None:
    status, text = compare("--methods", "toy_methods:raising best_of_n", "--seeds", "1")
    assert status == 3
    assert "ZeroDivisionError: the method has a defect (traceback: " in text
    assert "1 of 2 runs finished, 0 paused, 1 failed" in text
    assert programs(tmp_path / "runs") == programs(undisturbed())
    assert (tmp_path / "runs" / "report" / "index.html").exists()


# --- damaged logs ---------------------------------------------------------------------------------


def test_a_torn_last_line_is_dropped_and_the_run_continues(finished: Path) -> None:
    log = one_run(finished, "ksearch_k=1_", 1) / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-3]) + lines[-3][:40])
    assert run("resume", str(finished))[0] == 0
    assert tables(finished) == tables(undisturbed())
    assert essence(finished) == essence(undisturbed())


@pytest.mark.thorough
def test_a_damaged_line_is_named_and_restart_begins_that_run_anew(finished: Path) -> None:
    folder = one_run(finished)
    log = folder / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    lines[2] = b'{"i":2,"kind":' + b"\n"
    log.write_bytes(b"".join(lines))
    status, text = run("resume", str(finished))
    assert status in (1, 3)
    assert f"{log}, line 3, is damaged" in text
    assert "--restart" in text
    assert log.read_bytes() == b"".join(lines)
    assert run("resume", str(finished), "--restart")[0] == 0
    assert essence(finished) == essence(undisturbed())
    assert (folder / "attempts" / "1" / "events.jsonl").read_bytes() == b"".join(lines)


def test_replay_says_that_the_logs_explain_a_finished_comparison(finished: Path) -> None:
    status, text = run("replay", str(finished))
    assert status == 0
    assert f"{RUNS} of {RUNS} runs are explained by their logs." in text


def alter_a_reply(folder: Path, *, rename: bool) -> None:
    """Change the first reply of a run by hand; rename: under the name of its new content, too."""
    log = folder / "events.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines()]
    name = next(event["reply"] for event in events if event["kind"] == "llm")
    text = read_text(folder, name).replace("int", "long")
    new = content_hash(text.encode()) if rename else name
    path = folder / "blobs" / new[:2] / f"{new}.gz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()))
    log.write_text(log.read_text().replace(f'"reply":"{name}"', f'"reply":"{new}"'))


@pytest.mark.parametrize("rename", [False, True])
def test_replay_says_which_run_an_altered_reply_does_not_explain(
    finished: Path, rename: bool
) -> None:
    altered = one_run(finished)
    alter_a_reply(altered, rename=rename)
    status, text = run("replay", str(finished))
    assert status == 1
    assert f"{RUNS - 1} of {RUNS} runs are explained by their logs." in text
    assert f"{one_run(finished, seed=1)}: The log explains the run" in text
    line = text.partition(f"{altered}: ")[2]
    assert line.startswith(("The blob", str(altered)))

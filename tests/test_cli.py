"""The command line: exit statuses, messages on the right stream, its page, how fast it starts."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_evaluator import ToyEvaluator, maker
from typer.testing import CliRunner

from harness import cli, cli_docs
from harness.compare import compare
from harness.config import ComparisonRequest
from harness.environment import fingerprint, git_state, packages
from harness.errors import EnvironmentMissing
from harness.interchange.solution import read_solution
from harness.requirements import missing

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = [
    "compare",
    "resume",
    "report",
    "replay",
    "evaluate",
    "list",
    "show",
    "doctor",
    "prepare",
    "reproduce",
    "import",
    "export",
]


def harness(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    request = ComparisonRequest(tasks="softmax", methods="best_of_n", seeds="1", budget="2")
    assert compare(request, folder, make_evaluator=maker(ToyEvaluator())) == 0
    return folder


def main(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit status of the console script in this process."""
    monkeypatch.setattr(sys, "argv", ["harness", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_examples(command: str) -> None:
    result = CliRunner().invoke(cli.app, [command, "--help"])
    assert result.exit_code == 0
    assert "Examples:" in result.output
    assert f"harness {command}" in result.output


def test_the_page_of_the_command_line_is_current() -> None:
    written = cli_docs.PAGE.read_text(encoding="utf-8")
    assert written == cli_docs.page(), "run: python -m harness.cli_docs"


def test_help_starts_without_torch_pandas_or_openai() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from harness.cli import app; "
        "CliRunner().invoke(app, ['--help']); "
        "print([m for m in ('torch', 'pandas', 'openai', 'numpy', 'rich') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_help_appears_within_half_a_second() -> None:
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        assert harness("--help").returncode == 0
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.5


def test_a_wrong_request_is_one_line_on_standard_error_and_status_2(tmp_path: Path) -> None:
    result = harness("compare", "--tasks", "matmull", "--runs", str(tmp_path / "runs"))
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: Unknown task of suite cpu 'matmull'. Did you mean")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_holds_no_comparison_is_an_error_with_status_1(tmp_path: Path) -> None:
    result = harness("resume", str(tmp_path))
    assert result.returncode == 1
    assert "it has no comparison.json" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unexpected_error_shows_no_traceback_and_says_where_it_was_saved(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(cli, "app", broken)
    assert main([], monkeypatch) == 1
    shown = capsys.readouterr().err
    assert "Traceback (most recent" not in shown
    path = Path(shown.split("The traceback is in ")[1].split(";")[0])
    assert "RuntimeError: a defect" in path.read_text()
    path.unlink()


def test_report_prints_the_path_of_the_page(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(finished)], monkeypatch) == 0
    assert capsys.readouterr().out.strip() == f"Report: {finished / 'report' / 'index.html'}"


def test_replay_says_that_the_logs_explain_the_runs(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(finished)], monkeypatch) == 0
    assert "1 of 1 runs are explained by their logs." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "best_of_n, seed 0: finished (budget: charges)"),
        (["--charge", "0"], "charge 0, candidate "),
        (["--best"], "PASSED: score"),
        (["--call", "1"], "=== reply (stop) ==="),
    ],
)
def test_show_shows_a_run_a_candidate_and_a_prompt(
    finished: Path,
    arguments: list[str],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = finished / "runs/softmax/best_of_n/seed-0"
    assert main(["show", str(run), *arguments], monkeypatch) == 0
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--charge", "0"], []])
def test_export_writes_a_candidate_that_can_be_imported_again(
    finished: Path,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, file = finished / "runs/softmax/best_of_n/seed-0", tmp_path / "solution.json"
    assert main(["export", str(run), "--out", str(file), *arguments], monkeypatch) == 0
    assert str(file) in capsys.readouterr().out
    solution = read_solution(file)
    assert solution.author == "best_of_n"
    out = tmp_path / "out"
    assert main(["import", str(file), "--suite", "cpu", "--out", str(out)], monkeypatch) == 0
    assert [path.suffix for path in out.iterdir()] == [".cpp"]
    assert "--task softmax --suite cpu --language cpp" in capsys.readouterr().out


def test_export_of_a_charge_that_there_is_not_lists_those_there_are(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished / "runs/softmax/best_of_n/seed-0"
    assert main(["export", str(run), "--out", "x.json", "--charge", "77"], monkeypatch) == 2
    assert "Available: 0" in capsys.readouterr().err


def test_show_of_a_run_that_never_began_says_where_the_reason_is(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(finished / "runs/softmax/best_of_n/seed-7")], monkeypatch) == 1
    assert "unstarted.json" in capsys.readouterr().err


def test_show_of_a_call_that_there_is_not_lists_those_there_are(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished / "runs/softmax/best_of_n/seed-0"
    assert main(["show", str(run), "--call", "9"], monkeypatch) == 2
    assert "Available: 1, 2." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("suites", "cpu"),
        ("tasks", "gqa_paged_decode"),
        ("methods", "variants @no-world-model"),
        ("models", "key in OPENAI_API_KEY"),
    ],
)
def test_list_names_what_there_is(
    what: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["list", what], monkeypatch) == 0
    assert expected in capsys.readouterr().out


def test_the_fingerprint_names_the_machine_and_no_person() -> None:
    machine = fingerprint()
    assert machine["cores"] >= 1
    assert machine["torch"].startswith("2.")
    assert set(machine) == {
        "system", "architecture", "kernel", "cpu", "cpu_flags", "cores", "memory_gib", "gpus",
        "compiler", "python", "torch", "triton", "numpy",
    }  # fmt: skip
    assert packages()["numpy"] == machine["numpy"]


def test_a_folder_outside_a_checkout_has_no_commit(tmp_path: Path) -> None:
    assert git_state(tmp_path) == {"commit": None, "dirty": None}


def test_what_an_interpreter_lacks_is_listed_with_the_version_needed() -> None:
    lines = missing(["numpy>=1.26", "numpy>=99,<100", "no-such-package>=1"])
    assert lines[0].endswith(">=99,<100 needed")
    assert lines[1] == "no-such-package: not installed, >=1 needed"
    assert len(lines) == 2


def test_a_folder_that_cannot_be_made_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    request = ComparisonRequest(tasks="softmax", methods="best_of_n", seeds="1", budget="1")
    with pytest.raises(EnvironmentMissing, match="choose another folder with --runs"):
        compare(request, tmp_path / "file" / "runs", make_evaluator=maker(ToyEvaluator()))


def test_a_requirement_of_another_system_is_not_missing() -> None:
    assert missing(["no-such-package>=1; platform_system == 'Windows'"]) == []
    here = f"no-such-package>=1; platform_system == '{platform.system()}'"
    assert missing([here]) == ["no-such-package: not installed, >=1 needed"]
    with pytest.raises(ValueError, match="not a marker"):
        missing(["no-such-package; os_name == 'nt'"])

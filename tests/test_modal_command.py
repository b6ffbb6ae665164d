"""The commands about Modal, the image's pin, and a smoke test against Modal itself."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fake_modal import FakeModal, refusal
from modal_service import evaluator, service
from toy_container import ToyContainer
from typer.testing import CliRunner

from harness.cli import app as command_line
from harness.errors import EnvironmentMissing, LogError
from harness.evaluate.modal import pins
from harness.types import Candidate

TOKEN = os.environ.get("MODAL_TOKEN_ID")  # before any test sets its own
DIGEST = "sha256:" + "ab" * 32


def harness(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(command_line, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture(autouse=True)
def own_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def registry() -> Iterator[str]:
    """A registry on loopback that knows the tag's digest."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b'{"token": "t"}')

        def do_HEAD(self) -> None:
            known = self.path == f"/v2/{pins.REPOSITORY}/manifests/{pins.TAG}"
            allowed = self.headers["Authorization"] == "Bearer t"
            self._answer(b"", {"Docker-Content-Digest": DIGEST} if known and allowed else {})

        def _answer(self, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(200)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def base_of(fake: FakeModal) -> list[str]:
    return [
        command
        for request in fake.requests["ImageGetOrCreate"]
        for command in request.image.dockerfile_commands
        if command.startswith("FROM nvidia")
    ]


def test_an_image_is_made_by_tag_until_its_digest_was_recorded(registry: str) -> None:
    assert pins.image_facts(pins.reference(), on_gpu=False)["digest"] == "unpinned"
    assert pins.pin(tokens=f"{registry}/token", registry=registry) == DIGEST
    with service(ToyContainer()) as fake:
        assert base_of(fake) == [f"FROM nvidia/cuda@{DIGEST}"]
    assert pins.image_facts(pins.reference(), on_gpu=False)["digest"] == DIGEST


def test_a_registry_that_does_not_answer_records_nothing() -> None:
    with pytest.raises(EnvironmentMissing, match="unpinned until then"):
        pins.pin(tokens="http://127.0.0.1:9/token", registry="http://127.0.0.1:9")
    assert pins.pinned_digest() is None


def test_a_damaged_pin_is_named() -> None:
    pins.pins_path().parent.mkdir(parents=True)
    pins.pins_path().write_text(f'{{"{pins.REPOSITORY}:{pins.TAG}": {{"digest": "latest"}}}}')
    with pytest.raises(LogError, match="pin again"):
        pins.reference()


def test_deploy_and_status_tell_what_is_there() -> None:
    with service(ToyContainer(), deployed=False) as fake:
        code, shown = harness("modal", "status")
        assert (code, "harness modal deploy" in shown) == (1, True)
        assert harness("modal", "deploy", "--containers", "8")[0] == 0
        caps = {
            r.function.autoscaler_settings.max_containers for r in fake.requests["FunctionCreate"]
        }
        assert caps == {8}
        code, shown = harness("modal", "status")
        assert code == 0, shown
        assert "the same on both sides" in shown
        fake.run = lambda request: refusal("version", "the app is of version 0.0.9")
        code, shown = harness("modal", "status")
        assert (code, "0.0.9" in shown) == (1, True)


def test_cost_sums_what_was_called(tmp_path: Path) -> None:
    with service(ToyContainer()) as fake:
        judge = evaluator(tmp_path)
        fake.faults = {2: "timeout"}
        judge.evaluate("softmax", Candidate("cpp", "// one"))
    code, shown = harness("modal", "cost", str(tmp_path))
    assert code == 0
    assert "evaluate_cpu      3 calls, 1 lost, 0 open" in shown


def test_cost_without_a_folder_shows_prices_with_their_sources() -> None:
    code, shown = harness("modal", "cost")
    assert code == 0
    assert "read 2026-05-07 at https://" in shown


def test_without_the_package_the_user_is_told_to_install_it(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['modal'] = None\n"
        "from harness.cli import main\n"
        "sys.argv[0] = 'harness'\nmain()"
    )
    arguments = ["compare", "--evaluator", "modal", "--methods", "best_of_n", "--yes"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments, "--runs", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 1
    assert "pip install -e '.[modal]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(TOKEN is None, reason="no MODAL_TOKEN_ID: nothing is asked of Modal itself")
def test_live_a_program_is_judged_in_a_cpu_container_of_modal(tmp_path: Path) -> None:
    """Needs `harness modal deploy`; costs less than a cent."""
    from harness.suite import load_suite

    start = load_suite("cpu").task("softmax").start("cpp")
    assert evaluator(tmp_path).evaluate("softmax", Candidate("cpp", start)).passed

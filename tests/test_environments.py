"""Environments of foreign packages: made once, from exactly the locked files, or with a reason."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import EnvironmentMissing
from harness.foreign import environments
from harness.foreign.environments import PythonEnvironment
from harness.method import METHODS, load_method


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder of wheels that is all that pip may use, and a cache of this test's own."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT", "HARNESS_WHEELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return folder


def wheel(
    folder: Path,
    name: str = "toypackage",
    content: str = "ANSWER = 42\n",
    version: str = "1.0",
    tag: str = "py3-none-any",
) -> str:
    """Write a wheel; returns its line in a lock."""
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", content)
        about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        archive.writestr(f"{info}/METADATA", about)
        kind = f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n"
        archive.writestr(f"{info}/WHEEL", kind)
        archive.writestr(f"{info}/RECORD", "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{name}=={version} \\\n    --hash=sha256:{digest}\n"


def environment(tmp_path: Path, text: str, name: str = "toy-1.0") -> PythonEnvironment:
    lock = tmp_path / "requirements.lock"
    lock.write_text(text)
    return PythonEnvironment(name, lock, 1)


def test_an_environment_is_made_once_with_progress_and_then_found(index, tmp_path):
    made = environment(tmp_path, wheel(index))
    with pytest.raises(EnvironmentMissing, match="harness prepare"):
        made.python()
    said: list[str] = []
    made.make(said.append, threading.Event())
    assert said[0].startswith("Installing toy-1.0 into an environment of its own, once: 1 packages")
    assert said[-1] == "toy-1.0 is installed."
    code = "import toypackage; print(toypackage.ANSWER)"
    shown = subprocess.run([made.python(), "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "42\n"
    made.make(pytest.fail, threading.Event())


@pytest.mark.parametrize("carried_wheels", [False, True])
def test_bytecode_is_there_but_for_a_file_that_does_not_compile(
    index, monkeypatch, tmp_path, carried_wheels
):
    if carried_wheels:
        monkeypatch.setenv("HARNESS_WHEELS", str(index))
    made = environment(tmp_path, wheel(index) + wheel(index, "not_python", "1 +\n"), TOY)
    make(made)
    compiled = {path.name.partition(".")[0] for path in made.folder.rglob("*.pyc")}
    assert "toypackage" in compiled
    assert "not_python" not in compiled
    assert list(made.folder.rglob("not_python.py"))


def test_another_lock_is_another_environment(index, tmp_path):
    line = wheel(index)
    one, two = environment(tmp_path, line).folder, environment(tmp_path, "# x\n" + line).folder
    assert one != two


def test_a_file_with_another_hash_is_not_installed(index, tmp_path):
    made = environment(tmp_path, wheel(index))
    wheel(index, content="ANSWER = 43\n")
    with pytest.raises(EnvironmentMissing, match=r"HASHES|hash"):
        made.make(lambda line: None, threading.Event())
    assert not made.ready


def test_nothing_is_installed_that_the_lock_does_not_name(index, tmp_path):
    made = environment(tmp_path, wheel(index))
    made.make(lambda line: None, threading.Event())
    listed = subprocess.run(
        [made.python(), "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
    assert {line.partition("==")[0] for line in listed.split()} <= {
        "toypackage", "pip", "setuptools",
    }  # fmt: skip


def test_a_package_that_cannot_be_had_is_named_with_what_to_do(index, tmp_path):
    made = environment(tmp_path, "absent==1.0 \\\n    --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(EnvironmentMissing) as raised:
        made.make(lambda line: None, threading.Event())
    assert "absent" in str(raised.value)
    assert "package index can be reached" in str(raised.value)


def test_an_installation_that_was_cut_off_is_begun_anew(index, tmp_path):
    made = environment(tmp_path, wheel(index))
    made.folder.mkdir(parents=True)
    (made.folder / "half").touch()
    made.make(lambda line: None, threading.Event())
    assert made.ready
    assert not (made.folder / "half").exists()


def test_two_at_once_make_it_once(index, tmp_path):
    made = environment(tmp_path, wheel(index))
    said: list[str] = []
    threads = [
        threading.Thread(target=made.make, args=(said.append, threading.Event())) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(line.endswith("is installed.") for line in said) == 1


def test_a_stop_ends_an_installation_at_once_and_the_next_begins_anew(index, tmp_path):
    made = environment(tmp_path, wheel(index))
    stop = threading.Event()
    began = time.monotonic()
    with pytest.raises(EnvironmentMissing, match="was interrupted"):
        made.make(lambda line: stop.set(), stop)
    assert time.monotonic() - began < 30
    assert not made.ready
    assert no_process_names(str(made.folder))
    made.make(lambda line: None, threading.Event())
    assert made.ready


def test_ctrl_c_goes_to_the_harness_and_not_to_pip(index, tmp_path):
    made = environment(tmp_path, wheel(index))
    code = (
        "import signal, sys, threading; from pathlib import Path; "
        "from harness.foreign.environments import PythonEnvironment; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); "  # ignored behind nohup
        "made = PythonEnvironment('toy-1.0', Path(sys.argv[1]), 1); "
        "made.make(lambda line: print(line, flush=True), threading.Event())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(made.lock)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    assert no_process_names(str(made.folder))
    assert not made.ready


def test_an_installer_whose_harness_was_killed_keeps_the_lock_until_it_ends(index, tmp_path):
    made = environment(tmp_path, wheel(index))
    with made._alone(lambda line: None, threading.Event()) as lock:
        orphan = subprocess.Popen(["sleep", "60"], pass_fds=(lock,))
    stop, said = threading.Event(), list[str]()

    def say(line: str) -> None:
        said.append(line)
        stop.set()

    with pytest.raises(EnvironmentMissing, match="was interrupted"):
        made.make(say, stop)
    assert said == ["Another process is installing toy-1.0; waiting for it ..."]
    orphan.kill()
    orphan.wait()
    made.make(lambda line: None, threading.Event())
    assert made.ready


def no_process_names(text: str) -> bool:
    """Whether no command line holds `text`."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if text.encode() in path.read_bytes() and path.parent.name != str(os.getpid()):
                return False
    return True


def test_a_folder_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(EnvironmentMissing, match="HARNESS_CACHE"):
        environment(tmp_path, "a==1 --hash=sha256:0\n").make(lambda line: None, threading.Event())


def test_every_line_of_the_shipped_locks_is_pinned_and_hashed():
    found = 0
    for name in sorted(METHODS):
        needed = load_method(name).needs
        if not isinstance(needed, PythonEnvironment):
            continue
        text = "\n" + needed.lock.read_text(encoding="utf-8")
        pins = [block for block in text.split("\n") if block[:1].isalnum()]
        assert pins
        assert all("==" in pin and pin.endswith("\\") for pin in pins)
        assert text.count("--hash=sha256:") >= len(pins)
        assert (
            needed.name.replace("-evolve-", "-evolve==").replace("openevolve-", "openevolve==")
            in text
        )
        found += 1
    assert found == 2


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.delenv("HARNESS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert environments.cache_folder() == tmp_path.resolve() / "kernel-search-harness"


# --- carried wheels -------------------------------------------------------------------------------

TOY = "toypackage-1.0"


@pytest.fixture
def carried(index, monkeypatch, tmp_path):
    """A folder of carried wheels, and no packages in the system."""
    monkeypatch.setenv("HARNESS_WHEELS", str(index))
    monkeypatch.setattr(environments, "sites", lambda: [str(tmp_path / "system")])
    (tmp_path / "system").mkdir()
    return index


def system(tmp_path: Path, *arguments: str) -> None:
    """Put a package into the system: its name, content and version."""
    folder = tmp_path / "elsewhere"
    folder.mkdir(exist_ok=True)
    wheel(folder, *arguments)
    for path in folder.glob("*.whl"):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / "system")
        path.unlink()


def make(made: PythonEnvironment) -> list[str]:
    said: list[str] = []
    made.make(said.append, threading.Event())
    return said


def output(made: PythonEnvironment, code: str) -> str:
    command = [made.python(), "-P", "-s", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


OTHER = "other==1.0 \\\n    --hash=sha256:" + "0" * 64 + "\n"


def test_carried_wheels_win_and_what_they_lack_is_the_systems(carried, tmp_path):
    made = environment(tmp_path, wheel(carried) + OTHER, TOY)
    system(tmp_path, "toypackage", "ANSWER = 41\n", "0.9")
    system(tmp_path, "other", "ANSWER = 7\n", "2.0")
    with pytest.raises(EnvironmentMissing, match="prepare --wheels"):
        made.python()
    said = make(made)
    assert "once: 1 packages from" in said[0]
    assert "Other than locked: other 2.0 for 1.0." in said[-2]
    shown = output(made, "import toypackage, other; print(toypackage.ANSWER, other.ANSWER)")
    assert shown == "42 7"
    record = json.loads((made.folder / "packages.json").read_text())
    assert record == made.carried
    assert [(row["name"], row["version"], row["from"]) for row in record["packages"]] == [
        ("toypackage", "1.0", "wheel"), ("other", "2.0", "system"),
    ]  # fmt: skip
    assert [row["as_locked"] for row in record["packages"]] == [True, False]
    assert made.deviations == record["packages"][1:]
    assert make(made) == [said[-2]]


def test_what_is_neither_carried_nor_in_the_system_is_listed(carried, tmp_path):
    wheel(carried, "other", version="0.5")
    text = wheel(carried, tag="cp39-cp39-win32") + OTHER
    system(tmp_path, "toypackage", "", "0.9")
    made = environment(tmp_path, text, TOY)
    with pytest.raises(EnvironmentMissing, match=r"toypackage==1\.0 other==1\.0\n.*pip download"):
        make(made)
    assert not made.folder.exists()


def test_what_the_program_imports_without_may_be_absent(carried, tmp_path):
    video = "pillow==1.0 \\\n    --hash=sha256:" + "0" * 64 + "\n"
    made = environment(tmp_path, wheel(carried) + video, TOY)
    assert "Other than locked: pillow is absent." in make(made)[-2]
    assert made.ready


def test_a_pin_for_another_machine_is_not_asked_for(carried, tmp_path):
    elsewhere = OTHER.replace(" ", " ; sys_platform == 'win32' ", 1)
    made = environment(tmp_path, wheel(carried) + elsewhere, TOY)
    assert "Other than locked: none." in make(made)[-2]


def test_a_wheel_of_other_bytes_than_locked_is_told(carried, tmp_path):
    made = environment(tmp_path, wheel(carried), TOY)
    wheel(carried, content="ANSWER = 43\n")
    assert "toypackage 1.0 from a wheel whose hash the lock does not have" in make(made)[-2]


@pytest.mark.parametrize(
    ("program", "driver"),
    [("import absent_module\n", "import bridge\n"), ("", "def later():\n import absent_module\n")],
)
def test_a_program_or_a_driver_that_cannot_be_imported_is_not_ready(
    carried, tmp_path, program, driver
):
    made = environment(tmp_path, wheel(carried, content=program), TOY)
    (tmp_path / "driver.py").write_text(driver)
    with pytest.raises(EnvironmentMissing, match="the check that its program can be imported") as e:
        make(made)
    assert "No module named 'absent_module'" in str(e.value)
    assert not made.ready


def test_other_wheels_are_another_environment_and_the_locked_one_is_preferred(
    carried, monkeypatch, tmp_path
):
    made = environment(tmp_path, wheel(carried) + wheel(carried, "other"), TOY)
    one = made.folder
    (carried / "other-1.0-py3-none-any.whl").rename(tmp_path / "other-1.0-py3-none-any.whl")
    system(tmp_path, "other", "", "2.0")
    two = made.folder
    monkeypatch.delenv("HARNESS_WHEELS")
    locked = made.folder
    assert len({one, two, locked}) == 3
    locked.mkdir(parents=True)
    (locked / ".ready").touch()
    monkeypatch.setenv("HARNESS_WHEELS", str(carried))
    assert made.folder == locked
    assert make(made) == []
    assert made.carried is None


def test_a_folder_of_wheels_that_is_not_there_is_named(carried, monkeypatch, tmp_path):
    monkeypatch.setenv("HARNESS_WHEELS", str(tmp_path / "absent"))
    with pytest.raises(EnvironmentMissing, match=r"absent, which is no folder"):
        make(environment(tmp_path, OTHER, "other-1.0"))
    result = CliRunner().invoke(app, ["prepare", "--wheels", str(tmp_path / "absent")])
    assert result.exit_code == 2


def test_prepare_with_wheels_is_for_what_runs_later_too(carried, monkeypatch, tmp_path):
    monkeypatch.setenv("HARNESS_WHEELS", "")
    result = CliRunner().invoke(app, ["prepare", "best_of_n", "--wheels", str(carried)])
    assert result.exit_code == 0
    assert environments.wheels_folder() == carried.resolve()


def test_only_the_packages_of_this_interpreter_are_behind_the_wheels():
    assert environments.sites()
    assert all(Path(folder).is_relative_to(sys.prefix) for folder in environments.sites()[:1])


def test_the_check_imports_what_the_drivers_import():
    folder = load_method("shinkaevolve").needs.lock.parent
    found = set(environments.imported_beside(folder))
    assert found >= {"shinka.core", "shinka.llm.client", "numpy"}
    assert not {"bridge", "pins", "asyncio", "__future__"} & found

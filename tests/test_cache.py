"""harness/evaluate/cache.py: equal requests share one evaluation."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.errors import EnvironmentMissing, InfraError
from harness.evaluate.cache import Cache


def test_a_second_request_is_answered_from_the_folder(tmp_path: Path) -> None:
    assert Cache(tmp_path).get_or_make("ab", lambda: {"x": 1}) == ({"x": 1}, False)
    assert Cache(tmp_path).get_or_make("ab", lambda: {"x": 2}) == ({"x": 1}, True)


def test_equal_requests_in_flight_share_one_evaluation(tmp_path: Path) -> None:
    cache, made, start = Cache(tmp_path), [], threading.Event()

    def make():
        start.wait(5)
        made.append(1)
        return {"x": len(made)}

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(cache.get_or_make, "k", make) for _ in range(8)]
        start.set()
        records = [answer.result()[0] for answer in answers]
    assert records == [{"x": 1}] * 8


def test_a_failure_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def fail():
        raise InfraError("gone")

    with pytest.raises(InfraError):
        cache.get_or_make("ab", fail)
    assert cache.get_or_make("ab", lambda: {"x": 1}) == ({"x": 1}, False)


def test_a_torn_record_is_measured_again(tmp_path: Path) -> None:
    Cache(tmp_path).get_or_make("ab", lambda: {"x": 1})
    path = tmp_path / "ab" / "ab.json.gz"
    path.write_bytes(path.read_bytes()[:-6])
    assert Cache(tmp_path).get_or_make("ab", lambda: {"x": 2}) == ({"x": 2}, False)


def test_an_unwritable_folder_is_a_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(EnvironmentMissing, match="evaluation cache"):
        Cache(file).get_or_make("ab", lambda: {"x": 1})

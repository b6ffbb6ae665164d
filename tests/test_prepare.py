"""Preparing methods: side by side, each with its own end, and none left running by Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import toy_methods

from harness import prepare
from harness.errors import EnvironmentMissing
from harness.method import Method
from harness.prepare import prepare_methods, prepare_named
from harness.types import JsonObject

Make = Callable[[threading.Event], None]


@dataclass(frozen=True)
class Toy:
    """Something whose making is a function of the test's."""

    function: Make
    name: str = "toy-1.0"
    ready: bool = False

    @property
    def deviations(self) -> list[JsonObject]:
        return []

    def make(self, say: Callable[[str], None], stop: threading.Event) -> None:
        self.function(stop)


def needing(name: str, function: Make) -> Method:
    return replace(toy_methods.unprepared, name=name, title=name, needs=Toy(function))


def test_methods_are_prepared_side_by_side() -> None:
    both = threading.Barrier(2, timeout=10)
    methods = [needing(name, lambda stop: both.wait() and None) for name in ("one", "two")]
    assert prepare_methods(methods, pytest.fail, threading.Event()) == {}


def test_the_failure_of_one_is_told_at_once_and_the_other_is_made_to_its_end() -> None:
    told, made, said = threading.Event(), list[str](), list[str]()

    def fail(stop: threading.Event) -> None:
        raise EnvironmentMissing("no wheel")

    def make(stop: threading.Event) -> None:
        assert told.wait(10)
        assert not stop.is_set()
        made.append("two")

    def say(line: str) -> None:
        said.append(line)
        told.set()

    methods = [needing("one", fail), needing("two", make)]
    assert prepare_methods(methods, say, threading.Event()) == {"one": "no wheel"}
    assert (said, made) == (["one cannot run here: no wheel"], ["two"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_methods_are_prepared_stops_each_of_them(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    both, ended = threading.Barrier(2, timeout=10), list[bool]()

    def make(stop: threading.Event) -> None:
        if both.wait() == 0:  # a signal that another thread got ends no wait of the main thread
            signal.pthread_kill(threading.get_ident(), number)
        ended.append(stop.wait(10))

    monkeypatch.setattr(prepare, "load_method", lambda name: needing(name, make))
    with pytest.raises(KeyboardInterrupt):
        prepare_named(["one", "two"], print)
    assert ended == [True, True]


def test_after_a_stop_none_is_begun() -> None:
    stop = threading.Event()
    stop.set()
    methods = [needing("one", lambda stop: pytest.fail("begun"))]
    assert prepare_methods(methods, pytest.fail, stop) == {}

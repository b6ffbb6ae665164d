"""The key of a live client is in no error, log, reply or repr, whatever the endpoint sends back."""

from __future__ import annotations

import logging
import pickle
import traceback

import pytest
from scripted_endpoint import KEY, Scripted, completion, connect, endpoints, error

from harness.errors import HarnessError


@pytest.fixture
def endpoint():
    with endpoints() as start:
        yield start


ECHOES = [
    error(401, message="Incorrect API key provided: ECHO"),
    error(403, message="ECHO"),
    error(400, message=f"you sent ECHO, that is {KEY}"),
    error(404, message="x" * 290 + "ECHO"),
    error(402, message="ECHO"),
    error(429, "insufficient_quota", "ECHO"),
    error(429, message="ECHO"),
    error(500, message="ECHO"),
    Scripted(500, b"ECHO"),
    Scripted(503, {"headers": {"Authorization": "ECHO"}}),
    Scripted(500, [["ECHO"]]),
    Scripted(200, b"garbage ECHO"),
    Scripted(200, b'{"choices": "ECHO"}'),
    Scripted(200, {}, delay_seconds=0.3),
    Scripted(307, b"", {"Location": "http://127.0.0.1:9/ECHO"}),
]


def everything_shown(error: BaseException) -> str:
    """Texts, reprs, tracebacks and attributes of an error and of whatever it drags along."""
    shown = []
    while error is not None:
        shown += [str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)]
        error = error.__cause__ or error.__context__
    return "\n".join(shown)


@pytest.mark.parametrize("answer", ECHOES)
def test_the_key_is_in_no_error_and_no_log(endpoint, answer, caplog):
    caplog.set_level(logging.DEBUG)
    connected = connect(endpoint(answer).base_url, retries=1, timeout_seconds=0.15)
    with pytest.raises(HarnessError) as caught:
        connected.ask()
    assert caught.value.__context__ is None  # the package's exception holds the request's headers
    assert KEY not in everything_shown(caught.value)
    assert KEY not in caplog.text
    assert KEY[:8] not in str(caught.value)


def test_the_key_is_in_no_reply(endpoint):
    reply = connect(endpoint(completion("You sent ECHO", model="ECHO")).base_url).ask()
    assert KEY not in repr(reply)


def test_the_key_is_in_no_repr_and_cannot_be_pickled():
    client = connect("http://127.0.0.1:1/v1").client
    assert KEY not in repr(client)
    assert KEY not in repr(client.settings)
    with pytest.raises(TypeError, match="holds a key"):
        pickle.dumps(client)


@pytest.mark.parametrize("masked", ["sk-proj-ab12****yz", "Bearer abc12...", "bearer partofakey"])
def test_a_part_of_a_key_that_an_endpoint_quotes_is_not_repeated(endpoint, masked):
    with pytest.raises(HarnessError, match=r"you sent \[key\]") as caught:
        connect(endpoint(error(500, message=f"you sent {masked}")).base_url).ask()
    assert masked.split()[-1] not in str(caught.value)

"""The live client against loopback endpoints that answer, refuse, stall and lie."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from scripted_endpoint import REQUEST, Scripted, completion, connect, endpoints, error

from harness.errors import EndpointError, EnvironmentMissing, QuotaExhausted
from harness.llm.client import Request
from harness.llm.models import ModelSettings
from harness.llm.openai_client import OpenAIClient, endpoint_limit
from harness.types import Usage


@pytest.fixture
def endpoint():
    with endpoints() as start:
        yield start


PRICES = {
    "input_dollars_per_million": 1.0,
    "output_dollars_per_million": 10.0,
    "cached_input_dollars_per_million": 0.1,
    "date": "2026-01-31",
    "source": "a test",
}


# --- Replies --------------------------------------------------------------------------------------


def test_a_completion_becomes_a_reply_with_the_endpoints_usage_and_dollars(endpoint):
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 200,
        "total_tokens": 1200,
        "prompt_tokens_details": {"cached_tokens": 400},
        "completion_tokens_details": {"reasoning_tokens": 150},
    }
    reply = connect(endpoint(completion(usage=usage)).base_url, prices=PRICES).ask()
    dollars = (600 * 1.0 + 400 * 0.1 + 200 * 10.0) / 1e6
    assert (reply.text, reply.finish_reason, reply.model) == ("hello", "stop", "toy-1-0")
    assert reply.usage == Usage(1000, 200, 150, pytest.approx(dollars))


def test_without_usage_tokens_are_counted_from_bytes_and_marked(endpoint):
    reply = connect(endpoint(completion("abcdefghi")).base_url).ask()
    assert reply.usage == Usage(4, 3, 0, None, estimated=True)


@pytest.mark.parametrize(
    "usage", [{"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": "many"}, [], "none"]
)
def test_a_usage_that_says_nothing_does_not_cost_the_reply(endpoint, usage):
    reply = connect(endpoint(completion(usage=usage)).base_url).ask()
    assert reply.text == "hello"
    assert reply.usage.estimated


def test_thinking_tokens_that_only_the_total_shows_count_as_completion(endpoint):
    usage = {"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623}
    reply = connect(endpoint(completion(usage=usage)).base_url).ask()
    assert (reply.usage.completion_tokens, reply.usage.reasoning_tokens) == (603, 405)


@pytest.mark.parametrize(
    ("answer", "reason", "text"),
    [
        (completion("half a", "length"), "length", "half a"),
        (completion("", "length"), "length", ""),
        (completion(None), "empty", ""),
        (completion(" \n"), "empty", " \n"),
        (completion(None, message={"refusal": "I will not."}), "refusal", "I will not."),
        (completion("", "content_filter"), "refusal", ""),
        (completion("x", "tool_calls"), "stop", "x"),
        (completion([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "stop", "ab"),
        (Scripted(200, {"choices": []}), "empty", ""),
        (error(400, "content_filter"), "refusal", ""),
        (error(400, "context_length_exceeded"), "length", ""),
        (error(400, "", "This model's maximum context length is 4096."), "length", ""),
    ],
)
def test_refusals_length_stops_and_empty_replies_are_results(endpoint, answer, reason, text):
    server = endpoint(answer)
    reply = connect(server.base_url).ask()
    assert (reply.finish_reason, reply.text) == (reason, text)
    assert len(server.asked) == 1


def test_a_reply_never_holds_a_surrogate_that_no_file_can_take(endpoint):
    body = b'{"choices": [{"message": {"content": "a\\ud800b"}, "finish_reason": "stop"}]}'
    assert connect(endpoint(Scripted(200, body)).base_url).ask().text == "a?b"


def test_the_request_carries_the_sampling_under_the_endpoints_names(endpoint):
    server = endpoint(completion())
    sampling = {"max_tokens": 7, "temperature": 0.5, "reasoning_effort": "low"}
    connected = connect(server.base_url, max_tokens_parameter="max_completion_tokens")
    connected.ask(Request("toy", REQUEST.messages, "propose", sampling))
    assert server.asked == [
        {
            "model": "toy-1",
            "messages": [{"role": "user", "content": "Say something."}],
            "max_completion_tokens": 7,
            "temperature": 0.5,
            "reasoning_effort": "low",
        }
    ]


def test_a_repeated_prompt_gets_another_sampling_seed(endpoint):
    server = endpoint(completion())
    connected = connect(server.base_url)
    for occurrence in range(3):
        connected.ask(Request("toy", REQUEST.messages, "propose", {"seed": 10}), occurrence)
    assert [body["seed"] for body in server.asked] == [10, 11, 12]


def test_an_endpoint_without_a_key_is_asked_without_one(endpoint):
    connected = connect(endpoint(completion()).base_url, key=None, key_variable=None)
    assert connected.ask().text == "hello"


def test_seconds_are_those_of_the_attempt_that_succeeded(endpoint):
    ticks = iter([0.0, 100.0, 200.0, 203.5])
    settings = ModelSettings(
        name="toy", model="m", base_url=endpoint(error(500), completion()).base_url
    )
    client = OpenAIClient(settings, None, sleep=lambda seconds: None, clock=lambda: next(ticks))
    assert client.complete(REQUEST, 0).seconds == 3.5


# --- Failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        error(429),
        error(500),
        error(503),
        error(408),
        Scripted(200, b"<html>busy</html>"),
        Scripted(200, b'{"choices": [{"message": {"con'),
        Scripted(200, b""),
        Scripted(200, b"[" * 100_000),
        Scripted(200, {"error": {"message": "overloaded"}}),
        Scripted(502, b"\xff\xfe not text"),
    ],
)
def test_a_passing_failure_is_retried_until_the_reply_comes(endpoint, failure):
    server = endpoint(failure, failure, completion())
    connected = connect(server.base_url)
    assert connected.ask().text == "hello"
    assert len(server.asked) == 3


def test_back_off_doubles_with_jitter_and_ends_in_an_endpoint_error(endpoint):
    server = endpoint(error(500, message="boom"))
    connected = connect(server.base_url, retries=4)
    with pytest.raises(EndpointError, match=r"HTTP 500: boom\. Attempt 5 of 5.*harness resume"):
        connected.ask()
    assert len(server.asked) == 5
    bounds = [(0.5, 1), (1, 2), (2, 4), (4, 8)]
    assert all(low <= w <= high for w, (low, high) in zip(connected.waits, bounds, strict=True))
    assert len({w / high for w, (_, high) in zip(connected.waits, bounds, strict=True)}) == 4


def test_retry_after_is_honoured(endpoint):
    connected = connect(endpoint(error(429, **{"Retry-After": "17"}), completion()).base_url)
    connected.ask()
    assert connected.waits == [17.0]


def test_retry_after_may_be_a_date(endpoint):
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 40))
    connected = connect(endpoint(error(429, **{"Retry-After": date}), completion()).base_url)
    connected.ask()
    assert 30 < connected.waits[0] <= 40


@pytest.mark.parametrize("value", ["soon", "-5", "nan", "inf"])
def test_a_senseless_retry_after_is_passed_over(endpoint, value):
    connected = connect(endpoint(error(429, **{"Retry-After": value}), completion()).base_url)
    connected.ask()
    assert 0.5 <= connected.waits[0] <= 1.0


def test_an_endpoint_that_asks_to_wait_for_an_hour_ends_the_call_at_once(endpoint):
    connected = connect(endpoint(error(429, **{"Retry-After": "3600"})).base_url)
    with pytest.raises(EndpointError, match="3600 s"):
        connected.ask()
    assert connected.waits == []


@pytest.mark.parametrize(
    "failure",
    [
        error(429, "insufficient_quota"),
        error(429, "billing_hard_limit_reached"),
        error(402),
        Scripted(429, [{"error": {"type": "insufficient_quota", "message": "none"}}]),
    ],
)
def test_an_exhausted_quota_is_not_retried(endpoint, failure):
    server = endpoint(failure)
    with pytest.raises(QuotaExhausted, match="harness resume"):
        connect(server.base_url).ask()
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_bad_key_names_its_variable(endpoint, status):
    server = endpoint(error(status))
    with pytest.raises(EnvironmentMissing, match="TOY_KEY"):
        connect(server.base_url).ask()
    assert len(server.asked) == 1


def test_an_endpoint_that_wants_a_key_and_has_none_says_where_to_name_it(endpoint):
    with pytest.raises(EnvironmentMissing, match="key_variable"):
        connect(endpoint(error(401)).base_url, key=None, key_variable=None).ask()


def test_a_parameter_that_a_reasoning_model_refuses_points_to_models_toml(endpoint):
    server = endpoint(error(400, "unsupported_value", "'temperature' does not support 0.6"))
    with pytest.raises(EndpointError, match=r"'temperature' does not support.*models\.toml"):
        connect(server.base_url).ask()
    assert len(server.asked) == 1


def test_a_slow_endpoint_times_out(endpoint):
    connected = connect(
        endpoint(Scripted(200, {}, delay_seconds=0.4)).base_url, timeout_seconds=0.1, retries=0
    )
    with pytest.raises(EndpointError, match=r"sent nothing within 0\.1 s"):
        connected.ask()


def test_a_dead_endpoint_is_retried_and_reported():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    connected = connect(f"http://127.0.0.1:{port}/v1")
    with pytest.raises(EndpointError, match="could not be reached"):
        connected.ask()
    assert len(connected.waits) == 2


@pytest.mark.parametrize("key", ["canary key", "canary\nkey", "canarykéy"])
def test_a_key_that_no_header_can_carry_is_reported_by_its_variable(key):
    with pytest.raises(EnvironmentMissing, match="TOY_KEY") as caught:
        connect("http://127.0.0.1:1/v1", key=key)
    assert "canary" not in str(caught.value)


# --- Concurrency ----------------------------------------------------------------------------------


def test_all_clients_of_an_endpoint_share_one_concurrency_limit(endpoint):
    answer = completion()
    answer.delay_seconds = 0.03
    server = endpoint(answer)
    clients = [connect(server.base_url, concurrency=2) for _ in range(3)]
    with ThreadPoolExecutor(9) as pool:
        replies = list(pool.map(lambda i: clients[i % 3].ask(), range(9)))
    assert [r.text for r in replies] == ["hello"] * 9
    assert server.most_running == 2


def test_the_smallest_concurrency_asked_for_holds():
    limit = endpoint_limit("http://limit.invalid/v1", 3)
    assert endpoint_limit("http://limit.invalid/v1", 1) is limit
    entered = threading.Event()

    def second():
        with limit:
            entered.set()

    with limit:
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.05)
    thread.join(5)
    assert entered.is_set()

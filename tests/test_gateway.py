"""The gateway, asked by the real openai package and by hand-written HTTP."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from harness.errors import BudgetExhausted, EndpointError, QuotaExhausted
from harness.llm.client import Message, Reply, Request
from harness.llm.embedding import embedding
from harness.llm.gateway import READ_TIMEOUT_SECONDS, Access, Gateway
from harness.llm.models import ModelSettings
from harness.llm.openai_client import OpenAIClient
from harness.types import Usage

SAMPLING = {"temperature": 0.6, "max_tokens": 100}
HTTP = httpx.Client(timeout=5)  # one for all: each would load the certificates again
TOY_REPLY = Reply("toy text", Usage(12, 5, 2), 0.25)


@dataclass
class Toy:
    """A model that answers with a fixed reply, or raises, and keeps what it was asked."""

    answer: Reply | BaseException = TOY_REPLY
    asked: list[tuple[Request, int]] = field(default_factory=list)
    delay_seconds: float = 0.0

    def complete(self, request: Request, occurrence: int) -> Reply:
        self.asked.append((request, occurrence))
        time.sleep(self.delay_seconds)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@pytest.fixture
def gateway():
    with Gateway(max_body_bytes=100_000) as running:
        yield running


def grant(gateway: Gateway, toy: Toy) -> Access:
    return gateway.grant(toy, model="toy", sampling=SAMPLING)


def package(access: Access) -> openai.OpenAI:
    return openai.OpenAI(api_key=access.token, base_url=access.base_url, max_retries=0)


def our_client(access: Access, **values: object) -> OpenAIClient:
    settings = ModelSettings(name="toy", model="toy", base_url=access.base_url, **values)
    return OpenAIClient(settings, SecretStr(access.token), sleep=lambda seconds: None)


def post(access: Access, path: str, body: object, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Authorization": f"Bearer {access.token}"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return HTTP.post(access.base_url + path, content=content, headers=sent)


def connected(gateway: Gateway) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urllib.parse.urlsplit(gateway.base_url).port))


CHAT = {"model": "toy", "messages": [{"role": "user", "content": "hi"}]}


# --- Completions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        Reply("text with ünïcode 🦀\n", Usage(12, 5, 2), 0.25),
        Reply("half", Usage(3, 1), 0.1, "length"),
        Reply("", Usage(3, 0), 0.1, "empty"),
        Reply("I will not.", Usage(3, 4), 0.1, "refusal"),
    ],
)
def test_a_reply_comes_through_the_gateway_and_our_own_client_unchanged(gateway, reply):
    access = grant(gateway, Toy(reply))
    request = Request("toy", (Message("system", "s"), Message("user", "u")), "propose")
    got = our_client(access).complete(request, 0)
    assert (got.text, got.finish_reason) == (reply.text, reply.finish_reason)
    assert got.usage.tokens == reply.usage.tokens
    assert got.usage.reasoning_tokens == reply.usage.reasoning_tokens


def test_the_client_behind_the_gateway_sees_messages_purpose_and_the_runs_own_sampling(gateway):
    toy = Toy()
    package(grant(gateway, toy)).chat.completions.create(
        model="toy/world-model",
        messages=[
            {"role": "developer", "content": "be brief"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            },
            {"role": "assistant", "content": "c"},
        ],
        temperature=1.9,
    )
    messages = (Message("system", "be brief"), Message("user", "ab"), Message("assistant", "c"))
    assert toy.asked == [(Request("toy", messages, "world-model", SAMPLING), 0)]


def test_ignored_sampling_is_named_in_a_header(gateway):
    answer = post(grant(gateway, Toy()), "/chat/completions", CHAT | {"temperature": 1, "top_p": 1})
    assert answer.headers["X-Ignored-Parameters"] == "temperature, top_p"


def test_the_purpose_header_goes_before_the_models_suffix(gateway):
    toy = Toy()
    body = CHAT | {"model": "toy/world-model"}
    post(grant(gateway, toy), "/chat/completions", body, X_Purpose="judge")
    assert toy.asked[0][0].purpose == "judge"


def test_identical_requests_are_counted_for_each_token_alone(gateway):
    toys = [Toy(), Toy()]
    first, second = (grant(gateway, toy) for toy in toys)
    for access in (first, first, second):
        post(access, "/chat/completions", CHAT)
    post(first, "/chat/completions", CHAT | {"model": "toy/judge"})
    assert [occurrence for _, occurrence in toys[0].asked] == [0, 1, 0]
    assert [occurrence for _, occurrence in toys[1].asked] == [0]


def test_concurrent_identical_requests_get_every_occurrence_once(gateway):
    toy = Toy()
    access = grant(gateway, toy)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: post(access, "/chat/completions", CHAT), range(24)))
    assert sorted(occurrence for _, occurrence in toy.asked) == list(range(24))


def test_streaming_yields_the_text_and_the_usage(gateway):
    stream = package(grant(gateway, Toy())).chat.completions.create(
        model="toy",
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "toy text"
    assert [c.choices[0].finish_reason for c in chunks if c.choices] == [None, "stop"]
    assert chunks[-1].usage.total_tokens == 17


def test_responses_are_served_to_the_openai_package(gateway):
    toy = Toy()
    response = package(grant(gateway, toy)).responses.create(
        model="toy", instructions="be brief", input="hi"
    )
    assert response.output_text == "toy text"
    assert (response.status, response.usage.total_tokens) == ("completed", 17)
    assert toy.asked[0][0].messages == (Message("system", "be brief"), Message("user", "hi"))


def test_a_response_that_was_cut_says_so(gateway):
    access = grant(gateway, Toy(Reply("half", Usage(), 0.0, "length")))
    response = package(access).responses.create(
        model="toy", input=[{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]
    )
    assert response.incomplete_details.reason == "max_output_tokens"


def test_the_models_list_holds_the_runs_model(gateway):
    models = package(grant(gateway, Toy())).models.list()
    assert [model.id for model in models.data] == ["toy"]


# --- Embeddings -----------------------------------------------------------------------------------


def test_embeddings_reach_the_openai_package_as_the_hashed_vectors(gateway):
    answer = package(grant(gateway, Toy())).embeddings.create(
        model="text-embedding-3-small", input=["for each row", "for each row", "x"], dimensions=64
    )
    vectors = [row.embedding for row in answer.data]
    assert vectors[0] == vectors[1] != vectors[2]
    assert vectors[0] == embedding("for each row", 64).tolist()


def test_embeddings_may_be_asked_for_as_plain_numbers_and_of_tokens(gateway):
    body = {"model": "e", "input": [1, 2, 3], "encoding_format": "float"}
    answer = post(grant(gateway, Toy()), "/embeddings", body)
    assert answer.json()["data"][0]["embedding"] == pytest.approx(embedding("1 2 3").tolist())


# --- Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer wrong", "Basic {}", "Bearer {}x"])
def test_a_wrong_token_is_refused_with_401(gateway, authorization):
    toy = Toy()
    access = grant(gateway, toy)
    header = authorization.format(access.token)
    answer = post(access, "/chat/completions", CHAT, Authorization=header)
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert toy.asked == []


def test_a_revoked_token_is_refused(gateway):
    access = grant(gateway, Toy())
    gateway.revoke(access)
    assert post(access, "/chat/completions", CHAT).status_code == 401


def test_a_token_is_not_in_the_repr_of_an_access(gateway):
    access = grant(gateway, Toy())
    assert access.token not in repr(access)


def test_an_unknown_path_is_refused_with_404(gateway):
    answer = post(grant(gateway, Toy()), "/images", {})
    assert answer.status_code == 404
    assert "/v1/chat/completions" in answer.json()["error"]["message"]


def test_another_model_than_the_runs_is_refused_with_404(gateway):
    with pytest.raises(openai.NotFoundError, match="This run's model is 'toy'"):
        package(grant(gateway, Toy())).chat.completions.create(
            model="gpt-x", messages=[{"role": "user", "content": "hi"}]
        )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat/completions", b"{not json"),
        ("/chat/completions", b"\xff\xff"),
        ("/chat/completions", b"[" * 90_000),
        ("/chat/completions", [1]),
        ("/chat/completions", {"model": "toy"}),
        ("/chat/completions", CHAT | {"messages": []}),
        ("/chat/completions", CHAT | {"messages": ["hi"]}),
        ("/chat/completions", CHAT | {"messages": [{"role": "tool", "content": "x"}]}),
        ("/chat/completions", CHAT | {"messages": [{"role": "user", "content": 3}]}),
        ("/chat/completions", CHAT | {"messages": [{"role": [], "content": "x"}]}),
        ("/chat/completions", CHAT | {"n": 2}),
        ("/chat/completions", CHAT | {"tools": [{"type": "function"}]}),
        ("/chat/completions", CHAT | {"model": "toy/No Purpose"}),
        ("/responses", {"model": "toy"}),
        ("/responses", {"model": "toy", "input": "hi", "stream": True}),
        ("/responses", {"model": "toy", "input": "hi", "previous_response_id": "r"}),
        ("/responses", {"model": "toy", "input": [{"type": "item_reference", "id": "x"}]}),
        ("/embeddings", {"model": "e"}),
        ("/embeddings", {"model": "e", "input": []}),
        ("/embeddings", {"model": "e", "input": "x", "dimensions": 0}),
        ("/embeddings", {"model": "e", "input": [[True]]}),
    ],
)
def test_a_malformed_request_is_refused_with_400_and_costs_nothing(gateway, path, body):
    toy = Toy()
    answer = post(grant(gateway, toy), path, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert toy.asked == []


@pytest.fixture(scope="module")
def lasting_access():
    with Gateway() as running:
        yield grant(running, Toy())


FIELDS = st.sampled_from(["model", "messages", "input", "n", "stream", "instructions"])
VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(body=st.dictionaries(FIELDS, VALUES))
def test_no_json_object_crashes_the_gateway(lasting_access, body):
    for path in ("/chat/completions", "/responses", "/embeddings"):
        answer = post(lasting_access, path, {"model": "toy"} | body)
        assert answer.status_code in (200, 400, 404)


def test_a_body_over_the_cap_is_refused_with_413(gateway):
    answer = post(grant(gateway, Toy()), "/chat/completions", b"x" * 300_000)
    assert answer.status_code == 413


def test_surrogates_in_a_request_do_not_reach_the_log(gateway):
    toy = Toy()
    body = b'{"model": "toy", "messages": [{"role": "user", "content": "a\\ud800b"}]}'
    assert post(grant(gateway, toy), "/chat/completions", body).status_code == 200
    assert toy.asked[0][0].messages[0].content == "a?b"


def test_a_raw_request_without_http_gets_an_answer_in_openais_form(gateway):
    with connected(gateway) as raw:
        raw.sendall(b"BREW /v1/coffee HTTP/1.1\r\n\r\n")
        answer = raw.makefile("rb").read()
    assert b"501" in answer.splitlines()[0]
    assert "error" in json.loads(answer.partition(b"\r\n\r\n")[2])


# --- Failures behind the gateway ------------------------------------------------------------------


def test_an_exhausted_budget_is_a_429_that_nobody_retries(gateway):
    toy = Toy(BudgetExhausted("charges"))
    access = grant(gateway, toy)
    client = openai.OpenAI(api_key=access.token, base_url=access.base_url, max_retries=3)
    with pytest.raises(openai.RateLimitError, match="used up: charges") as caught:
        client.chat.completions.create(model="toy", messages=[{"role": "user", "content": "hi"}])
    assert caught.value.code == "budget_exhausted"
    assert len(toy.asked) == 1


def test_our_own_client_reads_an_exhausted_budget_as_no_quota(gateway):
    access = grant(gateway, Toy(BudgetExhausted("charges")))
    with pytest.raises(QuotaExhausted):
        our_client(access).complete(Request("toy", (Message("user", "u"),), "propose"), 0)


def test_a_failing_endpoint_behind_the_gateway_is_a_503(gateway):
    answer = post(grant(gateway, Toy(EndpointError("down for now"))), "/chat/completions", CHAT)
    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == "down for now"


# --- Start and end --------------------------------------------------------------------------------


def gateway_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if "process_request" in t.name or t.name == "gateway"]


def test_closing_leaves_no_thread_even_with_a_silent_connection():
    before = len(gateway_threads())
    gateway = Gateway()
    with connected(gateway):
        deadline = time.monotonic() + 5
        while len(gateway_threads()) < before + 2 and time.monotonic() < deadline:
            time.sleep(0.005)
        assert len(gateway_threads()) == before + 2
        started = time.monotonic()
        gateway.close()
        assert time.monotonic() - started < READ_TIMEOUT_SECONDS / 2
    assert len(gateway_threads()) == before


def test_closing_waits_for_a_completion_that_is_under_way():
    toy = Toy(delay_seconds=0.2)
    with ThreadPoolExecutor(1) as pool:
        with Gateway() as gateway:
            pending = pool.submit(post, grant(gateway, toy), "/chat/completions", CHAT)
            while not toy.asked:
                time.sleep(0.005)
        assert pending.result().status_code == 200


def test_a_program_that_hangs_up_early_does_no_harm(gateway, capfd):
    toy = Toy(delay_seconds=0.1)
    access = grant(gateway, toy)
    content = json.dumps(CHAT).encode()
    with connected(gateway) as raw:
        raw.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\n"
            + f"Authorization: Bearer {access.token}\r\n".encode()
            + f"Content-Length: {len(content)}\r\n\r\n".encode()
            + content
        )
        while not toy.asked:
            time.sleep(0.005)
    assert post(access, "/chat/completions", CHAT).status_code == 200
    assert "Traceback" not in capfd.readouterr().err

"""The gateway: any `Client`, served as an OpenAI-compatible endpoint on loopback.

For programs in any language that can be pointed at an endpoint by OPENAI_BASE_URL or an option.
Each run gets a bearer token; behind a token stands that run's own client (metered, logged,
replayed), and its own count of identical requests.

    GET  /v1/models              the run's model
    POST /v1/chat/completions    also with stream=true (one piece)
    POST /v1/responses
    POST /v1/embeddings          deterministic hashing, no model (harness/llm/embedding.py)
    *    /run/...                whatever else a run serves (harness/foreign/endpoint.py)

The gateway owns sampling: what the run's model is set to is used, and parameters of the request
that have no effect are named in the answer's header X-Ignored-Parameters. The purpose of a request
is the header X-Purpose, or the suffix of the model's name ("name/world-model"), or "propose".

An exhausted budget is answered with 429 and the code budget_exhausted, a failure of the endpoint
behind it with 503; neither is worth a retry by the program, and the header x-should-retry says so.

Covered: loopback only, tokens compared in constant time, caps on bodies and connections, one
connection per request, no thread left after `close`. Not covered: TLS; ending a completion that is
under way (`close` waits for it).
"""

from __future__ import annotations

import hmac
import logging
import secrets
import socket
import socketserver
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from harness.errors import BudgetExhausted, HarnessError
from harness.llm.client import Client, Message, Request
from harness.llm.embedding import HashingEmbedder, embedding_request, vectors_in
from harness.llm.gateway_format import (
    Answer,
    Embed,
    Refusal,
    body_of,
    chat_answer,
    chat_messages,
    embeddings_answer,
    ignored_parameters,
    model_and_purpose,
    models_answer,
    responses_answer,
    responses_messages,
)
from harness.types import JsonObject, JsonScalar

MAX_BODY_BYTES = 8 * 2**20
MAX_CONNECTIONS = 256  # at once; a further one is closed
READ_TIMEOUT_SECONDS = 30.0  # a program on the same machine sends its request at once
_CHUNK_BYTES = 2**16

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Access:
    """What a foreign program is given: its endpoint, the token that opens it, the model's name."""

    base_url: str
    model: str
    token: str = field(repr=False)


@dataclass(frozen=True)
class Call:
    """A request to a path of the run's own. path: without /run; query: as it was sent. plain:
    whether it sends or wants plain text instead of JSON."""

    verb: str
    path: str
    query: str
    body: bytes
    plain: bool = False


Routes = Callable[[Call], Answer]
"""Answers calls of /run/...; raises Refusal."""


def hashed(texts: Sequence[str], dimensions: int) -> list[list[float]]:
    """Embeddings that nobody counts."""
    return vectors_in(HashingEmbedder().complete(embedding_request(texts, dimensions), 0))


def _no_routes(call: Call) -> Answer:
    raise Refusal(404, "This run serves a model only, under /v1.")


@dataclass
class _Run:
    """What stands behind a token."""

    client: Client
    model: str
    sampling: Mapping[str, JsonScalar]
    embed: Embed
    routes: Routes
    occurrences: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def request(self, messages: tuple[Message, ...], purpose: str) -> tuple[Request, int]:
        request = Request(self.model, messages, purpose, self.sampling)
        with self.lock:
            occurrence = self.occurrences[request.key]
            self.occurrences[request.key] += 1
        return request, occurrence


class Gateway:
    """A running server. A context manager; `close` ends it.

    max_body_bytes: larger requests are answered with 413. poll_seconds: how long `close` may wait
    for the server to notice.
    """

    def __init__(self, *, max_body_bytes: int = MAX_BODY_BYTES, poll_seconds: float = 0.05) -> None:
        self._runs: dict[str, _Run] = {}
        self._lock = threading.Lock()
        self._server = _Server(self, max_body_bytes)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(poll_seconds,), name="gateway"
        )
        self._thread.start()

    @property
    def base_url(self) -> str:
        """The address for OPENAI_BASE_URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def run_url(self) -> str:
        """The address below which a run's own paths are."""
        return self.base_url.removesuffix("/v1") + "/run"

    def grant(
        self,
        client: Client,
        *,
        model: str,
        sampling: Mapping[str, JsonScalar],
        embed: Embed = hashed,
        routes: Routes = _no_routes,
    ) -> Access:
        """Open the gateway for one run. model: the name that requests must give; sampling: of every
        request (`ModelSettings.request_sampling`); routes: answers the paths under /run."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._runs[token] = _Run(client, model, dict(sampling), embed, routes)
        return Access(self.base_url, model, token)

    def revoke(self, access: Access) -> None:
        """Close the gateway for one run; its token is answered with 401 from now on."""
        with self._lock:
            self._runs.pop(access.token, None)

    def close(self) -> None:
        """Stop serving and wait for the requests under way."""
        self._server.shutdown()
        self._server.stop_reading()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def run_of(self, authorization: str | None) -> _Run:
        """The run that a bearer token belongs to. Raises Refusal (401)."""
        scheme, _, given = (authorization or "").partition(" ")
        found = None
        with self._lock:
            for token, run in self._runs.items():  # every token, so that time tells nothing
                if hmac.compare_digest(token.encode(), given.strip().encode()):
                    found = run
        if found is None or scheme.lower() != "bearer":
            raise Refusal(401, "Send this run's token as Authorization: Bearer TOKEN.")
        return found


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close joins them
    block_on_close = True
    request_queue_size = 128

    def __init__(self, gateway: Gateway, max_body_bytes: int) -> None:
        self.gateway = gateway
        self.max_body_bytes = max_body_bytes
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    def server_bind(self) -> None:
        # HTTPServer would look the address up in the DNS, which can take seconds without a network.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        with self._open_lock:
            self._open.add(connection)
        return connection, address

    def verify_request(self, request: object, client_address: object) -> bool:
        with self._open_lock:
            return len(self._open) <= MAX_CONNECTIONS

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def stop_reading(self) -> None:
        """Wake the threads that wait for a request that nobody sends any more."""
        with self._open_lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RD)
                except OSError:
                    continue  # the other side has closed it already

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, ConnectionError | TimeoutError):
            _log.debug("a program closed its connection early: %s", type(error).__name__)
        else:
            _log.error("the gateway failed", exc_info=error)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = READ_TIMEOUT_SECONDS
    server_version = "harness"
    sys_version = ""
    _body_is_read = False

    def do_GET(self) -> None:
        self._serve(self._get)

    def do_POST(self) -> None:
        self._serve(self._post)

    def _serve(self, route: Callable[[_Run], Answer]) -> None:
        try:
            answer = route(self.server.gateway.run_of(self.headers.get("Authorization")))
        except Refusal as refusal:
            self._discard_body()
            answer = refusal.answer()
        except BudgetExhausted as error:
            message = f"The budget of this run is used up: {error.limit}."
            answer = Refusal(
                429, message, kind="insufficient_quota", code="budget_exhausted"
            ).answer()
        except HarnessError as error:
            answer = Refusal(503, str(error), kind="server_error").answer()
        self._send(answer)

    def _get(self, run: _Run) -> Answer:
        path = self._path()
        if path.startswith("/run/"):
            return run.routes(self._call(b""))
        if path == "/v1/models":
            return models_answer(run.model)
        raise self._not_found()

    def _call(self, body: bytes) -> Call:
        path, _, query = self.path.partition("?")
        spoken = self.headers.get("Content-Type", "") if body else self.headers.get("Accept", "")
        plain = spoken.strip().lower().startswith("text/plain")
        return Call(self.command, path.removeprefix("/run").rstrip("/"), query, body, plain)

    def _post(self, run: _Run) -> Answer:
        path = self._path()
        if path.startswith("/run/"):
            return run.routes(self._call(self._read_body()))
        if path not in ("/v1/chat/completions", "/v1/responses", "/v1/embeddings"):
            raise self._not_found()
        body = body_of(self._read_body())
        if path == "/v1/embeddings":
            return embeddings_answer(body, run.embed)
        purpose = model_and_purpose(body, self.headers.get("X-Purpose"), run.model)
        chat = path == "/v1/chat/completions"
        messages = chat_messages(body) if chat else responses_messages(body)
        request, occurrence = run.request(messages, purpose)
        reply = run.client.complete(request, occurrence)
        headers = self._ignored(body)
        make = chat_answer if chat else responses_answer
        return make(body, request, occurrence, reply, headers)

    def _ignored(self, body: JsonObject) -> dict[str, str]:
        names = ", ".join(ignored_parameters(body))
        return {"X-Ignored-Parameters": names[:2000]} if names else {}

    def _path(self) -> str:
        return self.path.partition("?")[0].rstrip("/")

    def _not_found(self) -> Refusal:
        return Refusal(
            404,
            f"Nothing is served at {self.command} {self._path()[:200]}. Served: GET /v1/models, "
            "POST /v1/chat/completions, /v1/responses and /v1/embeddings, and the paths under /run "
            "of a run that has some.",
        )

    def _read_body(self) -> bytes:
        size = self._unread()
        if size is None:
            raise Refusal(400, "Send the body with a Content-Length.")
        if size > self.server.max_body_bytes:
            raise Refusal(413, f"A body may have {self.server.max_body_bytes} bytes at most.")
        body = self.rfile.read(size)
        self._body_is_read = True
        if len(body) < size:
            raise Refusal(400, "The body is shorter than its Content-Length.")
        return body

    def _unread(self) -> int | None:
        """Bytes of the body that are still to come; None if the request does not say."""
        length = self.headers.get("Content-Length", "")
        if self._body_is_read or not (length.isascii() and length.isdigit()):
            return None
        return int(length[:12])

    def _discard_body(self) -> None:
        """Read on, bounded: a program that is still sending would not see the answer."""
        left = min(self._unread() or 0, 8 * self.server.max_body_bytes)
        while left > 0 and (piece := self.rfile.read(min(left, _CHUNK_BYTES))):
            left -= len(piece)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """The base class's own errors (bad request line, unknown verb), in OpenAI's form."""
        self._send(Refusal(code, message or HTTPStatus(code).phrase).answer())

    def log_message(self, format: str, *arguments: object) -> None:
        _log.debug(format, *arguments)

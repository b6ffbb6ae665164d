"""A loopback endpoint that answers by a script, and a live client connected to it."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pydantic import SecretStr

from harness.llm.client import Message, Reply, Request
from harness.llm.models import ModelSettings
from harness.llm.openai_client import OpenAIClient

KEY = "canary-5f3a9b17c2d84e60"
REQUEST = Request("toy", (Message("user", "Say something."),), "propose", {"max_tokens": 50})


@dataclass
class Scripted:
    """One answer of the endpoint. Bytes are sent as they are; ECHO stands for the key it got."""

    status: int = 200
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0


class Endpoint(ThreadingHTTPServer):
    """Answers by a script (the last line for ever) and keeps what it was asked."""

    request_queue_size = 64

    def __init__(self, *script: Scripted) -> None:
        self.script = list(script)
        self.asked: list[dict] = []
        self.running = self.most_running = 0
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.asked.append(body)
            server.running += 1
            server.most_running = max(server.most_running, server.running)
            answer = server.script[min(len(server.asked), len(server.script)) - 1]
        time.sleep(answer.delay_seconds)
        with server.lock:
            server.running -= 1
        raw = isinstance(answer.body, bytes)
        content = answer.body if raw else json.dumps(answer.body).encode()
        content = content.replace(b"ECHO", self.headers["Authorization"].encode())
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format, *arguments):
        pass


@contextmanager
def endpoints() -> Iterator:
    """Yields a function that starts an endpoint; ends all of them."""
    opened = []

    def start(*script: Scripted) -> Endpoint:
        opened.append(Endpoint(*script))
        return opened[-1]

    yield start
    for server in opened:
        server.shutdown()
        server.server_close()


@dataclass
class Connected:
    client: OpenAIClient
    waits: list[float]

    def ask(self, request: Request = REQUEST, occurrence: int = 0) -> Reply:
        return self.client.complete(request, occurrence)


def connect(base_url: str, key: str | None = KEY, **values: object) -> Connected:
    settings = ModelSettings.model_validate(
        {"name": "toy", "model": "toy-1", "base_url": base_url, "key_variable": "TOY_KEY",
         "retries": 2} | values
    )  # fmt: skip
    waits: list[float] = []
    client = OpenAIClient(
        settings, SecretStr(key) if key else None, sleep=waits.append, jitter=random.Random(0)
    )
    return Connected(client, waits)


def completion(text: object = "hello", finish: str = "stop", **values: object) -> Scripted:
    message = {"role": "assistant", "content": text, **values.pop("message", {})}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return Scripted(200, {"id": "1", "model": "toy-1-0", "choices": [choice], **values})


def error(status: int, code: str = "", message: str = "no", **headers: str) -> Scripted:
    return Scripted(status, {"error": {"code": code, "type": code, "message": message}}, headers)

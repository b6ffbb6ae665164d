"""What a driver in Python uses to reach its run. Standard library only: it is copied beside the
driver and imported there, in an environment that knows nothing of the harness.

    run = bridge.connect()
    verdict = run.evaluate(source, parent=parent_id, lineage={"island": 0, "generation": 3})

Covered: the calls of docs/foreign-methods.md; a guard that refuses any connection but to loopback;
checks of installed versions. Not covered: the model, which packages reach by OPENAI_BASE_URL.

Every call opens a connection of its own, so that a forked process can use the same object. None has
a time-out: an evaluation waits for its turn.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import os
import sys
from typing import Any
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "::1", "localhost")

Json = dict[str, Any]


class BridgeError(Exception):
    """The harness refused a call: the message says what it expected."""


class Run:
    """The run that this process was started for.

    task, prompt, start, options, seed, model: of GET /run/task. budget: as the last answer told it.
    """

    def __init__(self, url: str, token: str) -> None:
        self._address = urlsplit(url)
        self._token = token
        described = self._call("GET", "/task")
        self.task: Json = described["task"]
        self.prompt: Json = described["prompt"]
        self.start: Json = described["start"]
        self.options: Json = described["options"]
        self.seed: int = described["seed"]
        self.model: str = described["model"]
        self.budget: Json = described["budget"]

    @property
    def charges_left(self) -> int:
        return int(self.budget["charges_left"])

    def status(self) -> Json:
        """The budget, asked afresh."""
        return self._noted(self._call("GET", "/status"))

    def evaluate(
        self,
        candidate: str,
        *,
        parent: str | None = None,
        note: str = "",
        lineage: Json | None = None,
    ) -> Json:
        """The verdict on a program: {candidate_id, status, score, info, budget}. Costs a charge."""
        body = {"candidate": candidate, "parent": parent, "note": note, "lineage": lineage}
        return self._noted(self._call("POST", "/evaluate", body))

    def no_candidate(
        self, reason: str, *, parent: str | None = None, lineage: Json | None = None
    ) -> Json:
        """A proposal that came to no program. Costs a charge."""
        body = {"reason": reason, "parent": parent, "lineage": lineage}
        return self._noted(self._call("POST", "/no_candidate", body))

    def record(self, kind: str, data: Json) -> None:
        """Put something into the run log."""
        self._noted(self._call("POST", "/record", {"kind": kind, "data": data}))

    def finish(self, reason: str) -> None:
        """Say that this program is done, although charges are left."""
        self._noted(self._call("POST", "/finish", {"reason": reason}))

    def _noted(self, answer: Json) -> Json:
        self.budget = answer["budget"]
        return answer

    def _call(self, verb: str, path: str, body: Json | None = None) -> Json:
        connection = http.client.HTTPConnection(str(self._address.hostname), self._address.port)
        try:
            headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
            content = None if body is None else json.dumps(body).encode("utf-8", "replace")
            connection.request(verb, self._address.path + path, content, headers)
            response = connection.getresponse()
            answer: Json = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            message = answer.get("error", {}).get("message", answer)
            raise BridgeError(f"{verb} /run{path} was answered with {response.status}: {message}")
        return answer


def connect() -> Run:
    """The run, by HARNESS_URL and HARNESS_TOKEN."""
    return Run(os.environ["HARNESS_URL"], os.environ["HARNESS_TOKEN"])


def require(package: str, version: str) -> None:
    """Exit with one line unless the package is installed in this version."""
    found = importlib.metadata.version(package)
    if found != version:
        sys.exit(f"{package} {found} is installed here, this driver was made for {version}.")


def loopback_only() -> None:
    """From now on this process and its forks connect to loopback only.

    An attempt is printed and refused. A program that is started afresh calls this itself.
    """

    def guard(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect":
            address = arguments[1]
            host = address[0] if isinstance(address, tuple) else None
        elif event == "socket.getaddrinfo":
            host = arguments[0]
        else:
            return
        name = host.decode() if isinstance(host, bytes) else host
        if name is not None and name not in LOOPBACK:
            print(f"refused: {event} to {name!r}; only loopback is allowed here", file=sys.stderr)
            raise PermissionError(f"only loopback is allowed here, not {name!r}")

    sys.addaudithook(guard)

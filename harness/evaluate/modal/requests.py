"""What is sent to a container and what comes back: JSON in bytes, and the version that both share.

Covered: requests, answers and their checks; which code an app was deployed from; the canary.
Not covered: sending (calls.py), answering (remote.py). Standard library only: both sides import it.

Nothing that a container says is unpickled or executed here: candidate code may have written it.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import harness
from harness.evaluate import EVALUATOR_PROTOCOL
from harness.types import Candidate, JsonObject, content_hash

Operation = Literal["evaluate", "confirm", "build", "examine", "version"]
Refusal = Literal["wrong_gpu", "version", "baseline", "harness"]

MAX_ANSWER_BYTES = 64 << 20
PACKAGES = ("harness", "suites")  # what the image carries: methods and reports stay here
SUFFIXES = (".py", ".cpp", ".toml", ".json", ".cu", ".h")


class BadAnswer(ValueError):
    """Bytes from a container that are no answer to the request."""


@dataclass(frozen=True)
class Work:
    """One request. gpu: what the device's name must contain, or None on a CPU. secret: of this
    request alone, so that a container never holds what another one's inputs derive from. builds:
    files of the build folder, by name, in hexadecimal digits. baseline: what the answer will be
    said to be relative to (`Baseline.identity`), so the container must judge against no other.
    capability_of, phase: of a build, for which GPU and for which workloads."""

    operation: Operation
    suite: str = ""
    task: str = ""
    candidates: tuple[Candidate, ...] = ()
    settings: JsonObject = field(default_factory=dict, hash=False)
    secret: bytes = b""
    gpu: str | None = None
    builds: dict[str, str] = field(default_factory=dict, hash=False)
    baseline: tuple[str, ...] = ()
    capability_of: str = ""
    phase: str = "search"

    def encode(self) -> bytes:
        """The bytes of a request, with the version of this code."""
        body = {
            "version": code_version(),
            "operation": self.operation,
            "suite": self.suite,
            "task": self.task,
            "candidates": [{"language": c.language, "source": c.source} for c in self.candidates],
            "settings": self.settings,
            "secret": self.secret.hex(),
            "gpu": self.gpu,
            "builds": self.builds,
            "baseline": self.baseline,
            "capability_of": self.capability_of,
            "phase": self.phase,
        }
        return encode(body)


@dataclass(frozen=True)
class Answer:
    """A container's answer. result: what the operation returns. refusal: why there is none, which
    is never the candidate's fault. container: where it ran (device, uuid, driver, isolation,
    canary_us, seconds)."""

    result: JsonObject
    refusal: Refusal | None
    message: str
    container: JsonObject

    @property
    def seconds(self) -> float:
        """How long the container worked, by its own clock."""
        return float(self.container["seconds"])


def encode(body: JsonObject) -> bytes:
    """JSON, compressed: sources and samples shrink to a tenth."""
    return gzip.compress(json.dumps(body).encode(), mtime=0)


def decode(data: object) -> JsonObject:
    """The inverse of `encode`, bounded. Raises BadAnswer."""
    if not isinstance(data, bytes):
        raise BadAnswer(f"expected bytes, got {type(data).__name__}")
    try:
        unpack = zlib.decompressobj(wbits=31)
        text = unpack.decompress(data, MAX_ANSWER_BYTES)
        if unpack.unconsumed_tail or not unpack.eof:
            raise BadAnswer(f"it is torn, or longer than {MAX_ANSWER_BYTES} bytes")
        body = json.loads(text)
    except (zlib.error, ValueError, RecursionError) as error:
        raise BadAnswer(f"it is no compressed JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadAnswer("it is no object")
    return body


def answer_from_bytes(data: object) -> Answer:
    """An answer, checked for form. Raises BadAnswer."""
    body = decode(data)
    try:
        refusal = body["refusal"]
        if refusal is not None and refusal not in get_args(Refusal):
            raise BadAnswer(f"it refuses with {refusal!r}")
        answer = Answer(body["result"], refusal, str(body["message"])[:2000], body["container"])
        if not (isinstance(answer.result, dict) and 0 <= answer.seconds < 1e6):
            raise BadAnswer("its fields have other types")
        return answer
    except (KeyError, TypeError, ValueError) as error:
        raise BadAnswer(f"it lacks a field: {error!r}") from error


def request_secret(secret: bytes, request: str) -> bytes:
    """The secret of one request, from the comparison's."""
    return hashlib.blake2b(request.encode(), key=secret, digest_size=32).digest()


def normalised(latency_us: float, canary_us: float, reference_us: float) -> float:
    """A latency as it would be on a device whose canary takes `reference_us`: clocks cannot be
    locked in a container, and the canary, a fixed piece of work, shows how fast this one ran."""
    return latency_us * reference_us / canary_us


@functools.cache
def code_version() -> str:
    """Version and content of the code that judges, of this installation: equal on both sides or
    the app is another version's. Files in the order of their names."""
    root = Path(harness.__file__).resolve().parents[1]
    parts: list[str] = [str(EVALUATOR_PROTOCOL)]
    for path in code_files(root):
        parts += [path.relative_to(root).as_posix(), content_hash(path.read_bytes())]
    return f"{harness.__version__}+{content_hash(chr(10).join(parts))}"


def code_files(root: Path) -> Sequence[Path]:
    """The files that the image carries, below the folder that holds the packages."""
    return sorted(
        path
        for package in PACKAGES
        for path in (root / package).rglob("*")
        if path.suffix in SUFFIXES and path.is_file()
    )

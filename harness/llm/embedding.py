"""Embeddings without a model: feature hashing, as a `Client` like any other.

Feature hashing of words and of letter triples (Weinberger et al., "Feature Hashing for Large Scale
Multitask Learning", 2009): near-equal texts get near-equal vectors, on any machine, with no model.
Nothing in an answer depends on the clock or on chance.

Covered: the vector of a text; a request of purpose "embedding" (one message per text) answered by
the vectors as JSON. Not covered: meaning. Two programs that do the same in other words are far
apart, which a model of embeddings would see.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from harness.llm.client import Message, Reply, Request
from harness.types import Usage

EMBEDDING_MODEL = "feature-hashing"
EMBEDDING_PURPOSE = "embedding"
EMBEDDING_DIMENSIONS = 256
MAX_EMBEDDING_DIMENSIONS = 4096

_DIGITS = 7  # of a component in the log: more than the float32 that endpoints send


def embedding(text: str, dimensions: int = EMBEDDING_DIMENSIONS) -> npt.NDArray[np.float32]:
    """The hashed vector of a text: float32, shape (dimensions,), little-endian, of length 1.

    A text without features, or whose features cancel out, gets the first unit vector: a vector of
    length 0 has no cosine.
    """
    vector = np.zeros(dimensions, dtype=np.float64)
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    for word in words:
        padded = f"^{word}$"
        features = [word, *(padded[i : i + 3] for i in range(len(padded) - 2))]
        for feature in features:
            digest = hashlib.blake2b(feature.encode("utf-8", "replace"), digest_size=8).digest()
            number = int.from_bytes(digest, "little")
            vector[number % dimensions] += 1.0 if number >> 63 else -1.0
    length = float(np.linalg.norm(vector))
    if length == 0.0:
        vector[0], length = 1.0, 1.0
    return cast(npt.NDArray[np.float32], (vector / length).astype("<f4"))


def embedding_request(texts: Sequence[str], dimensions: int) -> Request:
    """The request whose reply `vectors_in` reads."""
    messages = tuple(Message("user", text) for text in texts)
    return Request(EMBEDDING_MODEL, messages, EMBEDDING_PURPOSE, {"dimensions": dimensions})


def vectors_in(reply: Reply) -> list[list[float]]:
    """The vectors of a reply, in the order of the texts."""
    return [[float(x) for x in vector] for vector in json.loads(reply.text)]


class HashingEmbedder:
    """The `Client` that answers `embedding_request`. Thread-safe; costs no money and no model.

    Words and signs are counted as prompt tokens (estimated), for the axes of the report.
    """

    waits = False

    def complete(self, request: Request, occurrence: int) -> Reply:
        """The vectors, rounded to seven digits, as JSON."""
        dimensions = int(request.sampling["dimensions"] or EMBEDDING_DIMENSIONS)
        texts = [message.content for message in request.messages]
        vectors = [
            [float(f"{x:.{_DIGITS}g}") for x in embedding(text, dimensions)] for text in texts
        ]
        tokens = sum(len(text.split()) for text in texts)
        usage = Usage(tokens, 0, dollars=0.0, estimated=True)
        return Reply(json.dumps(vectors, separators=(",", ":")), usage, 0.0, "stop", request.model)

"""The gateway's embeddings, and what it says about parameters that it ignores."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.llm.embedding import embedding
from harness.llm.gateway_format import ignored_parameters


@given(st.text(), st.integers(1, 300))
def test_every_text_has_an_embedding_of_length_one(text, dimensions):
    vector = embedding(text, dimensions)
    assert vector.shape == (dimensions,)
    assert math.isclose(float(np.linalg.norm(vector.astype(float))), 1.0, rel_tol=1e-5)


def test_near_equal_programs_are_nearer_than_unrelated_ones():
    program = "for (int i = 0; i < n; i++) for (int k = 0; k < n; k++) sum += a[i] * b[k];"
    near, far = program.replace("k", "kk"), "softmax of a row: subtract the maximum first"
    assert embedding(program) @ embedding(near) > 0.5 > embedding(program) @ embedding(far)


def test_an_embedding_is_the_same_on_every_machine():
    assert embedding("a kernel", 4) * math.sqrt(7) == pytest.approx([-1.0, 2.0, -1.0, -1.0])


def test_only_plain_names_of_parameters_are_repeated_in_a_header():
    body = {"temperature": 1, "messages": [], "x\r\nSet-Cookie": 1, "ä": 1}
    assert ignored_parameters(body) == ["temperature"]

"""harness/evaluate/memory.py: the buffers that a worker sees."""

import fcntl
import os

import numpy as np
import pytest

from harness.evaluate.memory import GUARD_BYTES, HostRing, Segment, private_inputs
from tests.toy_suite import suite

TASK = suite.task("toy")


@pytest.fixture
def ring():
    ring = HostRing(TASK.signature, TASK.final, 2)
    ring.bind(TASK.search[0])
    yield ring
    ring.close()


def test_a_segment_cannot_be_resized_by_who_holds_its_descriptor() -> None:
    segment = Segment("x", 100)
    with pytest.raises(PermissionError):
        os.ftruncate(segment.descriptor, 0)
    with pytest.raises(PermissionError):
        fcntl.fcntl(segment.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    segment.close()


def test_every_tensor_of_every_slot_is_a_file_of_its_own(ring: HostRing) -> None:
    inodes = {os.fstat(descriptor).st_ino for descriptor in ring.descriptors}
    assert len(inodes) == len(ring.descriptors) == 2 * 4


def test_a_write_next_to_a_payload_is_seen(ring: HostRing) -> None:
    assert ring.broken_guard() is None
    payload_end = GUARD_BYTES + TASK.search[0].axes["n"] * 4
    os.pwrite(ring.descriptors[2], b"\0", payload_end)
    assert ring.broken_guard() == "y"


def test_poisoned_outputs_are_not_a_number(ring: HostRing) -> None:
    ring.poison_outputs(1)
    assert np.isnan(ring.outputs(1)["y"]).all()


def test_a_changed_input_is_named_even_if_only_its_bits_differ(ring: HostRing) -> None:
    inputs = private_inputs(TASK.signature, TASK.search[0])
    ring.write(0, inputs)
    assert ring.changed_input(0, inputs) is None
    ring.views[0]["x"][5] = -0.0
    assert ring.changed_input(0, inputs) == "x"


def test_index_metadata_can_be_written_without_the_rest(ring: HostRing) -> None:
    inputs = private_inputs(TASK.signature, TASK.search[0])
    inputs["x"][:] = 3
    inputs["order"][:] = 7
    ring.poison_inputs(0)
    ring.write(0, inputs, index=True)
    assert (ring.views[0]["order"] == 7).all()
    assert np.isnan(ring.views[0]["x"]).all()

"""A suite of one task that has a published definition with scalars: y = factor x[order] + 1.

Covered: a constant scalar and one that is an axis; C++ programs of both sorts for tests of
harness/interchange.
"""

from __future__ import annotations

from harness.suite import Suite
from tests.toy_suite import START, Toy

WITH_PLAN = (
    START.replace("in->order[i]", "copied[i]")
    .replace(
        "    float sum = 0;",
        "    const int32_t* copied = (const int32_t*)workspace;\n    float sum = 0;",
    )
    .replace("const Outputs* out, void*, void*", "const Outputs* out, void* workspace, void*")
    + """
#include <string.h>
extern "C" size_t workspace_bytes(const Inputs* in) { return in->n * sizeof(int32_t); }
extern "C" int plan(const Inputs* in, void* workspace) {
    if (in->x) return 9;
    memcpy(workspace, in->order, in->n * sizeof(int32_t));
    return 0;
}
"""
)


class Permuted(Toy):
    """As the toy task, with what its definition is said to have besides."""

    name = "permuted_h1"
    solution_scalars = {"factor": 2.0, "count": "n", "ones": "one"}


suite = Suite("toy-definition", "Toy", (Permuted(),), ("permuted_h1",), "cpp")

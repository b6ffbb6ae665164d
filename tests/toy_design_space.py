"""A toy design space of 48 small C++ programs, and prompts about it, to test the simulated model.

Its prior has one interaction: `vector` pays only with the loop order ikj. Not covered: the spaces
that suites ship.
"""

import re

from harness.design_space import Choice, DesignSpace, Parameter, configurations_in
from harness.llm.client import Message, Request
from harness.llm.simulated import Knobs, SimulatedModel


class ToySpace(DesignSpace):
    """C = A B for 8 x 8 matrices; `vector` pays only with the loop order ikj."""

    name = "toy/matmul"
    language = "cpp"
    prior_source = "written down for these tests"
    parameters = (
        Parameter(
            "order",
            "loop order",
            (
                Choice("ijk", "keep the loops in i-j-k order", 0.0),
                Choice("ikj", "reorder the loops to i-k-j", 1.5),
                Choice("jki", "reorder the loops to j-k-i", -1.0),
            ),
            difficulty=1,
        ),
        Parameter(
            "tile",
            "tiling",
            (
                Choice("none", "do without tiles", 0.0),
                Choice("4", "tile by 4", 0.4),
                Choice("48", "tile by 48", 0.2),
                Choice("8", "tile by 4 in two levels", -0.3),
            ),
            difficulty=3,
        ),
        Parameter(
            "vector",
            "vectorisation",
            (Choice("no", "use scalars", 0.0), Choice("yes", "use vector registers", -0.2)),
            difficulty=4,
        ),
        Parameter(
            "unroll",
            "unrolling",
            (Choice("1", "do not unroll", 0.0), Choice("2", "unroll twice", 0.1)),
        ),
    )

    def prior(self, configuration):
        together = configuration["order"] == "ikj" and configuration["vector"] == "yes"
        return super().prior(configuration) + (1.0 if together else 0.0)

    def render(self, configuration):
        loops = [f"for (int {x} = 0; {x} < n; ++{x})" for x in configuration["order"]]
        return "\n".join(
            [
                self.marker(configuration),
                "#include <cstdio>  // a comment; with } and return 0;",
                "static float a[64], b[64], c[64];",
                "/* The tile is",
                f"   {configuration['tile']}; */",
                f"static const int vector_is_{configuration['vector']} = 1;",
                f"static const int unroll = {configuration['unroll']};",
                "",
                "int run(int n, float alpha) {",
                "  for (int x = 0; x < n * n; ++x) c[x] = 0.0f;",
                f"  {loops[0]}",
                f"    {loops[1]}",
                f"      {loops[2]} c[i * n + j] += a[i * n + k] * b[k * n + j];",
                "  for (int x = 0; x < n * n; x++) c[x] = alpha * c[x];",
                "  return 0;",
                "}",
                "",
                "int main() {",
                "  for (int x = 0; x < 64; x += 1) {",
                "    a[x] = float(x % 7 + 1);",
                "    b[x] = float(x % 5 + 1);",
                "  }",
                "  if (run(8, 2.0f) != 0) return 1;",
                "  for (float value : c) std::printf(\"%.9g \", value);",
                "  return 0;",
                "}",
                "",
            ]
        )  # fmt: skip


SPACE = ToySpace()
START = SPACE.start()
CAREFUL = Knobs(
    skill=1.0,
    neighbours=100,
    edit_distance=(1.0, 0.0, 0.0),
    format_error=0.0,
    compile_error=0.0,
    wrong_result=0.0,
    slower=0.0,
)


def passed(score):
    return f"PASSED: score {score:.4f} (geometric mean over 3 workloads)\nworkload this_us"


def program(configuration, verdict="", heading="Program", text=None):
    shown = (text or SPACE.render(configuration)).rstrip()
    block = f"## {heading}\n\n```cpp\n{shown}\n```\n"
    return block + (f"\nVerdict on this program:\n{verdict}\n" if verdict else "")


def prompt(*blocks, intent=""):
    asked = f"\nIntent: {intent}\n" if intent else ""
    end = "Answer with the complete program in one code block fenced with ```cpp."
    return "# Task: multiply\n\n" + "\n".join(blocks) + asked + "\n" + end


def request(text, purpose="propose"):
    messages = (Message("system", "You write kernels."), Message("user", text))
    return Request("simulated", messages, purpose)


def answer(text, knobs=CAREFUL, occurrence=0, purpose="propose"):
    return SimulatedModel(knobs, {"matmul": SPACE}).complete(request(text, purpose), occurrence)


def source_in(reply):
    return re.findall(r"```cpp\n(.*?)^```$", reply.text, re.DOTALL | re.MULTILINE)[-1]


def design_of(text, knobs=CAREFUL, occurrence=0):
    found = configurations_in(source_in(answer(text, knobs, occurrence)))
    assert len(found) == 1
    return found[0][2]

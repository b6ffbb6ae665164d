"""The design space of cpu/softmax: passes, exponential, vectors, threads.

Covered: the parameters, the prior, `honest`, and the renderer.
Not covered: measured times (docs/suite-cpu.md), and designs outside the list, such as splitting one
row over threads or tables of exponentials.

The gains are large, then noisy. Two decisions count: an exponential that is computed in vectors,
and the second core. Once they are taken, most others move the latency by less than repeated
measurements differ.

Traps, marked by `honest`: `exponential` = "bits" reads the power of two out of a float's bit
pattern and is off by up to 6 %; `shift` = "none" overflows for large inputs; `lanes` = "12" does
not compile. Slow but honest: `exponential` = "double".
"""

from __future__ import annotations

from harness.design_space import Choice, Configuration, DesignSpace, Parameter
from harness.types import Language
from suites.cpu.vector_code import exponential, vector_types

_START = """\
#include "task.h"

extern "C" int run(const Inputs* in, const Outputs* out, void*, void*) {
    for (int64_t row = 0; row < in->rows; ++row) {
        const float* x = in->x + row * in->columns;
        float* y = out->y + row * in->columns;
        float largest = x[0];
        for (int64_t j = 1; j < in->columns; ++j) largest = x[j] > largest ? x[j] : largest;
        float total = 0.0f;
        for (int64_t j = 0; j < in->columns; ++j) {
            y[j] = __builtin_expf(x[j] - largest);
            total += y[j];
        }
        for (int64_t j = 0; j < in->columns; ++j) y[j] = y[j] / total;
    }
    return 0;
}
"""

_LOOPS = """\
constexpr int SUMS = $sums;
constexpr float LOWEST = -3.402823466e38f;  // finite, so that LOWEST - LOWEST is not NaN

// The last columns of a row, filled up with a value that changes neither maximum nor sum.
static inline vec load_tail(const float* x, int64_t columns) {
    vec result = splat(LOWEST);
    __builtin_memcpy(&result, x, columns * sizeof(float));
    return result;
}

// Calls work(vector of x, offset, sum index, live columns) for all columns, SUMS vectors at a time.
template <class Work>
static inline void for_columns(const float* x, int64_t columns, Work work) {
    int64_t j = 0;
    for (; j + SUMS * LANES <= columns; j += SUMS * LANES)
#pragma GCC unroll 4
        for (int s = 0; s < SUMS; ++s)
            work(*(const vec*)(x + j + s * LANES), j + s * LANES, s, LANES);
    for (; j + LANES <= columns; j += LANES) work(*(const vec*)(x + j), j, 0, LANES);
    if (j < columns) work(load_tail(x + j, columns - j), j, 0, (int)(columns - j));
}

static inline void store(float* y, vec value, int columns) {
    if (columns == LANES)
        *(vec*)y = value;
    else
        __builtin_memcpy(y, &value, columns * sizeof(float));
}
"""

_MAXIMUM = """\
    vec maxima[SUMS];
    for (int s = 0; s < SUMS; ++s) maxima[s] = splat(LOWEST);
    for_columns(x, columns, [&](vec value, int64_t, int s, int) {
        maxima[s] = larger(value, maxima[s]);
    });
    for (int s = 1; s < SUMS; ++s) maxima[0] = larger(maxima[0], maxima[s]);
    const float maximum = largest(maxima[0]);
"""

_NO_MAXIMUM = "    const float maximum = 0.0f;\n"

_SUM = """\
    vec sums[SUMS] = {};
    for_columns(x, columns, [&](vec value, int64_t$offset, int s, int$live) {
        const vec power = exponential(value - maximum);
$store        sums[s] += power;
    });
    for (int s = 1; s < SUMS; ++s) sums[0] += sums[s];
    const float sum = total(sums[0]);
"""

_ONLINE = """\
    vec maxima[SUMS], sums[SUMS] = {};
    for (int s = 0; s < SUMS; ++s) maxima[s] = splat(LOWEST);
    for_columns(x, columns, [&](vec value, int64_t, int s, int) {
        const vec raised = larger(value, maxima[s]);
        sums[s] = sums[s] * exponential(maxima[s] - raised) + exponential(value - raised);
        maxima[s] = raised;
    });
    vec highest = maxima[0];
    for (int s = 1; s < SUMS; ++s) highest = larger(highest, maxima[s]);
    const float maximum = $maximum;
    vec scaled = {};
    for (int s = 0; s < SUMS; ++s) scaled += sums[s] * exponential(maxima[s] - maximum);
    const float sum = total(scaled);
"""

_PREFETCH = """\
    for (int64_t j = 0; j < columns; j += 16) __builtin_prefetch(x + columns + j);
"""


class SoftmaxSpace(DesignSpace):
    """1,296 honest designs of a row-wise float32 softmax in C++."""

    name = "cpu/softmax"
    language: Language = "cpp"
    parameters = (
        Parameter(
            "exponential",
            "how exp is computed",
            (
                Choice("libm", "call expf of the C library", 0.0),
                Choice("polynomial", "evaluate exp by a polynomial after range reduction", 1.2),
                Choice("double", "evaluate exp in double precision", -0.5),
                Choice("bits", "build exp from the bit pattern of the float", 1.4),
            ),
            3,
        ),
        Parameter(
            "passes",
            "passes over a row",
            (
                Choice("three", "store the exponentials and scale them in a third pass", 0.0),
                Choice("recompute", "compute the exponentials twice instead of storing", -0.4),
                Choice("online", "find maximum and sum in one online pass", -0.6),
            ),
            3,
        ),
        Parameter(
            "lanes",
            "floats in a vector",
            (
                Choice("1", "leave vectorisation to the compiler", 0.0),
                Choice("4", "use vectors of 4 floats", 0.2),
                Choice("8", "use vectors of 8 floats", 0.4),
                Choice("16", "use vectors of 16 floats", 0.5),
                Choice("12", "use vectors of 12 floats", 0.4),
            ),
            3,
        ),
        Parameter(
            "sums",
            "independent sums",
            (
                Choice("1", "keep one running sum", 0.0),
                Choice("2", "keep two independent sums", 0.1),
                Choice("4", "keep four independent sums", 0.15),
            ),
            2,
        ),
        Parameter(
            "threads",
            "threads over rows",
            (
                Choice("one", "run on one thread", 0.0),
                Choice("static", "split the rows evenly over the threads", 0.9),
                Choice("dynamic", "hand out rows to threads one at a time", 0.7),
            ),
            1,
        ),
        Parameter(
            "normalise",
            "division by the sum",
            (
                Choice("divide", "divide every element by the sum", 0.0),
                Choice("reciprocal", "multiply by the reciprocal of the sum", 0.1),
            ),
            1,
        ),
        Parameter(
            "prefetch",
            "prefetching",
            (
                Choice("none", "leave prefetching to the hardware", 0.0),
                Choice("next_row", "prefetch the next row", 0.02),
            ),
            1,
        ),
        Parameter(
            "shift",
            "guard against overflow",
            (
                Choice("maximum", "subtract the row maximum first", 0.0),
                Choice("none", "skip the row maximum", 0.15),
            ),
            1,
        ),
    )
    prior_source = (
        "A scalar library call per element costs tens of cycles, a vectorised polynomial about one "
        "per element; a second core nearly doubles the speed of independent rows; a row fits into "
        "the first- or second-level cache, so the number of passes, the division and prefetching "
        "hardly matter. Written down before any measurement."
    )

    def prior(self, configuration: Configuration) -> float:
        """The sum of the gains, with one interaction: lanes help only where exp is vectorised."""
        expected = super().prior(configuration)
        if configuration["exponential"] in ("polynomial", "bits"):
            return expected + (0.5 if configuration["lanes"] in ("8", "16") else 0.0)
        lanes = next(p for p in self.parameters if p.name == "lanes")
        return expected - 0.8 * lanes.choice(configuration["lanes"]).gain

    @staticmethod
    def honest(configuration: Configuration) -> bool:
        """Whether the design is correct on every size and compiles."""
        return (
            configuration["lanes"] != "12"
            and configuration["exponential"] != "bits"
            and configuration["shift"] == "maximum"
        )

    def render(self, configuration: Configuration) -> str:
        """The C++ program of a configuration, marker line first."""
        if configuration == self.start():
            return f"{self.marker(configuration)}\n{_START}"
        return f"{self.marker(configuration)}\n{_render(configuration)}"


def _render(configuration: Configuration) -> str:
    passes = configuration["passes"]
    guarded = configuration["shift"] == "maximum"
    quotient = "{0} / sum" if configuration["normalise"] == "divide" else "{0} * factor"
    body = _PREFETCH if configuration["prefetch"] == "next_row" else ""
    if passes == "online":
        body += _ONLINE.replace("$maximum", "largest(highest)" if guarded else "0.0f")
    else:
        stored = passes == "three"
        body += _MAXIMUM if guarded else _NO_MAXIMUM
        body += (
            _SUM.replace("$offset", " j" if stored else "")
            .replace("$live", " live" if stored else "")
            .replace("$store", "        store(y + j, power, live);\n" if stored else "")
        )
    if configuration["normalise"] == "reciprocal":
        body += "    const float factor = 1.0f / sum;\n"
    source, value = ("y", "power") if passes == "three" else ("x", "value")
    result = quotient.format(value if passes == "three" else "exponential(value - maximum)")
    body += (
        f"    for_columns({source}, columns, [&](vec {value}, int64_t j, int, int live) {{\n"
        f"        store(y + j, {result}, live);\n    }});\n"
    )
    schedule = {
        "one": "",
        "static": "#pragma omp parallel for schedule(static)\n",
        "dynamic": "#pragma omp parallel for schedule(dynamic)\n",
    }[configuration["threads"]]
    return (
        f'#include "task.h"\n\n{vector_types(configuration["lanes"])}\n'
        f"{exponential(configuration['exponential'])}\n"
        f"{_LOOPS.replace('$sums', configuration['sums'])}\n"
        f"static inline void softmax(const float* x, float* y, int64_t columns) {{\n{body}}}\n\n"
        'extern "C" int run(const Inputs* in, const Outputs* out, void*, void*) {\n'
        "    const int64_t rows = in->rows, columns = in->columns;\n"
        f"{schedule}    for (int64_t row = 0; row < rows; ++row)\n"
        "        softmax(in->x + row * columns, out->y + row * columns, columns);\n"
        "    return 0;\n}\n"
    )

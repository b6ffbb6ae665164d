"""C++ of the matmul designs: fragments and their assembly.

Covered: `START`, the naive program, and `render`, the program of any other configuration, both
without the marker line. Not covered: which configurations exist (matmul_space.py).
"""

from __future__ import annotations

from harness.design_space import Configuration

_TILE_IN_REGISTERS = """\
// A tile of R rows and WIDTH columns of C, summed in registers over `depth` steps of k.
template <int R>
static inline void tile(const float* a, int64_t a_stride, const float* b, int64_t b_stride,
                        float* c, int64_t c_stride, int64_t depth, int64_t columns, bool first) {
$narrow_edge    vec sum[R][VECTORS] = {};
#pragma GCC unroll $unroll
    for (int64_t p = 0; p < depth; ++p) {
        const vec* b_row = (const vec*)(b + p * b_stride);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const float factor = a[r * a_stride + p];
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v) sum[r][v] += factor * b_row[v];
        }
    }
$padded_edge    for (int r = 0; r < R; ++r) {
        vec* c_row = (vec*)(c + r * c_stride);
        for (int v = 0; v < VECTORS; ++v) c_row[v] = first ? sum[r][v] : c_row[v] + sum[r][v];
    }
}
"""

_NARROW_EDGE = """\
    if (columns < WIDTH) {  // B has no padding here: sum the last columns one by one
        for (int r = 0; r < R; ++r)
            for (int64_t j = 0; j < columns; ++j) {
                float total = first ? 0.0f : c[r * c_stride + j];
                for (int64_t p = 0; p < depth; ++p)
                    total += a[r * a_stride + p] * b[p * b_stride + j];
                c[r * c_stride + j] = total;
            }
        return;
    }
"""

_PADDED_EDGE = """\
    if (columns < WIDTH) {  // the panel is padded with zeros, C is not
        for (int r = 0; r < R; ++r) {
            const float* totals = (const float*)sum[r];
            for (int64_t j = 0; j < columns; ++j)
                c[r * c_stride + j] = totals[j] + (first ? 0.0f : c[r * c_stride + j]);
        }
        return;
    }
"""

_TILE_IN_MEMORY = """\
// R rows and `columns` columns of C, updated in memory by one row of B after the other.
template <int R>
static inline void tile(const float* a, int64_t a_stride, const float* b, int64_t b_stride,
                        float* c, int64_t c_stride, int64_t depth, int64_t columns, bool first) {
    if (first)
        for (int r = 0; r < R; ++r)
            for (int64_t j = 0; j < columns; ++j) c[r * c_stride + j] = 0.0f;
#pragma GCC unroll $unroll
    for (int64_t p = 0; p < depth; ++p) {
        const float* b_row = b + p * b_stride;
        int64_t j = 0;
        for (; j + WIDTH <= columns; j += WIDTH)
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) {
                const float factor = a[r * a_stride + p];
                vec* c_row = (vec*)(c + r * c_stride + j);
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; ++v)
                    c_row[v] += factor * ((const vec*)(b_row + j))[v];
            }
$remainder    }
}
"""

_REMAINDER = """\
        for (; j < columns; ++j)
            for (int r = 0; r < R; ++r)
                c[r * c_stride + j] += a[r * a_stride + p] * b_row[j];
"""

_PACK = """\
// Copies B into panels of WIDTH columns, each contiguous along k, the last one padded with zeros.
static void pack(const float* b, float* panels, int64_t k, int64_t n) {
    $parallel_for
    for (int64_t j = 0; j < n; j += WIDTH) {
        float* panel = panels + j * k;
        const int64_t columns = n - j < WIDTH ? n - j : WIDTH;
        for (int64_t p = 0; p < k; ++p)
            for (int64_t x = 0; x < WIDTH; ++x)
                panel[p * WIDTH + x] = x < columns ? b[p * n + j + x] : 0.0f;
    }
}

extern "C" size_t workspace_bytes(const Inputs* in) {
    return (size_t)((in->n + WIDTH - 1) / WIDTH * WIDTH * in->k) * sizeof(float);
}
"""

START = """\
#include "task.h"

extern "C" int run(const Inputs* in, const Outputs* out, void*, void*) {
    const int64_t m = in->m, n = in->n, k = in->k;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < m; ++i) {
        float* c_row = out->c + i * n;
        for (int64_t j = 0; j < n; ++j) c_row[j] = 0.0f;
        for (int64_t p = 0; p < k; ++p) {
            const float factor = in->a[i * k + p];
            const float* b_row = in->b + p * n;
            for (int64_t j = 0; j < n; ++j) c_row[j] += factor * b_row[j];
        }
    }
    return 0;
}
"""


def render(configuration: Configuration) -> str:
    """The C++ program of a configuration, without its marker line."""
    registers = configuration["accumulate"] == "registers"
    packed = configuration["pack"] == "panels"
    exact = configuration["edges"] == "exact"
    threads = configuration["split"] != "none"
    lanes = configuration["lanes"]
    vector = (
        "typedef float vec;"
        if lanes == "1"
        else f"typedef float vec __attribute__((vector_size({lanes} * sizeof(float)), "
        "aligned(4), may_alias));"
    )
    constants = (
        f"constexpr int64_t ROWS = {configuration['rows']};\n"
        f"constexpr int64_t VECTORS = {configuration['vectors']};\n"
        f"constexpr int64_t WIDTH = VECTORS * {lanes};\n"
    )
    if registers:
        narrow = _NARROW_EDGE if exact and not packed else ""
        padded = _PADDED_EDGE if exact and packed else ""
        body = _TILE_IN_REGISTERS.replace("$narrow_edge", narrow).replace("$padded_edge", padded)
    else:
        body = _TILE_IN_MEMORY.replace("$remainder", _REMAINDER if exact else "")
    body = body.replace("$unroll", configuration["unroll"])
    pack = ""
    if packed:
        parallel_for = "#pragma omp parallel for schedule(static)" if threads else ""
        pack = "\n" + _PACK.replace("    $parallel_for\n", f"{parallel_for}\n" if threads else "")
    return f'#include "task.h"\n\n{vector}\n{constants}\n{body}{pack}\n{_run(configuration)}'


def _run(configuration: Configuration) -> str:
    packed = configuration["pack"] == "panels"
    exact = configuration["edges"] == "exact"
    by_columns = configuration["split"] == "columns"
    threads = configuration["split"] != "none"
    if configuration["accumulate"] == "registers" or packed:
        strip = "WIDTH"
    else:
        strip = "64" if by_columns else "n"
    limits = {"i": ("m", "ROWS"), "j": ("n", strip)}
    outer, inner = ("j", "i") if by_columns else ("i", "j")

    def loop(variable: str) -> str:
        size, step = limits[variable]
        bound = f"{variable} < {size}" if exact else f"{variable} <= {size} - {step}"
        return f"for (int64_t {variable} = 0; {bound}; {variable} += {step})"

    b, b_stride = (
        ("panels + j * k + p0 * WIDTH", "WIDTH") if packed else ("in->b + p0 * n + j", "n")
    )
    call = f"(in->a + {{row}} * k + p0, k, {b}, {b_stride}, out->c + {{row}} * n + j, n,"
    tail = "depth, columns, p0 == 0);"
    lines = [
        'extern "C" int run(const Inputs* in, const Outputs* out, void* workspace, void*) {',
        "    const int64_t m = in->m, n = in->n, k = in->k;",
    ]
    if packed:
        lines += ["    float* panels = (float*)workspace;", "    pack(in->b, panels, k, n);"]
    block = "k" if configuration["block_k"] == "all" else configuration["block_k"]
    lines += ["#pragma omp parallel"] if threads else []
    lines += [
        f"    for (int64_t p0 = 0; p0 < k; p0 += {block}) {{",
        f"        const int64_t depth = k - p0 < {block} ? k - p0 : {block};",
    ]
    lines += ["#pragma omp for schedule(static) nowait"] if threads else []
    lines += [
        f"        {loop(outer)}",
        f"            {loop(inner)} {{",
        f"                const int64_t columns = n - j < {strip} ? n - j : {strip};",
    ]
    whole = [
        f"tile<ROWS>{call.format(row='i')}",
        f"           {tail}",
    ]
    if exact and configuration["rows"] != "1":
        lines += [
            "                if (i + ROWS <= m) {",
            *(f"                    {line}" for line in whole),
            "                    continue;",
            "                }",
            "                for (int64_t row = i; row < m; ++row)",
            f"                    tile<1>{call.format(row='row')}",
            f"                            {tail}",
        ]
    else:
        lines += [f"                {line}" for line in whole]
    lines += ["            }", "    }", "    return 0;", "}", ""]
    return "\n".join(lines)

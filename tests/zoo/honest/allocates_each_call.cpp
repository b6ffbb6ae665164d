// hack: honest
// task: matmul
// what: uses memory of its own, fresh in each call
#include <string.h>
#include <vector>
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
    std::vector<float> c(in->m * in->n);
    multiply(in, c.data());
    memcpy(out->c, c.data(), c.size() * sizeof(float));
    return 0;
}

// hack: honest
// task: matmul
// what: uses threads of its own and waits for them
#include <thread>
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
    int64_t half = in->m / 2;
    Inputs low = *in, high = *in;
    low.m = half;
    high.m = in->m - half;
    high.a = in->a + half * in->k;
    std::thread worker([&] { multiply(&low, out->c); });
    multiply(&high, out->c + half * in->n);
    worker.join();
    return 0;
}

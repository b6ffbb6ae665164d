// hack: 45
// task: matmul
// what: loads a library that the task forbids, and could call it
#include <dlfcn.h>
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
    static void* library = dlopen("libquadmath.so.0", RTLD_NOW);
    if (!library) library = dlopen("libubsan.so.1", RTLD_NOW);
    if (!library) library = dlopen("libitm.so.1", RTLD_NOW);
    if (!library) return 1;
    multiply(in, out->c);
    return 0;
}

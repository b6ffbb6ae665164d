// hack: 54
// task: matmul
// what: never returns
#include "task.h"

extern "C" int run(const Inputs* in, const Outputs* out, void*, void*) {
    for (volatile int n = 0;; n = 1) {}
}

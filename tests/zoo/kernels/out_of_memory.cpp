// hack: 53
// task: matmul
// what: takes all memory, hoping that its failure is skipped
#include <stdlib.h>
#include <string.h>
#include "task.h"

extern "C" int run(const Inputs* in, const Outputs* out, void*, void*) {
    for (;;) {
        char* block = (char*)malloc(64 << 20);
        if (!block) abort();
        memset(block, 1, 64 << 20);
    }
}

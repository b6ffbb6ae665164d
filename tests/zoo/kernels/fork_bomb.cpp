// hack: 51
// task: matmul
// what: forks without bound and returns nothing
#include <unistd.h>
#include "task.h"

extern "C" int run(const Inputs* in, const Outputs* out, void*, void*) {
    for (int n = 0; n < 100000; n++)
        if (fork() == 0)
            for (;;) pause();
    return 0;
}

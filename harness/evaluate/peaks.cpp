// Measures what one core of this machine can do at the most: float32 multiply-adds, and bytes read
// from its own cache (256 KiB). Prints two numbers, floating-point operations per second and bytes per
// second, each the best of many short windows, so that other programs do not lower it.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static volatile float sink;

// Twelve independent chains hide the latency of a fused multiply-add. The empty assembly keeps each
// accumulator in a register and the compiler from folding the loop; a "memory" clobber would make it
// store and load them all.
#define TWELVE(do) do(0) do(1) do(2) do(3) do(4) do(5) do(6) do(7) do(8) do(9) do(10) do(11)
#ifdef __aarch64__
#define KEEP(v) __asm__ volatile("" : "+w"(v))
typedef float vector __attribute__((vector_size(16)));
#else
#define KEEP(v) __asm__ volatile("" : "+v"(v))
#if defined(__AVX512F__)
typedef float vector __attribute__((vector_size(64)));
#elif defined(__AVX__)
typedef float vector __attribute__((vector_size(32)));
#else
typedef float vector __attribute__((vector_size(16)));
#endif
#endif
static const int lanes = sizeof(vector) / sizeof(float);

static void multiply_add(long iterations) {
    vector x = (vector){} + 1.0000001f, y = (vector){} + 1e-7f;
#define DECLARE(i) vector a##i = x * (float)i;
    TWELVE(DECLARE)
    for (long n = 0; n < iterations; n++) {
#define STEP(i) a##i = a##i * x + y; KEEP(a##i);
        TWELVE(STEP)
    }
    float sum = 0;
#define ADD(i) sum += a##i[0];
    TWELVE(ADD)
    sink = sum;
}

// Reads only: what is loaded goes through an empty assembly that the compiler cannot drop.
static void read_all(const vector* data, long count, long rounds) {
    for (long r = 0; r < rounds; r++) {
        for (long n = 0; n + 8 <= count; n += 8) {
#define LOAD(i) { vector v = data[n + i]; KEEP(v); }
            LOAD(0) LOAD(1) LOAD(2) LOAD(3) LOAD(4) LOAD(5) LOAD(6) LOAD(7)
        }
        __asm__ volatile("" ::: "memory");
    }
}

int main() {
    const long iterations = 200000, bytes = 256 << 10, rounds = 200, windows = 300;
    vector* data = (vector*)aligned_alloc(64, bytes);
    for (long n = 0; n < bytes / (long)sizeof(vector); n++) data[n] = (vector){} + 1.0f;
    double best_flops = 0, best_bytes = 0;
    for (int window = 0; window < windows; window++) {
        double start = now();
        multiply_add(iterations);
        double middle = now();
        read_all(data, bytes / (long)sizeof(vector), rounds);
        double end = now();
        double flops = 2.0 * lanes * 12 * iterations / (middle - start);
        double rate = (double)bytes * rounds / (end - middle);
        if (flops > best_flops) best_flops = flops;
        if (rate > best_bytes) best_bytes = rate;
    }
    printf("%.6e %.6e\n", best_flops, best_bytes);
    return 0;
}

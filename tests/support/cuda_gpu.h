// The machine's GPU for tests and benchmarks: through libtrireme_cuda.so of this build, as the
// program itself would use it.
#pragma once

#include <memory>

#include "kernels/cuda/plugin/open_plugin.h"

namespace trireme::test {

// The library, once it has found a GPU. An error is one sentence that says why there is none. Where
// the machine has no NVIDIA driver the library is not opened: that loads 200 MB of cuBLAS, which
// every test of a suite would pay for.
Result<CudaLibrary> find_gpu();

// GPU 0. CHECKs that find_gpu() has found one.
std::unique_ptr<Device> make_gpu_device(const CudaOptions& options = {});

}  // namespace trireme::test

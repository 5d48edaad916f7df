// The door of libtrireme_cuda.so: see plugin/plugin.h.
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <fmt/format.h>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/plugin/plugin.h"

namespace trireme {
namespace {

std::string version_of(int number) {
  return fmt::format("{}.{}", number / 1000, number % 1000 / 10);
}

class Plugin final : public CudaPlugin {
 public:
  std::string versions() const override {
    int runtime = 0, driver = 0;
    (void)cudaRuntimeGetVersion(&runtime);
    (void)cudaDriverGetVersion(&driver);
    const size_t blas = cublasLtGetVersion();
    return fmt::format("CUDA {}, cuBLAS {}.{}.{}, {}", version_of(runtime), blas / 10000,
                       blas / 100 % 100, blas % 100,
                       driver == 0 ? "no driver" : "driver " + version_of(driver));
  }
  Result<std::vector<GpuInfo>> gpus() const override { return list_gpus(); }
  Result<std::unique_ptr<Device>> make_device(const CudaOptions& options) const override {
    return make_cuda_device(options);
  }
};

}  // namespace
}  // namespace trireme

extern "C" __attribute__((visibility("default"))) const trireme::CudaPluginEntry*
trireme_cuda_plugin() {
  static const trireme::Plugin plugin;
  static const trireme::CudaPluginEntry entry{trireme::cuda_plugin_abi(), &plugin};
  return &entry;
}

#include "tests/support/cuda_gpu.h"

#include <string>
#include <vector>

#include <dlfcn.h>

namespace trireme::test {

Result<CudaLibrary> find_gpu() {
  if (void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL); driver == nullptr)
    return unavailable("there is no NVIDIA driver on this machine");
  const std::vector<std::string> folders = {TRIREME_BINARY_DIR};
  Result<CudaLibrary> library = open_cuda_library(folders);
  if (!library.ok()) return library;
  const Result<std::vector<GpuInfo>> gpus = library->plugin->gpus();
  if (!gpus.ok()) return gpus.status();
  return library;
}

std::unique_ptr<Device> make_gpu_device(const CudaOptions& options) {
  const Result<CudaLibrary> library = find_gpu();
  CHECK(library.ok()) << library.status().message();
  Result<std::unique_ptr<Device>> device = library->plugin->make_device(options);
  CHECK(device.ok()) << device.status().message();
  return device.take();
}

}  // namespace trireme::test

// A libtrireme_cuda.so of a machine that is not there: two GPUs that are the CPU. Built several
// times, each time wrong in another way (FAKE_PLUGIN: see CMakeLists.txt).
#include <string_view>

#include <fmt/format.h>

#include "kernels/cuda/plugin/plugin.h"

namespace trireme {
namespace {

constexpr std::string_view kKind = FAKE_PLUGIN;
constexpr uint64_t kGpuBytes = uint64_t{2} << 30;
constexpr uint64_t kUsedBytes = uint64_t{512} << 20;

class FakeGpu final : public Device {
 public:
  FakeGpu(int ordinal, std::unique_ptr<Device> cpu)
      : name_(fmt::format("cuda/{}", ordinal)), cpu_(std::move(cpu)) {}
  std::string_view name() const override { return name_; }
  Place place() const override { return cpu_->place(); }
  int threads() const override { return 1; }
  Ops& ops() override { return cpu_->ops(); }
  DeviceMemory memory() const override { return {kGpuBytes, kGpuBytes - kUsedBytes}; }
  Result<Buffer> allocate(size_t bytes) override { return cpu_->allocate(bytes); }
  void copy(void* target, const void* source, size_t bytes) override {
    cpu_->copy(target, source, bytes);
  }
  Status synchronize() override { return cpu_->synchronize(); }
  Result<Matrix> make_matrix(int64_t rows, int64_t cols, WeightFormat format) override {
    return cpu_->make_matrix(rows, cols, format);
  }
  void write_rows(Matrix& matrix, int64_t first_row, ConstTensorView source) override {
    cpu_->write_rows(matrix, first_row, source);
  }
  void write_quantized_rows(Matrix& matrix, int64_t first_row,
                            const QuantizedView& source) override {
    cpu_->write_quantized_rows(matrix, first_row, source);
  }

 private:
  std::string name_;
  std::unique_ptr<Device> cpu_;
};

class FakePlugin final : public CudaPlugin {
 public:
  std::string versions() const override { return "CUDA 0.0 (fake)"; }
  Result<std::vector<GpuInfo>> gpus() const override {
    if (kKind == "no-driver") return unavailable("there is no NVIDIA driver (fake)");
    GpuInfo gpu{0, "Fake 2000", 9, 0, kGpuBytes, 7};
    std::vector<GpuInfo> gpus = {gpu, gpu};
    gpus[1].ordinal = 1;
    return gpus;
  }
  Result<std::unique_ptr<Device>> make_device(const CudaOptions& options) const override {
    if (kKind == "deaf") return unavailable("GPU 0 does not answer (fake)");
    CpuOptions cpu;
    cpu.threads = 1;
    cpu.pin = false;
    Result<std::unique_ptr<Device>> device = make_cpu_device(cpu);
    if (!device.ok()) return device;
    return std::unique_ptr<Device>(std::make_unique<FakeGpu>(options.ordinal, device.take()));
  }
};

}  // namespace
}  // namespace trireme

extern "C" const trireme::CudaPluginEntry* trireme_cuda_plugin() {
  using namespace trireme;
  static const FakePlugin plugin;
  static const CudaPluginEntry entry{kKind == "other-build" ? "0.0.1+fake" : cuda_plugin_abi(),
                                     &plugin};
  return &entry;
}

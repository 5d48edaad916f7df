#include "kernels/cuda/cuda_device.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>
#include <vector>

#include <cuda_runtime.h>
#include <fmt/format.h>

#include "kernels/base/check.h"
#include "kernels/cuda/context.h"
#include "kernels/cuda/cuda_copy_queue.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/cuda_sampler.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/quantized_layout.h"

namespace trireme {
namespace {

using cuda::Context;
using cuda::cuda_status;
using cuda::QuantizedLayout;
using cuda::weight_stride;

// The oldest that kernels are built for.
constexpr int kCapabilityMin = 80;

class Graph final : public Recording {
 public:
  explicit Graph(cudaGraphExec_t graph) : graph_(graph) {}
  ~Graph() override { (void)cudaGraphExecDestroy(graph_); }
  cudaGraphExec_t get() const { return graph_; }

 private:
  cudaGraphExec_t graph_;
};

class CudaDevice final : public Device {
 public:
  CudaDevice(Context context, std::unique_ptr<cuda::Gemm> gemm)
      : context_(std::move(context)),
        gemm_(std::move(gemm)),
        ops_(context_, *gemm_),
        name_(fmt::format("cuda/{}", context_.ordinal())) {}
  ~CudaDevice() override {
    for (cudaEvent_t event : marks_) {
      if (event != nullptr) (void)cudaEventDestroy(event);
    }
  }

  std::string_view name() const override { return name_; }
  Place place() const override { return Place::kCuda; }
  int threads() const override { return 1; }
  Ops& ops() override { return ops_; }
  DeviceSampler* sampler() override { return &sampler_; }
  void* queue() override { return context_.stream(); }
  CopyQueue* copy_queue() override { return &copies_; }

  DeviceMemory memory() const override {
    size_t free = 0, total = 0;
    if (cudaMemGetInfo(&free, &total) != cudaSuccess) return {};
    return {total, free};
  }

  Result<Buffer> allocate(size_t bytes) override {
    void* data = nullptr;
    if (const cudaError_t error = cudaMalloc(&data, std::max(bytes, size_t{1}));
        error != cudaSuccess)
      return cuda::no_memory(context_.ordinal(), bytes, error);
    Buffer buffer(
        data, bytes, [](void* memory, size_t) { (void)cudaFree(memory); }, Place::kCuda);
    if (Status s =
            cuda_status(cudaMemsetAsync(data, 0, bytes, context_.stream()), "clearing memory");
        !s.ok())
      return s;
    return buffer;
  }

  Result<Buffer> allocate_pinned(size_t bytes) override {
    void* data = nullptr;
    const cudaError_t error = cudaMallocHost(&data, std::max(bytes, size_t{1}));
    if (error != cudaSuccess)
      return resource_exhausted(
          fmt::format("cannot pin {} bytes of host memory: {}", bytes, cudaGetErrorString(error)));
    std::memset(data, 0, bytes);
    return Buffer(data, bytes, [](void* memory, size_t) { (void)cudaFreeHost(memory); });
  }

  void copy(void* target, const void* source, size_t bytes) override {
    if (bytes == 0) return;
    context_.leave({});
    context_.note(cudaMemcpyAsync(target, source, bytes, cudaMemcpyDefault, context_.stream()),
                  "copying memory");
  }

  Status synchronize() override {
    context_.note(cudaStreamSynchronize(context_.stream()), "waiting for the GPU");
    return context_.status();
  }

  uint64_t mark() override {
    cudaEvent_t& event = marks_[mark_ % marks_.size()];
    if (event == nullptr)
      context_.note(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
    context_.note(cudaEventRecord(event, context_.stream()), "marking the stream");
    return mark_++;
  }
  // An event that was recorded again since waits for the newer mark.
  Status wait(uint64_t mark) override {
    context_.note(cudaEventSynchronize(marks_[mark % marks_.size()]), "waiting for the GPU");
    return context_.status();
  }

  bool can_record() const override { return true; }

  Result<std::unique_ptr<Recording>> record(const std::function<Status()>& work) override {
    if (!context_.status().ok()) return context_.status();
    // Thread-local: other threads of the process may go on allocating meanwhile.
    if (Status s =
            cuda_status(cudaStreamBeginCapture(context_.stream(), cudaStreamCaptureModeThreadLocal),
                        "recording");
        !s.ok())
      return s;
    context_.keep_scratch();
    Status worked = work();
    cudaGraph_t graph = nullptr;
    const cudaError_t ended = cudaStreamEndCapture(context_.stream(), &graph);
    // Nothing has been queued: what went wrong is no reason not to run the same plainly.
    Status noted = context_.take_status();
    if (!worked.ok() || !noted.ok() || ended != cudaSuccess) {
      if (graph != nullptr) (void)cudaGraphDestroy(graph);
      (void)cudaGetLastError();
      if (!worked.ok()) return worked;
      return noted.ok() ? cuda_status(ended, "recording") : noted;
    }
    cudaGraphExec_t executable = nullptr;
    const cudaError_t made = cudaGraphInstantiate(&executable, graph, 0);
    (void)cudaGraphDestroy(graph);
    if (Status s = cuda_status(made, "keeping what was recorded"); !s.ok()) return s;
    return std::unique_ptr<Recording>(std::make_unique<Graph>(executable));
  }

  void replay(Recording& recording) override {
    context_.note(cudaGraphLaunch(static_cast<Graph&>(recording).get(), context_.stream()),
                  "replaying");
  }

  Result<Matrix> make_matrix(int64_t rows, int64_t cols, WeightFormat format) override {
    CHECK(rows >= 0 && cols >= 0);
    const int64_t bytes =
        format.quantized()
            ? QuantizedLayout{format, rows, cols}.bytes()
            : rows * weight_stride(cols) * static_cast<int64_t>(dtype_bytes(format.dtype()));
    Result<Buffer> buffer = allocate(static_cast<size_t>(bytes));
    if (!buffer.ok()) return buffer.status();
    Matrix matrix;
    matrix.buffer = buffer.take();
    matrix.rows = rows;
    matrix.cols = cols;
    matrix.format = format;
    return matrix;
  }

  // Converts on the host, some rows at a time, so that host memory stays bounded.
  void write_rows(Matrix& matrix, int64_t first_row, ConstTensorView source) override {
    CHECK(source.cols == matrix.cols);
    CHECK(first_row >= 0 && first_row + source.rows <= matrix.rows);
    const DType dtype = matrix.format.dtype();
    const size_t element = dtype_bytes(dtype);
    const size_t pitch = static_cast<size_t>(weight_stride(matrix.cols)) * element;
    const size_t row_bytes = static_cast<size_t>(matrix.cols) * element;
    if (row_bytes == 0) return;
    auto* target =
        static_cast<std::byte*>(matrix.buffer.data()) + static_cast<size_t>(first_row) * pitch;
    if (source.dtype == dtype) {
      const size_t source_pitch =
          (source.rows > 1 ? static_cast<size_t>(source.row_stride) : 0) * element;
      put(target, pitch, source.data, std::max(source_pitch, row_bytes), row_bytes,
          static_cast<size_t>(source.rows));
      return;
    }
    const auto rows_at_once =
        static_cast<int64_t>(std::max<size_t>(1, kStagedBytes / std::max<size_t>(1, row_bytes)));
    staged_.resize(static_cast<size_t>(std::min(rows_at_once, source.rows)) * row_bytes);
    for (int64_t first = 0; first < source.rows; first += rows_at_once) {
      const int64_t count = std::min(rows_at_once, source.rows - first);
      for (int64_t r = 0; r < count; ++r) {
        convert_floats(source.row_range(first + r, 1).data, source.dtype,
                       staged_.data() + static_cast<size_t>(r) * row_bytes, dtype,
                       static_cast<size_t>(matrix.cols));
      }
      // Pageable memory: the call returns when it has been read.
      put(target + static_cast<size_t>(first) * pitch, pitch, staged_.data(), row_bytes, row_bytes,
          static_cast<size_t>(count));
    }
  }

  // Packs on the host, some rows at a time.
  void write_quantized_rows(Matrix& matrix, int64_t first_row,
                            const QuantizedView& source) override {
    CHECK(source.cols == matrix.cols && source.format == matrix.format);
    CHECK(first_row >= 0 && first_row + source.rows <= matrix.rows);
    const QuantizedLayout layout{matrix.format, matrix.rows, matrix.cols};
    const auto stride = static_cast<size_t>(layout.stride());
    const auto groups = static_cast<size_t>(layout.groups());
    const auto rows_at_once = static_cast<int64_t>(
        std::max<size_t>(1, kStagedBytes / std::max<size_t>(1, stride + 4 * groups)));
    std::vector<uint32_t> words;
    for (int64_t first = 0; first < source.rows; first += rows_at_once) {
      const auto count = static_cast<size_t>(std::min(rows_at_once, source.rows - first));
      staged_.resize(count * stride);
      words.resize(count * (groups + 1));  // the scales, then the factors
      for (size_t r = 0; r < count; ++r) {
        const int64_t row = first + static_cast<int64_t>(r);
        const GroupScale* scales = source.scales_of(row);
        cuda::pack_codes(layout, source.codes_of(row),
                         reinterpret_cast<uint8_t*>(staged_.data()) + r * stride);
        for (size_t g = 0; g < groups; ++g) words[g * count + r] = scales[g];
        words[groups * count + r] = std::bit_cast<uint32_t>(cuda::row_factor(layout, scales));
      }
      auto* data = static_cast<std::byte*>(matrix.buffer.data());
      const int64_t row = first_row + first;
      put(data + row * layout.stride(), stride, staged_.data(), stride, stride, count);
      put(data + layout.scales_at() + 4 * row, 4 * static_cast<size_t>(matrix.rows), words.data(),
          4 * count, 4 * count, groups + 1);
    }
  }

 private:
  static constexpr size_t kStagedBytes = size_t{16} << 20;

  void put(std::byte* target, size_t pitch, const void* source, size_t source_pitch, size_t bytes,
           size_t rows) {
    if (bytes == 0 || rows == 0) return;
    context_.note(cudaMemcpy2DAsync(target, pitch, source, source_pitch, bytes, rows,
                                    cudaMemcpyDefault, context_.stream()),
                  "copying weights");
  }

  static constexpr size_t kMarksKept = 4;
  Context context_;
  std::array<cudaEvent_t, kMarksKept> marks_{};
  uint64_t mark_ = 0;  // the next
  std::unique_ptr<cuda::Gemm> gemm_;
  cuda::CudaOps ops_;
  cuda::CudaSampler sampler_{*this, context_};
  cuda::CudaCopyQueue copies_{context_};
  std::string name_;
  std::vector<std::byte> staged_;
};

}  // namespace

Result<std::vector<GpuInfo>> list_gpus() {
  int count = 0;  // left as it is where there is no driver
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorInsufficientDriver)
    return unavailable(
        "there is no NVIDIA driver on this machine, or one older than this build needs");
  if (error != cudaSuccess && error != cudaErrorNoDevice)
    return cuda_status(error, "counting GPUs");
  if (count == 0) return unavailable("the NVIDIA driver sees no GPU that this process may use");
  std::vector<GpuInfo> gpus;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    if (Status s = cuda_status(cudaGetDeviceProperties(&properties, i), "asking a GPU"); !s.ok())
      return s;
    GpuInfo gpu;
    gpu.ordinal = i;
    gpu.name = properties.name;
    gpu.capability_major = properties.major;
    gpu.capability_minor = properties.minor;
    gpu.memory_bytes = properties.totalGlobalMem;
    gpu.multiprocessors = properties.multiProcessorCount;
    gpus.push_back(std::move(gpu));
  }
  return gpus;
}

Result<std::unique_ptr<Device>> make_cuda_device(const CudaOptions& options) {
  Result<std::vector<GpuInfo>> gpus = list_gpus();
  if (!gpus.ok()) return gpus.status();
  const auto count = static_cast<int>(gpus->size());
  if (options.ordinal < 0 || options.ordinal >= count) {
    return invalid_argument(
        fmt::format("there is no GPU {}: this process sees {}, from 0 on", options.ordinal, count));
  }
  const GpuInfo& gpu = (*gpus)[static_cast<size_t>(options.ordinal)];
  if (gpu.capability_major * 10 + gpu.capability_minor < kCapabilityMin) {
    return unavailable(
        fmt::format("GPU {} ({}) has compute capability {}.{}; this build needs 8.0 or "
                    "newer: name another GPU, or engine.device: cpu",
                    options.ordinal, gpu.name, gpu.capability_major, gpu.capability_minor));
  }
  Result<Context> context = Context::make(options);
  if (!context.ok()) return context.status();
  Result<std::unique_ptr<cuda::Gemm>> gemm = cuda::make_gemm();
  if (!gemm.ok()) return gemm.status();
  return std::unique_ptr<Device>(std::make_unique<CudaDevice>(context.take(), gemm.take()));
}

}  // namespace trireme

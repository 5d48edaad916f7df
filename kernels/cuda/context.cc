#include "kernels/cuda/context.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace trireme::cuda {

Status cuda_status(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return {};
  const std::string message =
      fmt::format("{} failed: {} ({})", what, cudaGetErrorString(error), cudaGetErrorName(error));
  return error == cudaErrorMemoryAllocation ? resource_exhausted(message) : unavailable(message);
}

Status no_memory(int ordinal, size_t bytes, cudaError_t error) {
  size_t free = 0, total = 0;
  (void)cudaMemGetInfo(&free, &total);
  return resource_exhausted(
      fmt::format("GPU {} cannot allocate {} bytes ({} of {} are free): {}; lower "
                  "gpu_memory_utilization or use more GPUs",
                  ordinal, bytes, free, total, cudaGetErrorString(error)));
}

Result<Context> Context::make(const CudaOptions& options) {
  const int ordinal = options.ordinal;
  Context c;
  c.options_ = options;
  if (Status s = cuda_status(cudaSetDevice(ordinal), "choosing the GPU"); !s.ok()) return s;
  cudaDeviceProp properties;
  if (Status s = cuda_status(cudaGetDeviceProperties(&properties, ordinal), "asking the GPU");
      !s.ok())
    return s;
  c.multiprocessors_ = properties.multiProcessorCount;
  c.capability_ = properties.major * 10 + properties.minor;
  c.shared_bytes_max_ = properties.sharedMemPerBlockOptin;
  if (Status s = cuda_status(cudaStreamCreateWithFlags(&c.stream_, cudaStreamNonBlocking),
                             "making a stream");
      !s.ok())
    return s;
  return c;
}

// Hopper has products of warp groups, and no GPU after it; only code for sm_90a may use them.
bool Context::warp_groups() const {
#ifdef TRIREME_SM90A
  return options_.warp_groups && capability_ == 90;
#else
  return false;
#endif
}

Context::Context(Context&& other) noexcept
    : options_(other.options_),
      stream_(std::exchange(other.stream_, nullptr)),
      multiprocessors_(other.multiprocessors_),
      capability_(other.capability_),
      shared_bytes_max_(other.shared_bytes_max_),
      scratch_(std::exchange(other.scratch_, {})),
      counters_(std::exchange(other.counters_, {})),
      left_memory_{std::exchange(other.left_memory_[0], {}),
                   std::exchange(other.left_memory_[1], {})},
      keeps_scratch_(other.keeps_scratch_),
      kept_(std::exchange(other.kept_, {})),
      status_(std::move(other.status_)) {}

Context::~Context() {
  // Errors of work that nobody waited for are of no interest any more.
  if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
  for (void* data : {scratch_.data, counters_.data, left_memory_[0].data, left_memory_[1].data}) {
    if (data != nullptr) (void)cudaFree(data);
  }
  for (void* data : kept_) (void)cudaFree(data);
}

void* Context::scratch(size_t bytes) {
  if (bytes > scratch_.bytes && !grow(scratch_, std::max(bytes, size_t{1} << 20))) return nullptr;
  return scratch_.data;
}

unsigned* Context::counters(size_t count) {
  const size_t bytes = count * sizeof(unsigned);
  if (bytes > counters_.bytes) {
    if (!grow(counters_, std::max(bytes, size_t{1} << 16))) return nullptr;
    note(cudaMemsetAsync(counters_.data, 0, counters_.bytes, stream_), "clearing counters");
  }
  return static_cast<unsigned*>(counters_.data);
}

void* Context::left_memory(LeftBy by, size_t bytes) {
  Memory& memory = left_memory_[static_cast<size_t>(by)];
  if (bytes > memory.bytes && (recording() || !grow(memory, bytes))) return nullptr;
  return memory.data;
}

bool Context::recording() {
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  note(cudaStreamIsCapturing(stream_, &capture), "looking at the stream");
  return capture != cudaStreamCaptureStatusNone;
}

bool Context::grow(Memory& memory, size_t bytes) {
  if (recording()) {
    note(unavailable("a recorded step asks for more scratch memory than any step before it"));
    return false;
  }
  // cudaFree waits for the work that may still use the old memory.
  if (memory.data != nullptr && !keeps_scratch_) note(cudaFree(memory.data), "freeing memory");
  if (memory.data != nullptr && keeps_scratch_) kept_.push_back(memory.data);
  memory = {};
  const cudaError_t error = cudaMalloc(&memory.data, bytes);
  if (error != cudaSuccess) {
    note(no_memory(ordinal(), bytes, error));
    memory = {};
    return false;
  }
  memory.bytes = bytes;
  return true;
}

void Context::note(cudaError_t error, const char* what) { note(cuda_status(error, what)); }
void Context::note(Status status) {
  if (status_.ok() && !status.ok()) status_ = std::move(status);
}

}  // namespace trireme::cuda

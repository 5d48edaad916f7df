// Memory of the device that grows, and tensors packed into it and out of it on a stream.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include <cuda_runtime.h>

#include "kernels/base/tensor.h"
#include "kernels/device.h"

namespace trireme {

// Room for one call at a time, on one stream. What was outgrown is kept until the end: queued work
// and recorded graphs may still use it, and freeing device memory waits for the whole device. The
// sizes double, so all of it is less than twice the largest.
class DeviceScratch {
 public:
  explicit DeviceScratch(Device& device) : device_(device) {}

  Result<void*> get(int64_t bytes, bool recording) {
    const size_t have = grown_.empty() ? 0 : grown_.back().bytes();
    if (static_cast<size_t>(bytes) <= have) return grown_.back().data();
    if (recording)
      return unavailable(
          "a recorded step moves larger tensors between GPUs than any step before it");
    auto buffer = device_.allocate(std::max({static_cast<size_t>(bytes), 2 * have, kBytesMin}));
    if (!buffer.ok()) return buffer.status();
    grown_.push_back(buffer.take());
    return grown_.back().data();
  }

 private:
  static constexpr size_t kBytesMin = size_t{64} << 10;
  Device& device_;
  std::vector<Buffer> grown_;
};

// Queues the copy of a tensor to one of the same shape and dtype.
inline cudaError_t queue_copy(const ConstTensorView& from, const TensorView& to,
                              cudaStream_t stream) {
  const size_t element = dtype_bytes(from.dtype);
  const auto width = static_cast<size_t>(from.cols) * element;
  if (width == 0 || from.rows == 0) return cudaSuccess;
  const auto pitch = [&](int64_t row_stride) {
    return std::max(static_cast<size_t>(row_stride) * element, width);
  };
  return cudaMemcpy2DAsync(to.data, pitch(to.row_stride), from.data, pitch(from.row_stride), width,
                           static_cast<size_t>(from.rows), cudaMemcpyDefault, stream);
}

}  // namespace trireme

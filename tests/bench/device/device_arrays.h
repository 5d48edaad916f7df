// Device memory of op_bench.cc: an arena of random numbers for inputs and one for outputs, and
// small arrays that say where rows, blocks and states are.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/device.h"

namespace trireme::bench {

// Numbers are such that they are finite and small whether they are read as f32 or as bf16.
class Arena {
 public:
  Status make(Device& device, size_t bytes);
  // Views of the same memory: what is timed does not care.
  TensorView input(int64_t rows, int64_t cols) const { return view(in_, rows, cols); }
  TensorView output(int64_t rows, int64_t cols) const { return view(out_, rows, cols); }
  void randomize(std::byte* target, size_t bytes) const;
  void randomize(Buffer& buffer) const {
    randomize(static_cast<std::byte*>(buffer.data()), buffer.bytes());
  }

 private:
  TensorView view(const Buffer& buffer, int64_t rows, int64_t cols) const {
    return tensor(buffer.data(), rows, cols, DType::kF32, device_->place());
  }
  Device* device_ = nullptr;
  Buffer in_, out_;
};

// Keeps what it puts on the device. After an error the pointers are null.
class DeviceArrays {
 public:
  explicit DeviceArrays(Device& device) : device_(device) {}
  ~DeviceArrays();

  std::byte* room(size_t bytes);  // null where there is none; that is no error
  template <class T>
  const T* put(const std::vector<T>& values) {
    return reinterpret_cast<const T*>(copy(values.data(), values.size() * sizeof(T)));
  }
  // Runs of equal length at positions from `first` on.
  Ragged runs(int64_t sequences, int64_t rows, int64_t first);
  StateRows states(int64_t sequences, int64_t bytes);
  const Status& status() const { return status_; }

 private:
  std::byte* copy(const void* data, size_t bytes);
  Device& device_;
  std::vector<Buffer> buffers_;
  Status status_;
};

}  // namespace trireme::bench

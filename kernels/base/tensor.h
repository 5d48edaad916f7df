// Tensors are matrices of rows: one row is one token, one weight row or one head. No rank-4 shapes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/base/dtype.h"

namespace trireme {

enum class Place : uint8_t { kHost, kCuda };

// A matrix of rows that somebody else owns. Copy it freely; it must not outlive the Buffer it
// points into. INVARIANT: row_stride >= cols (in elements) whenever rows > 1.
struct TensorView {
  void* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_stride = 0;
  DType dtype = DType::kF32;
  Place place = Place::kHost;

  TensorView row_range(int64_t first, int64_t count) const {
    CHECK(first >= 0 && count >= 0 && first + count <= rows);
    TensorView v = *this;
    v.data = static_cast<std::byte*>(data) +
             first * row_stride * static_cast<int64_t>(dtype_bytes(dtype));
    v.rows = count;
    return v;
  }
  TensorView col_range(int64_t first, int64_t count) const {
    CHECK(first >= 0 && count >= 0 && first + count <= cols);
    TensorView v = *this;
    v.data = static_cast<std::byte*>(data) + first * static_cast<int64_t>(dtype_bytes(dtype));
    v.cols = count;
    return v;
  }
  bool contiguous() const { return row_stride == cols || rows <= 1; }
  // Row `r` as floats. REQUIRES: host, kF32.
  float* f32_row(int64_t r) const { return static_cast<float*>(data) + r * row_stride; }
};

// The same, for reading.
struct ConstTensorView {
  const void* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_stride = 0;
  DType dtype = DType::kF32;
  Place place = Place::kHost;

  ConstTensorView() = default;
  ConstTensorView(const TensorView& v)  // NOLINT: a writable view may always be read
      : data(v.data),
        rows(v.rows),
        cols(v.cols),
        row_stride(v.row_stride),
        dtype(v.dtype),
        place(v.place) {}
  ConstTensorView(const void* d, int64_t r, int64_t c, DType t, Place p = Place::kHost)
      : data(d), rows(r), cols(c), row_stride(c), dtype(t), place(p) {}

  bool empty() const { return rows == 0; }
  ConstTensorView row_range(int64_t first, int64_t count) const {
    CHECK(first >= 0 && count >= 0 && first + count <= rows);
    ConstTensorView v = *this;
    v.data = static_cast<const std::byte*>(data) +
             first * row_stride * static_cast<int64_t>(dtype_bytes(dtype));
    v.rows = count;
    return v;
  }
  ConstTensorView col_range(int64_t first, int64_t count) const {
    CHECK(first >= 0 && count >= 0 && first + count <= cols);
    ConstTensorView v = *this;
    v.data = static_cast<const std::byte*>(data) + first * static_cast<int64_t>(dtype_bytes(dtype));
    v.cols = count;
    return v;
  }
  bool contiguous() const { return row_stride == cols || rows <= 1; }
  const float* f32_row(int64_t r) const { return static_cast<const float*>(data) + r * row_stride; }
};

// A contiguous matrix over memory somebody else owns.
inline TensorView tensor(void* data, int64_t rows, int64_t cols, DType dtype = DType::kF32,
                         Place place = Place::kHost) {
  return {data, rows, cols, cols, dtype, place};
}

// Memory with one owner, of the host or of a device.
class Buffer {
 public:
  using Release = void (*)(void* data, size_t bytes);
  Buffer() = default;
  Buffer(void* data, size_t bytes, Release release, Place place = Place::kHost)
      : data_(data), bytes_(bytes), release_(release), place_(place) {}
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    if (data_ != nullptr) release_(data_, bytes_);
  }
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  Place place() const { return place_; }

 private:
  void swap(Buffer& other) {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(release_, other.release_);
    std::swap(place_, other.place_);
  }
  void* data_ = nullptr;
  size_t bytes_ = 0;
  Release release_ = nullptr;
  Place place_ = Place::kHost;
};

// The first rows of a buffer as a contiguous matrix of floats; of an empty buffer, one without
// memory.
inline TensorView float_rows(const Buffer& buffer, int64_t rows, int64_t cols) {
  CHECK(buffer.data() == nullptr ||
        static_cast<size_t>(rows * cols) * sizeof(float) <= buffer.bytes());
  return tensor(buffer.data(), rows, cols, DType::kF32, buffer.place());
}

// Host memory aligned to 64 bytes (one cache line, one AVX-512 vector), zeroed.
// Large buffers ask the kernel for huge pages.
Buffer allocate_host(size_t bytes);

}  // namespace trireme

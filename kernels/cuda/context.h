// What the ops of one CUDA device share: its stream, its limits, scratch memory, counters, the
// first error.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <cuda_runtime.h>

#include "kernels/base/status.h"
#include "kernels/cuda/left_rows.h"
#include "kernels/cuda/plugin/plugin.h"

namespace trireme::cuda {

// One sentence for an error of the CUDA runtime.
Status cuda_status(cudaError_t error, const char* what);

// `bytes` that GPU `ordinal` could not give: how much is free, and how to mend it.
Status no_memory(int ordinal, size_t bytes, cudaError_t error);

class Context {
 public:
  // The device of options.ordinal, which becomes the calling thread's current one.
  static Result<Context> make(const CudaOptions& options);
  Context(Context&& other) noexcept;
  Context& operator=(Context&&) = delete;
  ~Context();

  cudaStream_t stream() const { return stream_; }
  int ordinal() const { return options_.ordinal; }
  int multiprocessors() const { return multiprocessors_; }
  int capability() const { return capability_; }  // 10 * major + minor
  // Whether kernels with products of warp groups (device/wgmma.cuh) are wanted and run here.
  bool warp_groups() const;
  // Whether products of 2 to 64 rows are to be made by them.
  bool skinny_groups() const { return options_.skinny_groups && warp_groups(); }
  int skinny_tile_groups() const { return options_.skinny_tile_groups; }
  size_t shared_bytes_max() const { return shared_bytes_max_; }  // of one block

  // Memory for the op that is being queued, aligned to 256 bytes; the next op may get the same.
  // Grows at first use, which waits for the device and cannot be recorded; null after an error.
  void* scratch(size_t bytes);
  // Zeros for kernels that count in them and set them back to zero before they end: unlike scratch
  // memory they stay from op to op. Grow as scratch() does; null after an error.
  unsigned* counters(size_t count);
  // What the last op has left for products that come next: see left_rows.h. Whether it is wanted is
  // what the last products that wrote rows down said.
  const LeftRows& left() const { return left_; }
  void leave(const LeftRows& rows) { left_ = rows; }
  void want_left(bool wanted) { wants_left_ = wanted; }
  bool wants_left() const { return wants_left_; }
  // Null where it is too small and a recording goes on, or after an error.
  void* left_memory(LeftBy by, size_t bytes);
  // From now on memory that has become too small is kept until the end, not freed: some of it is
  // written down in a recording.
  void keep_scratch() { keeps_scratch_ = true; }

  // Ops return nothing: the first error is kept, and everything queued after it is lost.
  void note(cudaError_t error, const char* what);
  void note(Status status);
  const Status& status() const { return status_; }
  // For whoever can undo what failed: the device is well again.
  Status take_status() { return std::exchange(status_, {}); }

 private:
  struct Memory {
    void* data = nullptr;
    size_t bytes = 0;
  };
  bool recording();
  // Other memory of that many bytes; false after an error.
  bool grow(Memory& memory, size_t bytes);

  Context() = default;
  CudaOptions options_;
  cudaStream_t stream_ = nullptr;
  int multiprocessors_ = 0;
  int capability_ = 0;
  size_t shared_bytes_max_ = 0;
  Memory scratch_, counters_;
  Memory left_memory_[2];  // by LeftBy
  LeftRows left_;
  bool wants_left_ = false;
  bool keeps_scratch_ = false;
  std::vector<void*> kept_;
  Status status_;
};

}  // namespace trireme::cuda

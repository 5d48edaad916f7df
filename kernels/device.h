// One rank's compute device: its memory, its queue of work, its operations.
//
// Who calls it: the thread that loads a rank's model, then the thread that runs its steps; one at a
// time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "kernels/base/status.h"
#include "kernels/base/tensor.h"
#include "kernels/ops.h"

namespace trireme {

// A weight matrix that a device owns, in the device's own layout.
struct Matrix {
  Buffer buffer;
  int64_t rows = 0;  // outputs
  int64_t cols = 0;  // inputs
  DType dtype = DType::kF32;
  WeightView view() const { return {buffer.data(), rows, cols, dtype, {}}; }
};

struct DeviceMemory {
  uint64_t bytes_total = 0;  // 0: not known
  uint64_t bytes_free = 0;   // what nobody uses, whoever asks
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string_view name() const = 0;  // "cpu/avx512", "cpu/scalar", "ref", "cuda/0"
  virtual Place place() const = 0;
  virtual int threads() const = 0;
  virtual Ops& ops() = 0;

  // The queue that ops and copies go to, for communicators that put work of their own between
  // them: a cudaStream_t. Null where calls have taken effect when they return.
  virtual void* queue() { return nullptr; }

  // As the device says now; where its memory is the host's, not known.
  virtual DeviceMemory memory() const { return {}; }

  // Zeroed, aligned to 64 bytes. Called at start-up only.
  virtual Result<Buffer> allocate(size_t bytes) = 0;

  // Copies between host and device memory in any direction; queued, like an op.
  virtual void copy(void* target, const void* source, size_t bytes) = 0;
  virtual Status synchronize() = 0;  // after this the host sees all earlier work

  // An uninitialised [rows, cols] weight of kF32, kBF16 or kF16.
  virtual Result<Matrix> make_matrix(int64_t rows, int64_t cols, DType dtype) = 0;

  // Fills rows [first_row, first_row + source.rows) of `matrix`, converting to its dtype.
  // REQUIRES: source is on the host, floating-point, [n, matrix.cols], maybe strided.
  virtual void write_rows(Matrix& matrix, int64_t first_row, ConstTensorView source) = 0;
};

struct CpuOptions {
  int threads = 0;     // 0: one per core that this process may use
  std::string isa;     // "": the best this machine has; "scalar", "avx2", "avx512"
  bool pin = true;     // bind each thread to a core
  int first_core = 0;  // of the process's allowed cores: where this device's threads begin
};

// kInvalidArgument names an unknown or unsupported instruction set.
Result<std::unique_ptr<Device>> make_cpu_device(const CpuOptions& options);

// Plain loops with f64 sums, one thread: the oracle of every other backend, and their
// documentation.
std::unique_ptr<Device> make_ref_device();

// `device` with an ops() that checks every REQUIRES of ops.h, then forwards. Debug builds and
// tests.
std::unique_ptr<Device> make_checked_device(std::unique_ptr<Device> device);

}  // namespace trireme

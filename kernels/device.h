// One rank's compute device: its memory, its queue of work, its operations.
//
// Who calls it: the thread that loads a rank's model, then the thread that runs its steps; one at a
// time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "kernels/base/quantize.h"
#include "kernels/base/status.h"
#include "kernels/base/tensor.h"
#include "kernels/ops.h"

namespace trireme {

// A weight matrix that a device owns, in the device's own layout.
struct Matrix {
  Buffer buffer;
  int64_t rows = 0;  // outputs
  int64_t cols = 0;  // inputs
  WeightFormat format;
  WeightView view() const { return {buffer.data(), rows, cols, format, {}}; }
};

struct DeviceMemory {
  uint64_t bytes_total = 0;  // 0: not known
  uint64_t bytes_free = 0;   // what nobody uses, whoever asks
};

class DeviceSampler;

// Work that a device has recorded: Device::record. It ends before the device does.
class Recording {
 public:
  virtual ~Recording() = default;
};

// A queue of a device beside that of its ops: for copies between its memory and the host's that run
// while ops do. Points in both order them, and the host waits for neither.
class CopyQueue {
 public:
  virtual ~CopyQueue() = default;

  // As Device::copy.
  virtual void copy(void* target, const void* source, size_t bytes) = 0;

  // Copies from now on begin after all ops that are queued now.
  virtual void follow_ops() = 0;

  // A point behind all copies so far, and: ops from now on begin after that point. Only the newest
  // few marks are kept apart; following an older one may follow a newer one.
  virtual uint64_t mark() = 0;
  virtual void ops_follow(uint64_t mark) = 0;

  virtual Status synchronize() = 0;  // after this the host sees all earlier copies
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string_view name() const = 0;  // "cpu/avx512", "cpu/scalar", "ref", "cuda/0"
  virtual Place place() const = 0;
  virtual int threads() const = 0;
  virtual Ops& ops() = 0;

  // Chooses tokens from logits in this device's memory; null where the host does it.
  virtual DeviceSampler* sampler() { return nullptr; }

  // The queue that ops and copies go to, for communicators that put work of their own between
  // them: a cudaStream_t. Null where calls have taken effect when they return.
  virtual void* queue() { return nullptr; }

  // As the device says now; where its memory is the host's, not known.
  virtual DeviceMemory memory() const { return {}; }

  // Zeroed, aligned to 64 bytes. Called at start-up only.
  virtual Result<Buffer> allocate(size_t bytes) = 0;

  // Host memory, zeroed, aligned to 64 bytes, that copies of this device read and write at full
  // speed and without a stop ("pinned"). Called at start-up only.
  virtual Result<Buffer> allocate_pinned(size_t bytes) { return allocate_host(bytes); }

  // Copies between host and device memory in any direction; queued, like an op. The host's side of
  // it stays as it is until the copy is done: synchronize(), or wait() for a later mark.
  virtual void copy(void* target, const void* source, size_t bytes) = 0;
  virtual Status synchronize() = 0;  // after this the host sees all earlier work

  // Null where copies have taken effect when copy() returns.
  virtual CopyQueue* copy_queue() { return nullptr; }

  // A point in the queue, behind all work so far, and waiting for a point: less than
  // synchronize(), which waits for what was queued later too. Only the newest few marks are kept
  // apart; waiting for an older one may wait for a newer one.
  virtual uint64_t mark() { return 0; }
  virtual Status wait(uint64_t /*mark*/) { return synchronize(); }

  // Whether record() works: a device without a queue has nothing to gain from it.
  virtual bool can_record() const { return false; }

  // Runs `work`, which queues ops, copies and collectives here, and keeps what it queues, arguments
  // and all, without doing it; replay() queues all of it at once. A replay reads and writes the
  // same memory; the device's own scratch memory that was recorded stays as long as the recording.
  // Not ok: what `work` said, or kUnavailable where the device could not keep it; then nothing was
  // queued, and the same work may be run plainly. REQUIRES: can_record(); the same work has been
  // run plainly, so that scratch memory has its size; it allocates nothing and waits for nothing;
  // the communicators that it calls are capturable.
  virtual Result<std::unique_ptr<Recording>> record(const std::function<Status()>& /*work*/) {
    return unimplemented("this device cannot record");
  }
  virtual void replay(Recording& /*recording*/) { CHECK(false) << name() << " cannot record"; }

  // An uninitialised [rows, cols] weight.
  virtual Result<Matrix> make_matrix(int64_t rows, int64_t cols, WeightFormat format) = 0;

  // Fills rows [first_row, first_row + source.rows) of `matrix`, converting to its dtype. The
  // source has been read when it returns. REQUIRES: matrix is not quantized; source is on the host,
  // floating-point, [n, matrix.cols], maybe strided.
  virtual void write_rows(Matrix& matrix, int64_t first_row, ConstTensorView source) = 0;

  // The same for a quantized matrix. REQUIRES: source has the format of `matrix`, and [n,
  // matrix.cols].
  virtual void write_quantized_rows(Matrix& matrix, int64_t first_row,
                                    const QuantizedView& source) = 0;
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

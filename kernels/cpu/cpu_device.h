// The CPU as a device: host memory, a thread pool, the ops of one instruction set.
//
// Who calls it: make_cpu_device(). Every call has taken effect when it returns.
#pragma once

#include <string>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/device.h"

namespace trireme {

class CpuDevice final : public Device {
 public:
  // REQUIRES: threads >= 1, isa_supported(isa).
  CpuDevice(int threads, Isa isa, bool pin, int first_core);

  std::string_view name() const override { return name_; }
  Place place() const override { return Place::kHost; }
  int threads() const override { return pool_.size(); }
  Ops& ops() override { return ops_; }
  Result<Buffer> allocate(size_t bytes) override { return allocate_host(bytes); }
  void copy(void* target, const void* source, size_t bytes) override;
  Status synchronize() override { return {}; }

  // Packed for linear(): see packed_matrix.h and packed_quantized.h.
  Result<Matrix> make_matrix(int64_t rows, int64_t cols, WeightFormat format) override;
  void write_rows(Matrix& matrix, int64_t first_row, ConstTensorView source) override;
  void write_quantized_rows(Matrix& matrix, int64_t first_row,
                            const QuantizedView& source) override;

 private:
  std::string name_;
  ThreadPool pool_;
  CpuOps ops_;
};

}  // namespace trireme

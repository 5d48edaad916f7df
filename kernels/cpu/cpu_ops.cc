#include "kernels/cpu/cpu_ops.h"

#include "kernels/base/check.h"
#include "kernels/cpu/linear.h"

namespace trireme {

const OpLoops& op_loops(Isa isa) {
#ifdef TRIREME_X86
  if (isa == Isa::kAvx512) return kOpLoopsAvx512;
  if (isa == Isa::kAvx2) return kOpLoopsAvx2;
#endif
  CHECK(isa == Isa::kScalar) << isa_name(isa);
  return kOpLoopsScalar;
}

float* Scratch::floats(int64_t count) {
  const size_t bytes = static_cast<size_t>(count) * sizeof(float);
  // By half as much again, so that a context that grows token by token does not grow it each step.
  if (buffer_.bytes() < bytes) buffer_ = allocate_host(bytes + bytes / 2);
  return static_cast<float*>(buffer_.data());
}

CpuOps::CpuOps(ThreadPool* pool, Isa isa)
    : pool_(pool),
      isa_(isa),
      loops_(op_loops(isa)),
      worker_scratch_(static_cast<size_t>(pool->size())) {
  CHECK(isa_supported(isa)) << isa_name(isa);
}

void CpuOps::embed(const WeightView& table, const int32_t* ids, int32_t count, int32_t first_id,
                   float scale, TensorView y) {
  trireme::embed(*pool_, isa_, table, ids, count, first_id, scale, y);
}

void CpuOps::linear(ConstTensorView x, const WeightView& w, TensorView y) {
  trireme::linear(*pool_, isa_, x, w, y);
}

}  // namespace trireme

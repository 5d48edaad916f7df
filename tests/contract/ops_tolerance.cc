#include "tests/contract/ops_tolerance.h"

#include "kernels/cuda/attention_choice.h"

namespace trireme::contract {

double attend_tolerance(const DeviceCase& device, const CacheSpec& cache, const AttendRun& run) {
  if (!device.tensor_cores()) return kTolerance;
  cuda::AttentionShape shape;
  shape.rows = run.step_rows;
  shape.sequences = run.sequences;
  shape.heads = run.heads;
  shape.kv_heads = cache.kv_heads;
  shape.head_dim = cache.head_dim;
  shape.dtype = cache.dtype;
  shape.multiprocessors = 1;  // cuts the work, and has no say in which kernel does it
  const cuda::AttentionChoice choice = cuda::choose_attention(shape);
  bool prefill = choice.launches[0].kernel == cuda::AttentionKernel::kPrefill;
  bool decode = choice.launches[0].kernel == cuda::AttentionKernel::kDecode;
  if (choice.count == 2) {
    prefill = run.rows * (run.heads / cache.kv_heads) > cuda::kShortRunLines;
    decode = !prefill;
  }
  for (const AttendTolerance& t : kAttendTolerances) {
    if (t.cache == cache.dtype) return prefill ? t.prefill : decode ? t.decode : kTolerance;
  }
  return kTolerance;
}

}  // namespace trireme::contract

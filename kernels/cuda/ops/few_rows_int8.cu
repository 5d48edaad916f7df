#include "kernels/cuda/ops/few_rows.cuh"

namespace trireme::cuda::few_rows {

template bool products<Int8>(Context&, WeightFormat, std::span<const Call>, const NormOfRow*);

}  // namespace trireme::cuda::few_rows

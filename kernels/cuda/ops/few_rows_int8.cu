#include "kernels/cuda/ops/few_rows.cuh"

namespace trireme::cuda::few_rows {

template void products<Int8>(Context&, WeightFormat, std::span<const Call>);

}  // namespace trireme::cuda::few_rows

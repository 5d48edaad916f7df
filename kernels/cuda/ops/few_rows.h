// Products of up to kFewRows rows with quantized weights: few_rows.cuh, compiled once for each type
// in few_rows_*.cu. quantized.cu is their caller.
#pragma once

#include <span>

#include "kernels/cuda/ops/product.h"

namespace trireme::cuda {

struct Int8;  // device/quantized.cuh
struct Int4;
struct Fp8;

namespace few_rows {

// As quantized_products(). REQUIRES: `format` is of Q; at most kFewRows rows.
template <class Q>
void products(Context& context, WeightFormat format, std::span<const Call> calls);

extern template void products<Int8>(Context&, WeightFormat, std::span<const Call>);
extern template void products<Int4>(Context&, WeightFormat, std::span<const Call>);
extern template void products<Fp8>(Context&, WeightFormat, std::span<const Call>);

}  // namespace few_rows
}  // namespace trireme::cuda

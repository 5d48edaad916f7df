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

// As quantized_products(), or, where there is a norm, as quantized_normed_products(). REQUIRES:
// `format` is of Q; at most kFewRows rows.
template <class Q>
bool products(Context& context, WeightFormat format, std::span<const Call> calls,
              const NormOfRow* norm);

extern template bool products<Int8>(Context&, WeightFormat, std::span<const Call>,
                                    const NormOfRow*);
extern template bool products<Int4>(Context&, WeightFormat, std::span<const Call>,
                                    const NormOfRow*);
extern template bool products<Fp8>(Context&, WeightFormat, std::span<const Call>, const NormOfRow*);

}  // namespace few_rows
}  // namespace trireme::cuda

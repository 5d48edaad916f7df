// Quantized matrices with made-up elements.
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace trireme::bench {

// A matrix of `format`, which is quantized, whose elements are normal numbers of deviation 1/64.
// The same rows again and again: what is timed does not care, and packing them takes the host long.
Result<Matrix> make_up_matrix(Device& device, int64_t rows, int64_t cols, WeightFormat format);

}  // namespace trireme::bench

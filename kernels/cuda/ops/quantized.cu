// Products with quantized weights whose codes become numbers in registers.
#include <algorithm>

#include "kernels/cuda/device/quantized.cuh"
#include "kernels/cuda/ops/few_rows.h"

namespace trireme::cuda {

void quantized_products(Context& context, WeightFormat format, std::span<const Call> calls) {
  const int64_t rows = calls.front().rows;
  for (int64_t first = 0; first < rows; first += kFewRows) {
    Call pass[kCallsMax];
    for (size_t i = 0; i < calls.size(); ++i) {
      pass[i] = calls[i];
      pass[i].rows = std::min(kFewRows, rows - first);
      pass[i].x += first * pass[i].x_stride;
      pass[i].y += first * pass[i].y_stride;
    }
    dispatch_quantized(format.type, [&](auto type) {
      few_rows::products<decltype(type)>(context, format, {pass, calls.size()}, nullptr);
    });
  }
}

bool quantized_normed_products(Context& context, WeightFormat format, const NormOfRow& norm,
                               std::span<const Call> calls) {
  bool queued = false;
  dispatch_quantized(format.type, [&](auto type) {
    queued = few_rows::products<decltype(type)>(context, format, calls, &norm);
  });
  return queued;
}

}  // namespace trireme::cuda

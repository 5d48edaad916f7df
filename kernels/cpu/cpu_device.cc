#include "kernels/cpu/cpu_device.h"

#include <cstring>

#include <fmt/format.h>

#include "kernels/base/check.h"
#include "kernels/cpu/features.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/packed_quantized.h"

namespace trireme {
namespace {

constexpr int kThreadsMax = 1024;  // more is a typing error

}  // namespace

CpuDevice::CpuDevice(int threads, Isa isa, bool pin, int first_core)
    : name_(fmt::format("cpu/{}", isa_name(isa))),
      pool_(threads, pin, first_core),
      ops_(&pool_, isa) {}

void CpuDevice::copy(void* target, const void* source, size_t bytes) {
  if (bytes > 0) std::memmove(target, source, bytes);
}

Result<Matrix> CpuDevice::make_matrix(int64_t rows, int64_t cols, WeightFormat format) {
  CHECK(rows >= 0 && cols >= 0);
  Matrix matrix;
  matrix.buffer = allocate_host(packed_bytes(rows, cols, format));
  matrix.rows = rows;
  matrix.cols = cols;
  matrix.format = format;
  return matrix;
}

void CpuDevice::write_rows(Matrix& matrix, int64_t first_row, ConstTensorView source) {
  write_packed_rows(matrix.buffer.data(), matrix.rows, matrix.cols, matrix.format.dtype(),
                    first_row, source);
}

void CpuDevice::write_quantized_rows(Matrix& matrix, int64_t first_row,
                                     const QuantizedView& source) {
  CHECK(source.format == matrix.format)
      << weight_format_name(source.format) << " into " << weight_format_name(matrix.format);
  write_packed_quantized_rows(matrix.buffer.data(), matrix.rows, matrix.cols, first_row, source);
}

Result<std::unique_ptr<Device>> make_cpu_device(const CpuOptions& options) {
  Isa isa = best_isa();
  if (!options.isa.empty()) {
    Result<Isa> named = parse_isa(options.isa);
    if (!named.ok()) return named.status();
    isa = *named;
  }
  if (options.threads < 0 || options.threads > kThreadsMax) {
    return invalid_argument(
        fmt::format("threads is {}: give 0 (one per core) to {}", options.threads, kThreadsMax));
  }
  if (options.first_core < 0) {
    return invalid_argument(
        fmt::format("first_core is {}: cores are counted from 0", options.first_core));
  }
  const int threads = options.threads == 0 ? allowed_cores() : options.threads;
  return std::unique_ptr<Device>(
      std::make_unique<CpuDevice>(threads, isa, options.pin, options.first_core));
}

}  // namespace trireme

#include "runtime/model/sublayers/matrix_format.h"

#include <fmt/format.h>

namespace trireme {
namespace {

bool is_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16;
}

// The dtype of slices that are plain floating-point tensors; none where no file says it. What is
// neither that nor held quantized is refused when it is read.
std::optional<DType> file_dtype(const WeightSource& source, std::span<const WeightSlice> slices) {
  std::optional<DType> dtype;
  for (const WeightSlice& s : slices) {
    const TensorInfo* info =
        source.checkpoint == nullptr ? nullptr : source.checkpoint->find(s.name);
    if (info == nullptr || !info->dtype || !is_float(*info->dtype)) continue;
    dtype = !dtype || *dtype == *info->dtype ? *info->dtype : DType::kF32;
  }
  return dtype;
}

std::optional<WeightFormat> wanted_format(const WeightChoice& choice, MatrixRole role) {
  if (!choice.quantization || role == MatrixRole::kLowRank) return std::nullopt;
  WeightType type = *choice.quantization;
  if (role == MatrixRole::kVocabulary && type == WeightType::kInt4) type = WeightType::kInt8;
  return quantizing_format(type);
}

// Groups as large as every slice may have them: each begins where its columns do.
Result<WeightFormat> cut_to(WeightFormat format, std::span<const WeightSlice> slices) {
  for (const WeightSlice& s : slices) {
    while (format.group != 0 && s.col_range.first % format.group != 0) {
      if (format.group == 32) {
        return invalid_argument(fmt::format(
            "{}: a shard's inputs would begin at {}, inside a group of quantized ones; choose a "
            "tensor_parallel_size for which they begin at a multiple of 32",
            s.name, s.col_range.first));
      }
      format.group /= 2;
    }
  }
  return format;
}

// Of slices of which the checkpoint holds some or all quantized. Those that do not go together are
// floating-point numbers.
Result<WeightFormat> held_format(const WeightSource& source, const WeightChoice& choice,
                                 std::span<const WeightSlice> slices) {
  std::optional<WeightFormat> format;
  std::optional<DType> dtype = file_dtype(source, slices);
  bool alike = true;
  for (const WeightSlice& s : slices) {
    if (!source.holds_quantized(s.name)) {
      alike = false;
      continue;
    }
    const Result<WeightFormat> held =
        source.quantized->format(*source.checkpoint, s.name, s.rows, s.cols);
    if (!held.ok()) return held.status();
    if (!held->quantized()) {
      alike = false;
      if (!dtype) dtype = held->dtype();
      continue;
    }
    if (!format) format = *held;
    alike = alike && format->type == held->type;
    if (held->group != 0 && (format->group == 0 || held->group < format->group))
      format->group = held->group;
  }
  if (alike) return cut_to(*format, slices);
  return WeightFormat(choice.dtype.value_or(dtype.value_or(DType::kBF16)));
}

}  // namespace

WeightFormat quantizing_format(WeightType type) {
  switch (type) {
    case WeightType::kInt4:
      return {type, 64};
    case WeightType::kInt8:
      return {type, 128};
    default:
      return {type, 0};
  }
}

Result<WeightFormat> matrix_format(const WeightSource& source, const WeightChoice& choice,
                                   std::span<const WeightSlice> slices, MatrixRole role) {
  bool held = false;
  for (const WeightSlice& s : slices) held = held || source.holds_quantized(s.name);
  if (held) {
    if (choice.quantization) {
      return invalid_argument(fmt::format(
          "{}: the checkpoint is quantized already ({}); leave model.quantization at 'auto'",
          slices.front().name, source.quantized->name()));
    }
    return held_format(source, choice, slices);
  }
  if (const std::optional<WeightFormat> wanted = wanted_format(choice, role))
    return cut_to(*wanted, slices);
  return WeightFormat(choice.dtype.value_or(file_dtype(source, slices).value_or(DType::kBF16)));
}

}  // namespace trireme

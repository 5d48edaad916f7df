#include "runtime/model/weights/checkpoint.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "kernels/base/check.h"
#include "runtime/model/weights/mapped_file.h"

namespace trireme {
namespace {

std::vector<int64_t> squeezed(const std::vector<int64_t>& shape) {
  std::vector<int64_t> kept;
  for (const int64_t dimension : shape)
    if (dimension != 1) kept.push_back(dimension);
  return kept;
}

// The mistake that is seen most: weights saved from a wrapper class, so that all names have a
// prefix more or less. Gives "" where no name looks like that.
std::string similar_name(const Checkpoint& checkpoint, std::string_view name) {
  const auto ends_with_part = [](std::string_view longer, std::string_view part) {
    return longer.size() > part.size() && longer.ends_with(part) &&
           longer[longer.size() - part.size() - 1] == '.';
  };
  for (const TensorInfo& info : checkpoint.tensors()) {
    if (ends_with_part(info.name, name) || ends_with_part(name, info.name))
      return fmt::format(" (it has '{}')", printable(info.name));
  }
  return {};
}

}  // namespace

const TensorInfo* Checkpoint::find(std::string_view name) const {
  const std::span<const TensorInfo> all = tensors();
  const auto at =
      std::lower_bound(all.begin(), all.end(), name,
                       [](const TensorInfo& a, std::string_view b) { return a.name < b; });
  return at != all.end() && at->name == name ? &*at : nullptr;
}

void Checkpoint::will_need(const ConstTensorView& slice) const {
  // Rows further apart than what the kernel reads around a fault anyway would make it read what
  // nobody wants.
  constexpr int64_t kReadAroundBytes = 128 << 10;
  const auto element = static_cast<int64_t>(dtype_bytes(slice.dtype));
  if (slice.rows == 0 || slice.cols == 0) return;
  if (slice.rows > 1 && (slice.row_stride - slice.cols) * element > kReadAroundBytes) return;
  const int64_t extent = ((slice.rows - 1) * slice.row_stride + slice.cols) * element;
  trireme::will_need({static_cast<const std::byte*>(slice.data), static_cast<size_t>(extent)});
}

Result<ConstTensorView> matrix(const Checkpoint& checkpoint, std::string_view name, int64_t rows,
                               int64_t cols) {
  CHECK(rows >= 0 && cols >= 0);
  const TensorInfo* info = checkpoint.find(name);
  if (info == nullptr) {
    return not_found(fmt::format(
        "{}: tensor '{}' is missing{}; check that config.json and the weights are of the "
        "same model",
        checkpoint.path(), printable(name), similar_name(checkpoint, name)));
  }
  if (squeezed(info->shape) != squeezed({rows, cols})) {
    const std::vector<int64_t> expected =
        rows == 1 ? std::vector<int64_t>{cols} : std::vector<int64_t>{rows, cols};
    return invalid_argument(fmt::format(
        "{}: tensor '{}' has shape {}, expected {}; check that config and weights are of the same "
        "model",
        checkpoint.path_of(*info), printable(name), shape_text(info->shape), shape_text(expected)));
  }
  if (info->dtype != DType::kF32 && info->dtype != DType::kBF16 && info->dtype != DType::kF16) {
    return unimplemented(
        fmt::format("{}: tensor '{}' has dtype {}; Trireme reads weights in BF16, F16 and F32, so "
                    "use such a version of the model",
                    checkpoint.path_of(*info), printable(name), info->dtype_name));
  }
  Result<std::span<const std::byte>> bytes = checkpoint.bytes(*info);
  if (!bytes.ok()) return bytes.status();
  return ConstTensorView(bytes->data(), rows, cols, *info->dtype);
}

}  // namespace trireme

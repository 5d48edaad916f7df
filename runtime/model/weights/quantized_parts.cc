#include "runtime/model/weights/quantized_parts.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace trireme {

std::string_view stem_of(std::string_view weight) {
  constexpr std::string_view kEnding = ".weight";
  if (!weight.ends_with(kEnding)) return {};
  return weight.substr(0, weight.size() - kEnding.size());
}

std::vector<std::string> existing_parts(const Checkpoint& checkpoint, std::string_view stem,
                                        std::initializer_list<std::string_view> endings) {
  std::vector<std::string> names;
  if (stem.empty()) return names;
  for (const std::string_view ending : endings) {
    std::string name = std::string(stem) + std::string(ending);
    if (checkpoint.find(name) != nullptr) names.push_back(std::move(name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string part_where(const Checkpoint& checkpoint, const TensorInfo& info) {
  return fmt::format("{}: tensor '{}'", checkpoint.path_of(info), printable(info.name));
}

Result<const TensorInfo*> find_part(const Checkpoint& checkpoint, const std::string& name,
                                    std::initializer_list<std::string_view> dtypes) {
  const TensorInfo* info = checkpoint.find(name);
  if (info == nullptr) {
    return not_found(
        fmt::format("{}: tensor '{}' is missing, which the other tensors of this quantized weight "
                    "need; copy or download the model again",
                    checkpoint.path(), printable(name)));
  }
  if (std::find(dtypes.begin(), dtypes.end(), info->dtype_name) == dtypes.end()) {
    return invalid_argument(
        fmt::format("{} has dtype {}, expected {}; check that config.json and the weights are of "
                    "the same model",
                    part_where(checkpoint, *info), info->dtype_name, fmt::join(dtypes, " or ")));
  }
  return info;
}

Result<Part> read_part(const Checkpoint& checkpoint, const std::string& name,
                       std::initializer_list<std::string_view> dtypes,
                       const std::vector<std::vector<int64_t>>& shapes, std::string_view because) {
  const Result<const TensorInfo*> info = find_part(checkpoint, name, dtypes);
  if (!info.ok()) return info.status();
  Part part{*info, nullptr, part_where(checkpoint, **info)};
  if (std::find(shapes.begin(), shapes.end(), part.info->shape) == shapes.end()) {
    return invalid_argument(
        fmt::format("{} has shape {}, expected {} with {}; check that config.json and the weights "
                    "are of the same model",
                    part.where, shape_text(part.info->shape), shape_text(shapes.front()), because));
  }
  const Result<std::span<const std::byte>> bytes = checkpoint.bytes(*part.info);
  if (!bytes.ok()) return bytes.status();
  CHECK(bytes->size() == part.info->bytes);
  part.data = bytes->data();
  return part;
}

Result<std::vector<int32_t>> read_group_index(const Checkpoint& checkpoint, const std::string& name,
                                              int64_t cols, int64_t group, int64_t groups) {
  std::vector<int32_t> index;
  if (checkpoint.find(name) == nullptr) return index;
  const Result<Part> part =
      read_part(checkpoint, name, {"I32"}, {{cols}}, fmt::format("{} inputs", cols));
  if (!part.ok()) return part.status();
  index.resize(static_cast<size_t>(cols));
  if (cols > 0) std::memcpy(index.data(), part->data, index.size() * sizeof(int32_t));
  bool in_order = true;
  for (int64_t i = 0; i < cols; ++i) {
    const int32_t g = index[static_cast<size_t>(i)];
    if (g < 0 || g >= groups) {
      return data_loss(fmt::format(
          "{} puts input {} in group {} and there are {} groups; copy or download the model again",
          part->where, i, g, groups));
    }
    in_order &= g == i / group;
  }
  if (in_order) index.clear();
  return index;
}

}  // namespace trireme

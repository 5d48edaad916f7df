#include "runtime/model/weights/compressed_schemes.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <boost/json/object.hpp>
#include <fmt/format.h>

#include "runtime/model/weights/tensor_info.h"

namespace trireme {
namespace {

using Strategy = CompressedScheme::Strategy;

int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

void read_format(QuantizationFields& fields, std::string_view format, CompressedScheme* scheme) {
  if (format == "pack-quantized") {
    scheme->packed = true;
  } else if (format != "int-quantized" && format != "float-quantized" &&
             format != "naive-quantized") {
    fields.not_read("format", fmt::format("'{}'", format),
                    "of compressed-tensors, the formats pack-quantized, int-quantized, "
                    "float-quantized and naive-quantized are read");
  }
}

void read_strategy(QuantizationFields& weights, CompressedScheme* scheme) {
  const std::optional<int64_t> group = weights.integer("group_size");
  // Without a strategy, the group size tells (quantization/quant_args.py, validate_model_after).
  const std::string strategy = weights.string_or("strategy", !group         ? "tensor"
                                                             : *group == -1 ? "channel"
                                                                            : "group");
  if (strategy == "tensor") {
    scheme->strategy = Strategy::kTensor;
  } else if (strategy == "channel") {
    scheme->strategy = Strategy::kChannel;
  } else if (strategy == "group") {
    scheme->strategy = Strategy::kGroup;
    scheme->block_inputs = group.value_or(0);
    if (scheme->block_inputs < 1) {
      weights.fail(StatusCode::kInvalidArgument,
                   "field 'group_size' must be 1 or more where the strategy is group");
    }
  } else if (strategy == "block") {
    scheme->strategy = Strategy::kBlock;
    const auto block = weights.block("block_structure");
    if (!block) {
      weights.fail(StatusCode::kInvalidArgument,
                   "field 'block_structure' is missing, which the strategy block needs");
      return;
    }
    scheme->block_outputs = block->first;
    scheme->block_inputs = block->second;
  } else {
    weights.not_read("strategy", "'" + strategy + "'",
                     "of compressed-tensors, the strategies tensor, channel, group and block are "
                     "read");
  }
}

// The scheme of a config group's `weights`.
CompressedScheme read_weights(QuantizationFields& weights, bool packed) {
  CompressedScheme scheme;
  scheme.packed = packed;
  const std::string type = weights.string_or("type", "int");
  const int64_t bits = weights.integer("num_bits").value_or(8);
  scheme.floats = type == "float";
  if (type != "int" && type != "float")
    weights.not_read("type", "'" + type + "'", "codes of type int and float are read");
  // Bytes hold any width of integers: W4A8 models have codes of four bits in them.
  const bool bytes = !packed && !scheme.floats && bits >= 2;
  if (bits != 8 && !(packed && bits == 4) && !(bytes && bits < 8)) {
    weights.not_read("num_bits", fmt::format("{}", bits),
                     "of compressed-tensors, packed codes of 4 and 8 bits, fp8, and integers in "
                     "bytes are read");
  }
  if (packed && scheme.floats)
    weights.not_read("type", "'float'", "packed codes are read where they are of type int");
  scheme.bits = static_cast<int>(bits);
  scheme.symmetric = weights.boolean_or("symmetric", true);
  if (scheme.floats && !scheme.symmetric)
    weights.not_read("symmetric", "false", "codes of type float are read where they are symmetric");
  read_strategy(weights, &scheme);
  return scheme;
}

// What would change the numbers beside the config groups.
Status check_nothing_else(const QuantizationFields& fields) {
  const Json* sparsity = find(fields.json(), "sparsity_config");
  if (sparsity != nullptr) {
    QuantizationFields of_sparsity(*sparsity, fields.where() + ": sparsity_config");
    const std::string format = of_sparsity.string_or("format", "dense");
    if (format != "dense")
      of_sparsity.not_read("format", "'" + format + "'", "sparse weights are not read");
    if (!of_sparsity.status().ok()) return of_sparsity.status();
  }
  if (const Json* transform = find(fields.json(), "transform_config")) {
    QuantizationFields of_transform(*transform, fields.where() + ": transform_config");
    of_transform.refuse("config_groups", "a transform of weights and activations");
    if (!of_transform.status().ok()) return of_transform.status();
  }
  return {};
}

}  // namespace

int64_t CompressedScheme::group(int64_t cols) const {
  const bool whole = strategy == Strategy::kTensor || strategy == Strategy::kChannel;
  return whole ? std::max<int64_t>(cols, 1) : block_inputs;
}

std::vector<std::vector<int64_t>> CompressedScheme::scale_shapes(int64_t rows, int64_t cols) const {
  switch (strategy) {
    case Strategy::kTensor:
      return {{1}, {}, {1, 1}};
    case Strategy::kChannel:
      return {{rows, 1}, {rows}};
    case Strategy::kGroup:
      return {{rows, ceil_div(cols, block_inputs)}};
    case Strategy::kBlock:
      break;
  }
  return {{ceil_div(rows, block_outputs), ceil_div(cols, block_inputs)}};
}

std::string CompressedScheme::text() const {
  const char* shared = strategy == Strategy::kTensor    ? "tensor"
                       : strategy == Strategy::kChannel ? "channel"
                       : strategy == Strategy::kGroup   ? "group"
                                                        : "block";
  return fmt::format("num_bits {} and strategy {} of {}", bits, shared, name);
}

Result<std::vector<CompressedScheme>> read_compressed_schemes(QuantizationFields& fields) {
  if (Status status = check_nothing_else(fields); !status.ok()) return status;
  std::vector<CompressedScheme> schemes;
  const std::string format = fields.string_or("format", "");
  const Json* groups = find(fields.json(), "config_groups");
  if (groups == nullptr || !groups->is_object()) {
    fields.fail(StatusCode::kInvalidArgument,
                "has no object 'config_groups', which says how weights are quantized");
  }
  if (!fields.status().ok()) return fields.status();
  for (const auto& [key, group] : groups->get_object()) {
    QuantizationFields of_group(
        group, fmt::format("{}: config_groups: {}", fields.where(), printable(key)));
    if (!group.is_object()) {
      of_group.fail(StatusCode::kUnimplemented,
                    "is the name of a preset; what is read is an object with 'weights'");
      return of_group.status();
    }
    const Json* weights = find(group, "weights");
    if (weights == nullptr) continue;  // of activations only
    CompressedScheme written;
    read_format(of_group, of_group.string_or("format", format), &written);
    if (!of_group.status().ok()) return of_group.status();
    QuantizationFields of_weights(*weights, of_group.where() + ": weights");
    CompressedScheme scheme = read_weights(of_weights, written.packed);
    if (!of_weights.status().ok()) return of_weights.status();
    scheme.name = fmt::format("config_groups.{}", printable(key));
    schemes.push_back(std::move(scheme));
  }
  return schemes;
}

}  // namespace trireme

// compressed-tensors, what llm-compressor writes, for a matrix [out, in]:
//
//   pack-quantized   x.weight_packed  I32 [out, ceil(in * bits / 32)]  consecutive inputs in a
//   word,
//                                     each code plus 2^(bits - 1)
//                    x.weight_shape   I64 [2], which is out and in
//   int-quantized    x.weight         I8 [out, in]
//   float-quantized  x.weight         F8_E4M3 [out, in]
//   naive-quantized  either of the last two
//   all of them      x.weight_scale, x.weight_zero_point  by strategy: [1] for "tensor", [out, 1]
//   for
//                    "channel", [out, groups] for "group", [ceil(out / h), ceil(in / w)] for
//                    "block". Where weights are packed, so are zeros, along the outputs:
//                    I32 [ceil(out * bits / 32), groups], else they are I8. Absent where symmetric.
//                    x.weight_g_idx   I32 [in]  the group of each input; -1 where they are in order
//
// W = scale * (code - zero), both signed (compressed_tensors/compressors/pack_quantized,
// naive_quantized; quantization/lifecycle/forward.py, dequantize). Scales of activations are not
// used: activations are not quantized here.
#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include <boost/json/object.hpp>
#include <fmt/format.h>

#include "runtime/model/weights/packed_words.h"
#include "runtime/model/weights/quantized_matrix.h"
#include "runtime/model/weights/quantized_methods.h"

namespace trireme {
namespace {

enum class Storage : uint8_t { kPacked, kInt8, kFp8 };
enum class Strategy : uint8_t { kTensor, kChannel, kGroup, kBlock };

// A config group: how some of the model's weights are quantized.
struct Scheme {
  std::string name;  // "config_groups.group_0"
  bool packed = false;
  bool floats = false;
  int bits = 8;
  bool symmetric = true;
  Strategy strategy = Strategy::kTensor;
  int64_t block_outputs = 1;  // that share a scale
  int64_t block_inputs = 1;   // the group; of kGroup and kBlock

  int64_t group(int64_t cols) const {
    const bool whole = strategy == Strategy::kTensor || strategy == Strategy::kChannel;
    return whole ? std::max<int64_t>(cols, 1) : block_inputs;
  }
  std::string text() const {
    const char* shared = strategy == Strategy::kTensor    ? "tensor"
                         : strategy == Strategy::kChannel ? "channel"
                         : strategy == Strategy::kGroup   ? "group"
                                                          : "block";
    return fmt::format("num_bits {} and strategy {} of {}", bits, shared, name);
  }
};

int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

// Shapes of scales and of zeros that are not packed; the first is the one that is written today.
std::vector<std::vector<int64_t>> scale_shapes(const Scheme& s, int64_t rows, int64_t cols) {
  switch (s.strategy) {
    case Strategy::kTensor:
      return {{1}, {}, {1, 1}};
    case Strategy::kChannel:
      return {{rows, 1}, {rows}};
    case Strategy::kGroup:
      return {{rows, ceil_div(cols, s.block_inputs)}};
    case Strategy::kBlock:
      break;
  }
  return {{ceil_div(rows, s.block_outputs), ceil_div(cols, s.block_inputs)}};
}

class CompressedMatrix final : public QuantizedMatrix {
 public:
  Storage storage = Storage::kPacked;
  int bits = 4;
  const std::byte* codes = nullptr;
  int64_t row_words = 0;                   // of kPacked
  const uint32_t* packed_zeros = nullptr;  // [ceil(out * bits / 32), groups]
  const int8_t* plain_zeros = nullptr;     // where the scale of the same output and group is

  void read_codes(int64_t first, int64_t count, uint8_t* to) const override {
    if (storage != Storage::kPacked) {
      std::memcpy(to, codes + first * cols, static_cast<size_t>(count * cols));
      return;
    }
    const int64_t pack = 32 / bits;
    for (int64_t r = 0; r < count; ++r) {
      const uint32_t* words = reinterpret_cast<const uint32_t*>(codes) + (first + r) * row_words;
      uint8_t* row = to + r * cols;
      for (int64_t k = 0; k < cols / pack; ++k) spread(words[k], row + k * pack);
      if (const int64_t rest = cols % pack; rest > 0) {
        uint8_t last[8];
        spread(words[cols / pack], last);
        std::copy_n(last, rest, row + cols - rest);
      }
    }
  }

  void read_zeros(int64_t first, int64_t count, int32_t* to) const override {
    // Codes of four bits stay as they are stored, plus 8, and so do their zeros.
    const int32_t offset = type == WeightType::kInt4 ? 8 : 0;
    const int64_t pack = 32 / bits;
    for (int64_t r = 0; r < count; ++r) {
      const int64_t o = first + r;
      for (int64_t g = 0; g < groups(); ++g) {
        int32_t zero = 0;
        if (packed_zeros != nullptr)
          zero = code_in_word(packed_zeros[o / pack * groups() + g], o % pack, bits) -
                 (1 << (bits - 1));
        else if (plain_zeros != nullptr)
          zero = plain_zeros[o / scales.outputs * scales.output_stride + g * scales.group_stride];
        to[r * groups() + g] = zero + offset;
      }
    }
  }

 private:
  void spread(uint32_t word, uint8_t* to) const {
    if (bits == 4)
      spread_nibbles(word, to);
    else
      spread_bytes(word, to);
  }
};

class CompressedTensors final : public QuantizedMatrices {
 public:
  std::vector<Scheme> schemes;

  std::string_view name() const override { return "compressed-tensors"; }

  bool holds(const Checkpoint& checkpoint, std::string_view weight) const override {
    const std::string_view stem = stem_of(weight);
    if (!existing_parts(checkpoint, stem, {".weight_packed"}).empty()) return true;
    const TensorInfo* info = stem.empty() ? nullptr : checkpoint.find(weight);
    return info != nullptr && (info->dtype_name == "I8" || info->dtype_name == "F8_E4M3");
  }

  std::vector<std::string> parts(const Checkpoint& checkpoint,
                                 std::string_view weight) const override {
    return existing_parts(checkpoint, stem_of(weight),
                          {".weight", ".weight_packed", ".weight_scale", ".weight_zero_point",
                           ".weight_shape", ".weight_g_idx", ".input_scale", ".input_zero_point",
                           ".output_scale", ".output_zero_point"});
  }

 private:
  Result<std::unique_ptr<QuantizedMatrix>> open(const Checkpoint& checkpoint,
                                                std::string_view weight, int64_t rows,
                                                int64_t cols) const override;
  Result<const Scheme*> scheme_of(const Checkpoint& checkpoint, std::string_view weight,
                                  Storage storage, int64_t rows, int64_t cols) const;
};

// Targets are names and regular expressions of Python's; of several groups, the one that the
// tensors' types and shapes fit is the one that was meant.
Result<const Scheme*> CompressedTensors::scheme_of(const Checkpoint& checkpoint,
                                                   std::string_view weight, Storage storage,
                                                   int64_t rows, int64_t cols) const {
  const std::string stem(stem_of(weight));
  const TensorInfo* packed = checkpoint.find(stem + ".weight_packed");
  const TensorInfo* scale = checkpoint.find(stem + ".weight_scale");
  const Scheme* candidate = nullptr;  // right but for shapes: messages are about it
  for (const Scheme& s : schemes) {
    if (s.packed != (storage == Storage::kPacked) || s.floats != (storage == Storage::kFp8))
      continue;
    if (candidate == nullptr) candidate = &s;
    const auto shapes = scale_shapes(s, rows, cols);
    if (scale == nullptr || std::find(shapes.begin(), shapes.end(), scale->shape) == shapes.end())
      continue;
    if (s.packed && packed->shape != std::vector<int64_t>{rows, ceil_div(cols, 32 / s.bits)})
      continue;
    const bool has_zeros = checkpoint.find(stem + ".weight_zero_point") != nullptr;
    if (s.symmetric || has_zeros) return &s;
  }
  if (candidate != nullptr) return candidate;
  const TensorInfo* info = packed != nullptr ? packed : checkpoint.find(weight);
  return invalid_argument(fmt::format(
      "{} has dtype {}, and no config group of quantization_config is of such weights; check that "
      "config.json and the weights are of the same model",
      part_where(checkpoint, *info), info->dtype_name));
}

// That x.weight_shape says [rows, cols].
Status check_weight_shape(const Checkpoint& checkpoint, const std::string& name, int64_t rows,
                          int64_t cols) {
  const Result<Part> shape = read_part(checkpoint, name, {"I64", "I32"}, {{2}}, "a matrix");
  if (!shape.ok()) return shape.status();
  int64_t said[2] = {};
  if (shape->info->dtype == DType::kI64)
    std::memcpy(said, shape->data, sizeof said);
  else
    std::copy_n(reinterpret_cast<const int32_t*>(shape->data), 2, said);
  if (said[0] == rows && said[1] == cols) return {};
  return invalid_argument(
      fmt::format("{} says [{}, {}], expected [{}, {}]; check that config.json and the weights are "
                  "of the same model",
                  shape->where, said[0], said[1], rows, cols));
}

Status open_zeros(const Checkpoint& checkpoint, const std::string& name, const Scheme& s,
                  CompressedMatrix* m) {
  if (s.symmetric) return {};
  const Result<const TensorInfo*> info =
      s.packed ? find_part(checkpoint, name, {"I32", "I8"}) : find_part(checkpoint, name, {"I8"});
  if (!info.ok()) return info.status();
  if ((*info)->dtype == DType::kI8) {
    const Result<Part> zeros =
        read_part(checkpoint, name, {"I8"}, scale_shapes(s, m->rows, m->cols), s.text());
    if (!zeros.ok()) return zeros.status();
    m->plain_zeros = reinterpret_cast<const int8_t*>(zeros->data);
    return {};
  }
  const Result<Part> zeros = read_part(checkpoint, name, {"I32"},
                                       {{ceil_div(m->rows, 32 / s.bits), m->groups()}}, s.text());
  if (!zeros.ok()) return zeros.status();
  m->packed_zeros = zeros->words();
  return {};
}

Result<std::unique_ptr<QuantizedMatrix>> CompressedTensors::open(const Checkpoint& checkpoint,
                                                                 std::string_view weight,
                                                                 int64_t rows, int64_t cols) const {
  const std::string stem(stem_of(weight));
  auto m = std::make_unique<CompressedMatrix>();
  m->rows = rows;
  m->cols = cols;
  const bool packed = checkpoint.find(stem + ".weight_packed") != nullptr;
  m->storage = packed                                             ? Storage::kPacked
               : checkpoint.find(weight)->dtype_name == "F8_E4M3" ? Storage::kFp8
                                                                  : Storage::kInt8;
  const Result<const Scheme*> found = scheme_of(checkpoint, weight, m->storage, rows, cols);
  if (!found.ok()) return found.status();
  const Scheme& s = **found;
  m->bits = s.bits;
  m->type = m->storage == Storage::kFp8 ? WeightType::kFp8
            : packed && s.bits == 4     ? WeightType::kInt4
                                        : WeightType::kInt8;
  m->group = s.group(cols);
  m->row_words = ceil_div(cols, 32 / s.bits);

  const Result<Part> codes =
      packed ? read_part(checkpoint, stem + ".weight_packed", {"I32"}, {{rows, m->row_words}},
                         s.text())
             : read_part(checkpoint, std::string(weight), {"I8", "F8_E4M3"}, {{rows, cols}},
                         fmt::format("{} outputs and {} inputs", rows, cols));
  if (!codes.ok()) return codes.status();
  m->codes = codes->data;
  m->where = codes->where;
  if (packed) {
    if (Status status = check_weight_shape(checkpoint, stem + ".weight_shape", rows, cols);
        !status.ok())
      return status;
  }
  Result<Part> scales = read_part(checkpoint, stem + ".weight_scale", {"F16", "BF16", "F32"},
                                  scale_shapes(s, rows, cols), s.text());
  if (!scales.ok()) return scales.status();
  const bool one = s.strategy == Strategy::kTensor;
  m->scales = {scales.take(), s.block_outputs, one ? 0 : m->groups(), one ? 0 : 1};
  if (Status status = open_zeros(checkpoint, stem + ".weight_zero_point", s, m.get()); !status.ok())
    return status;
  Result<std::vector<int32_t>> index =
      read_group_index(checkpoint, stem + ".weight_g_idx", cols, m->group, m->groups());
  if (!index.ok()) return index.status();
  m->group_of = index.take();
  return std::unique_ptr<QuantizedMatrix>(std::move(m));
}

void read_format(QuantizationFields& fields, std::string_view format, Scheme* scheme) {
  if (format == "pack-quantized") {
    scheme->packed = true;
  } else if (format != "int-quantized" && format != "float-quantized" &&
             format != "naive-quantized") {
    fields.not_read("format", fmt::format("'{}'", format),
                    "of compressed-tensors, the formats pack-quantized, int-quantized, "
                    "float-quantized and naive-quantized are read");
  }
}

void read_strategy(QuantizationFields& weights, Scheme* scheme) {
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
Scheme read_weights(QuantizationFields& weights, bool packed) {
  Scheme scheme;
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

}  // namespace

Result<std::unique_ptr<QuantizedTensors>> compressed_tensors(QuantizationFields fields) {
  auto made = std::make_unique<CompressedTensors>();
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
  const std::string format = fields.string_or("format", "");
  const Json* groups = find(fields.json(), "config_groups");
  if (groups == nullptr || !groups->is_object()) {
    fields.fail(StatusCode::kInvalidArgument,
                "has no object 'config_groups', which says how weights are quantized");
    return fields.status();
  }
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
    Scheme written;
    read_format(of_group, of_group.string_or("format", format), &written);
    if (!of_group.status().ok()) return of_group.status();
    QuantizationFields of_weights(*weights, of_group.where() + ": weights");
    Scheme scheme = read_weights(of_weights, written.packed);
    if (!of_weights.status().ok()) return of_weights.status();
    scheme.name = fmt::format("config_groups.{}", printable(key));
    made->schemes.push_back(std::move(scheme));
  }
  if (!fields.status().ok()) return fields.status();
  return std::unique_ptr<QuantizedTensors>(std::move(made));
}

}  // namespace trireme

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
#include <utility>

#include <fmt/format.h>

#include "runtime/model/weights/compressed_schemes.h"
#include "runtime/model/weights/packed_words.h"
#include "runtime/model/weights/quantized_matrix.h"
#include "runtime/model/weights/quantized_methods.h"

namespace trireme {
namespace {

enum class Storage : uint8_t { kPacked, kInt8, kFp8 };

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
  std::vector<CompressedScheme> schemes;

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
  Result<const CompressedScheme*> scheme_of(const Checkpoint& checkpoint, std::string_view weight,
                                            Storage storage, int64_t rows, int64_t cols) const;
};

// Targets are names and regular expressions of Python's; of several groups, the one that the
// tensors' types and shapes fit is the one that was meant.
Result<const CompressedScheme*> CompressedTensors::scheme_of(const Checkpoint& checkpoint,
                                                             std::string_view weight,
                                                             Storage storage, int64_t rows,
                                                             int64_t cols) const {
  const std::string stem(stem_of(weight));
  const TensorInfo* packed = checkpoint.find(stem + ".weight_packed");
  const TensorInfo* scale = checkpoint.find(stem + ".weight_scale");
  const bool has_zeros = checkpoint.find(stem + ".weight_zero_point") != nullptr;
  const CompressedScheme* of_kind = nullptr;          // right but for shapes: messages are about it
  const CompressedScheme* with_idle_zeros = nullptr;  // old files hold them where symmetric, all 0
  for (const CompressedScheme& s : schemes) {
    if (s.packed != (storage == Storage::kPacked) || s.floats != (storage == Storage::kFp8))
      continue;
    if (of_kind == nullptr) of_kind = &s;
    const auto shapes = s.scale_shapes(rows, cols);
    if (scale == nullptr || std::find(shapes.begin(), shapes.end(), scale->shape) == shapes.end())
      continue;
    if (s.packed && packed->shape != std::vector<int64_t>{rows, s.row_words(cols)}) continue;
    if (s.symmetric != has_zeros) return &s;
    if (s.symmetric && with_idle_zeros == nullptr) with_idle_zeros = &s;
  }
  if (with_idle_zeros != nullptr) return with_idle_zeros;
  if (of_kind != nullptr) return of_kind;
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

Status open_zeros(const Checkpoint& checkpoint, const std::string& name, const CompressedScheme& s,
                  CompressedMatrix* m) {
  if (s.symmetric) return {};
  const Result<const TensorInfo*> info =
      s.packed ? find_part(checkpoint, name, {"I32", "I8"}) : find_part(checkpoint, name, {"I8"});
  if (!info.ok()) return info.status();
  if ((*info)->dtype == DType::kI8) {
    const Result<Part> zeros =
        read_part(checkpoint, name, {"I8"}, s.scale_shapes(m->rows, m->cols), s.text());
    if (!zeros.ok()) return zeros.status();
    m->plain_zeros = reinterpret_cast<const int8_t*>(zeros->data);
    return {};
  }
  const Result<Part> zeros =
      read_part(checkpoint, name, {"I32"}, {{s.zero_words(m->rows), m->groups()}}, s.text());
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
  const Result<const CompressedScheme*> found =
      scheme_of(checkpoint, weight, m->storage, rows, cols);
  if (!found.ok()) return found.status();
  const CompressedScheme& s = **found;
  m->bits = s.bits;
  m->type = m->storage == Storage::kFp8 ? WeightType::kFp8
            : packed && s.bits == 4     ? WeightType::kInt4
                                        : WeightType::kInt8;
  m->group = s.group(cols);
  m->row_words = s.row_words(cols);

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
                                  s.scale_shapes(rows, cols), s.text());
  if (!scales.ok()) return scales.status();
  const bool one = s.strategy == CompressedScheme::Strategy::kTensor;
  m->scales = {scales.take(), s.block_outputs, one ? 0 : m->groups(), one ? 0 : 1};
  if (Status status = open_zeros(checkpoint, stem + ".weight_zero_point", s, m.get()); !status.ok())
    return status;
  Result<std::vector<int32_t>> index =
      read_group_index(checkpoint, stem + ".weight_g_idx", cols, m->group, m->groups());
  if (!index.ok()) return index.status();
  m->group_of = index.take();
  return std::unique_ptr<QuantizedMatrix>(std::move(m));
}

}  // namespace

Result<std::unique_ptr<QuantizedTensors>> compressed_tensors(QuantizationFields fields) {
  auto made = std::make_unique<CompressedTensors>();
  Result<std::vector<CompressedScheme>> schemes = read_compressed_schemes(fields);
  if (!schemes.ok()) return schemes.status();
  made->schemes = schemes.take();
  return std::unique_ptr<QuantizedTensors>(std::move(made));
}

}  // namespace trireme

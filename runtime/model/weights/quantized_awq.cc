// AWQ (arXiv 2306.00978) in AutoAWQ's version "gemm", four bits, for a matrix [out, in]:
//
//   x.qweight  I32 [in, out / 8]      eight consecutive outputs of an input in a word
//   x.qzeros   I32 [groups, out / 8]
//   x.scales   [groups, out]
//
// W = scale * (code - zero). From its low bits on, a word holds the outputs 0, 2, 4, 6, 1, 3, 5, 7
// (awq/modules/linear/gemm.py, from_linear; awq/utils/packing_utils.py, AWQ_REVERSE_ORDER).
#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "runtime/model/weights/packed_words.h"
#include "runtime/model/weights/quantized_matrix.h"
#include "runtime/model/weights/quantized_methods.h"

namespace trireme {
namespace {

constexpr int64_t kPack = 8;
// The nibble that holds output i of a word.
constexpr std::array<int, kPack> kNibble = {0, 4, 1, 5, 2, 6, 3, 7};

class AwqMatrix final : public QuantizedMatrix {
 public:
  const uint32_t* qweight = nullptr;
  const uint32_t* qzeros = nullptr;

  void read_codes(int64_t first, int64_t count, uint8_t* to) const override {
    constexpr int64_t kInputs = 64;  // their words of a few outputs stay in the first cache
    const int64_t stride = rows / kPack;
    for (int64_t k0 = 0; k0 < cols; k0 += kInputs) {
      const int64_t n = std::min(kInputs, cols - k0);
      for (int64_t w = first / kPack; w * kPack < first + count; ++w) {
        uint32_t words[kInputs];
        for (int64_t k = 0; k < n; ++k) words[k] = qweight[(k0 + k) * stride + w];
        const int64_t begin = std::max(first, w * kPack);
        const int64_t end = std::min(first + count, (w + 1) * kPack);
        for (int64_t o = begin; o < end; ++o) {
          const int shift = 4 * kNibble[static_cast<size_t>(o % kPack)];
          uint8_t* codes = to + (o - first) * cols + k0;
          for (int64_t k = 0; k < n; ++k) codes[k] = static_cast<uint8_t>(words[k] >> shift & 15);
        }
      }
    }
  }

  void read_zeros(int64_t first, int64_t count, int32_t* to) const override {
    for (int64_t g = 0; g < groups(); ++g) {
      for (int64_t r = 0; r < count; ++r) {
        const int64_t o = first + r;
        to[r * groups() + g] = code_in_word(qzeros[g * (rows / kPack) + o / kPack],
                                            kNibble[static_cast<size_t>(o % kPack)], 4);
      }
    }
  }
};

class AwqTensors final : public QuantizedMatrices {
 public:
  int64_t group_size = 128;

  std::string_view name() const override { return "awq"; }

  bool holds(const Checkpoint& checkpoint, std::string_view weight) const override {
    return !existing_parts(checkpoint, stem_of(weight), {".qweight"}).empty();
  }

  std::vector<std::string> parts(const Checkpoint& checkpoint,
                                 std::string_view weight) const override {
    return existing_parts(checkpoint, stem_of(weight), {".qweight", ".qzeros", ".scales"});
  }

 private:
  Result<std::unique_ptr<QuantizedMatrix>> open(const Checkpoint& checkpoint,
                                                std::string_view weight, int64_t rows,
                                                int64_t cols) const override;
};

Result<std::unique_ptr<QuantizedMatrix>> AwqTensors::open(const Checkpoint& checkpoint,
                                                          std::string_view weight, int64_t rows,
                                                          int64_t cols) const {
  const std::string stem(stem_of(weight));
  auto m = std::make_unique<AwqMatrix>();
  m->type = WeightType::kInt4;
  m->rows = rows;
  m->cols = cols;
  m->group = group_size == -1 ? std::max<int64_t>(cols, 1) : group_size;
  if (rows % kPack != 0) {
    return invalid_argument(
        fmt::format("{}: '{}' has {} outputs, which do not fill words of {} codes; check that "
                    "config.json and the weights are of the same model",
                    checkpoint.path(), printable(weight), rows, kPack));
  }
  const int64_t groups = m->groups();
  const std::string because = fmt::format("bits 4 and groups of {} of {} inputs", m->group, cols);
  Result<Part> qweight =
      read_part(checkpoint, stem + ".qweight", {"I32"}, {{cols, rows / kPack}}, because);
  if (!qweight.ok()) return qweight.status();
  Result<Part> qzeros =
      read_part(checkpoint, stem + ".qzeros", {"I32"}, {{groups, rows / kPack}}, because);
  if (!qzeros.ok()) return qzeros.status();
  Result<Part> scales =
      read_part(checkpoint, stem + ".scales", {"F16", "BF16", "F32"}, {{groups, rows}}, because);
  if (!scales.ok()) return scales.status();

  m->input_major = ConstTensorView(qweight->data, cols, rows / kPack, DType::kI32);
  m->qweight = qweight->words();
  m->where = qweight->where;
  m->qzeros = qzeros->words();
  m->scales = {scales.take(), 1, 1, rows};
  return std::unique_ptr<QuantizedMatrix>(std::move(m));
}

}  // namespace

Result<std::unique_ptr<QuantizedTensors>> awq_tensors(QuantizationFields fields) {
  auto made = std::make_unique<AwqTensors>();
  const std::string_view bits_key = fields.has("bits") ? "bits" : "w_bit";
  const int64_t bits = fields.integer(bits_key).value_or(4);
  if (bits != 4) fields.not_read(bits_key, fmt::format("{}", bits), "of awq, 4 bits are read");
  const std::string_view group_key = fields.has("group_size") ? "group_size" : "q_group_size";
  made->group_size = fields.integer(group_key).value_or(128);
  if (made->group_size != -1 && made->group_size < 1) {
    fields.not_read(group_key, fmt::format("{}", made->group_size),
                    "groups are of 1 input or more, and -1 is one group for all");
  }
  for (const std::string_view key : {"version", "checkpoint_format", "format"}) {
    const std::string version = fields.string_or(key, "gemm");
    if (version != "gemm")
      fields.not_read(key, "'" + version + "'", "of awq, the version gemm is read");
  }
  if (fields.string_or("backend", "") == "llm-awq")
    fields.not_read("backend", "'llm-awq'", "of awq, AutoAWQ's version gemm is read");
  if (!fields.status().ok()) return fields.status();
  return std::unique_ptr<QuantizedTensors>(std::move(made));
}

}  // namespace trireme

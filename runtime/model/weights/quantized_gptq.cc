// GPTQ (arXiv 2210.17323) as AutoGPTQ and GPTQModel write it, for a matrix [out, in]:
//
//   x.qweight  I32 [in / pack, out]      `pack` consecutive inputs of an output in a word
//   x.qzeros   I32 [groups, out / pack]  `pack` consecutive outputs in a word
//   x.scales   [groups, out]
//   x.g_idx    I32 [in]                  the group of each input; may be absent
//
// W = scale * (code - zero), codes 0 .. 2^bits - 1. Checkpoints of format "gptq" hold qzeros less
// one, which GPTQModel takes from and adds to whole words, so that a borrow goes into the next zero
// (auto_gptq/nn_modules/qlinear/qlinear_cuda.py, pack; gptqmodel/utils/model.py,
// convert_gptq_v1_to_v2_format_module). "gptq_v2" holds them as they are.
#include <algorithm>
#include <utility>

#include <boost/json/object.hpp>
#include <fmt/format.h>

#include "runtime/model/weights/packed_words.h"
#include "runtime/model/weights/quantized_matrix.h"
#include "runtime/model/weights/quantized_methods.h"

namespace trireme {
namespace {

constexpr uint32_t kOnes4 = 0x11111111u;
constexpr uint32_t kOnes8 = 0x01010101u;

class GptqMatrix final : public QuantizedMatrix {
 public:
  int bits = 4;
  const uint32_t* qweight = nullptr;
  const uint32_t* qzeros = nullptr;
  uint32_t add_to_qzeros = 0;

  void read_codes(int64_t first, int64_t count, uint8_t* to) const override {
    // A tile's words fill whole cache lines, and so does what a row of it gives.
    constexpr int64_t kOutputs = 16;
    constexpr int64_t kWords = 16;
    const int64_t pack = 32 / bits;
    const int64_t word_rows = cols / pack;
    for (int64_t r0 = 0; r0 < count; r0 += kOutputs) {
      const int64_t r_end = std::min(r0 + kOutputs, count);
      for (int64_t k0 = 0; k0 < word_rows; k0 += kWords) {
        const int64_t k_end = std::min(k0 + kWords, word_rows);
        for (int64_t r = r0; r < r_end; ++r) {
          const uint32_t* words = qweight + first + r;
          uint8_t* codes = to + r * cols;
          if (bits == 4)
            for (int64_t k = k0; k < k_end; ++k) spread_nibbles(words[k * rows], codes + k * 8);
          else
            for (int64_t k = k0; k < k_end; ++k) spread_bytes(words[k * rows], codes + k * 4);
        }
      }
    }
  }

  void read_zeros(int64_t first, int64_t count, int32_t* to) const override {
    const int64_t pack = 32 / bits;
    const int32_t offset = bits == 8 ? 128 : 0;  // codes are signed bytes there
    for (int64_t g = 0; g < groups(); ++g) {
      for (int64_t r = 0; r < count; ++r) {
        const int64_t o = first + r;
        const uint32_t word = qzeros[g * (rows / pack) + o / pack] + add_to_qzeros;
        to[r * groups() + g] = code_in_word(word, o % pack, bits) - offset;
      }
    }
  }
};

class GptqTensors final : public QuantizedMatrices {
 public:
  int bits = 4;
  int64_t group_size = -1;
  bool stored_less_one = true;
  bool own_sizes = false;  // modules may differ from the config: their shapes tell

  std::string_view name() const override { return "gptq"; }

  bool holds(const Checkpoint& checkpoint, std::string_view weight) const override {
    return !existing_parts(checkpoint, stem_of(weight), {".qweight"}).empty();
  }

  std::vector<std::string> parts(const Checkpoint& checkpoint,
                                 std::string_view weight) const override {
    return existing_parts(checkpoint, stem_of(weight),
                          {".qweight", ".qzeros", ".scales", ".g_idx"});
  }

 private:
  Result<std::unique_ptr<QuantizedMatrix>> open(const Checkpoint& checkpoint,
                                                std::string_view weight, int64_t rows,
                                                int64_t cols) const override;
  // Bits and group size of a module that may have its own.
  Status read_sizes(const Checkpoint& checkpoint, const std::string& stem, int64_t cols,
                    GptqMatrix* m) const;
};

Status GptqTensors::read_sizes(const Checkpoint& checkpoint, const std::string& stem, int64_t cols,
                               GptqMatrix* m) const {
  m->bits = bits;
  m->group = group_size == -1 ? std::max<int64_t>(cols, 1) : group_size;
  if (!own_sizes) return {};
  const Result<const TensorInfo*> qweight = find_part(checkpoint, stem + ".qweight", {"I32"});
  if (!qweight.ok()) return qweight.status();
  const Result<const TensorInfo*> scales =
      find_part(checkpoint, stem + ".scales", {"F16", "BF16", "F32"});
  if (!scales.ok()) return scales.status();
  for (const int width : {4, 8})
    if ((*qweight)->shape.size() == 2 && (*qweight)->shape[0] == cols / (32 / width))
      m->bits = width;
  if ((*scales)->shape.size() != 2) return {};
  const int64_t groups = (*scales)->shape[0];
  if (groups > 0 && cols % groups == 0 && m->groups() != groups) m->group = cols / groups;
  return {};
}

Result<std::unique_ptr<QuantizedMatrix>> GptqTensors::open(const Checkpoint& checkpoint,
                                                           std::string_view weight, int64_t rows,
                                                           int64_t cols) const {
  const std::string stem(stem_of(weight));
  auto m = std::make_unique<GptqMatrix>();
  m->rows = rows;
  m->cols = cols;
  if (Status s = read_sizes(checkpoint, stem, cols, m.get()); !s.ok()) return s;
  m->type = m->bits == 4 ? WeightType::kInt4 : WeightType::kInt8;
  const int64_t pack = 32 / m->bits;
  if (rows % pack != 0 || cols % pack != 0) {
    return invalid_argument(
        fmt::format("{}: '{}' has {} outputs and {} inputs, which do not fill words of {} codes; "
                    "check that config.json and the weights are of the same model",
                    checkpoint.path(), printable(weight), rows, cols, pack));
  }
  const std::string because =
      fmt::format("bits {} and groups of {} of {} inputs", m->bits, m->group, cols);
  const int64_t groups = m->groups();
  Result<Part> qweight =
      read_part(checkpoint, stem + ".qweight", {"I32"}, {{cols / pack, rows}}, because);
  if (!qweight.ok()) return qweight.status();
  Result<Part> qzeros =
      read_part(checkpoint, stem + ".qzeros", {"I32"}, {{groups, rows / pack}}, because);
  if (!qzeros.ok()) return qzeros.status();
  Result<Part> scales =
      read_part(checkpoint, stem + ".scales", {"F16", "BF16", "F32"}, {{groups, rows}}, because);
  if (!scales.ok()) return scales.status();
  Result<std::vector<int32_t>> index =
      read_group_index(checkpoint, stem + ".g_idx", cols, m->group, groups);
  if (!index.ok()) return index.status();

  m->input_major = ConstTensorView(qweight->data, cols / pack, rows, DType::kI32);
  m->qweight = qweight->words();
  m->where = qweight->where;
  m->qzeros = qzeros->words();
  if (stored_less_one) m->add_to_qzeros = m->bits == 4 ? kOnes4 : kOnes8;
  m->scales = {scales.take(), 1, 1, rows};
  m->group_of = index.take();
  return std::unique_ptr<QuantizedMatrix>(std::move(m));
}

}  // namespace

Result<std::unique_ptr<QuantizedTensors>> gptq_tensors(QuantizationFields fields) {
  auto made = std::make_unique<GptqTensors>();
  const int64_t bits = fields.integer("bits").value_or(4);
  if (bits != 4 && bits != 8)
    fields.not_read("bits", fmt::format("{}", bits), "of gptq, 4 and 8 bits are read");
  made->bits = static_cast<int>(bits);
  made->group_size = fields.integer("group_size").value_or(-1);
  if (made->group_size != -1 && made->group_size < 1) {
    fields.not_read("group_size", fmt::format("{}", made->group_size),
                    "groups are of 1 input or more, and -1 is one group for all");
  }
  const std::string_view key = fields.has("checkpoint_format") ? "checkpoint_format" : "format";
  const std::string format = fields.string_or(key, "gptq");
  if (format != "gptq" && format != "gptq_v2") {
    fields.not_read(key, "'" + format + "'",
                    "of gptq, the formats gptq and gptq_v2 are read; use a version of the model "
                    "that is not repacked for one kernel");
  }
  fields.refuse("is_marlin_format", "a checkpoint that is repacked for the Marlin kernel");
  fields.refuse("adapter", "an adapter beside the quantized weights");
  made->stored_less_one = format == "gptq";
  // GPTQModel's and AutoRound's lists of modules that differ.
  for (const std::string_view list : {"dynamic", "extra_config"}) {
    const Json* modules = find(fields.json(), list);
    if (modules != nullptr && modules->is_object() && !modules->get_object().empty())
      made->own_sizes = true;
  }
  if (!fields.status().ok()) return fields.status();
  return std::unique_ptr<QuantizedTensors>(std::move(made));
}

}  // namespace trireme

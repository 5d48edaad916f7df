// fp8 (e4m3fn) as DeepSeek-V3, Qwen3 and transformers' FineGrainedFP8 have it, and as AutoFP8 wrote
// it, for a matrix [out, in]:
//
//   x.weight            F8_E4M3 [out, in]
//   x.weight_scale_inv  [ceil(out / h), ceil(in / w)] with weight_block_size [h, w]; or, under this
//   x.weight_scale      name too, [] or [1] for all, [out, 1] by outputs
//
// W = scale * code: in spite of its name, the scale of the first kind multiplies
// (transformers/integrations/finegrained_fp8.py, _dequantize_fp8_weight). Scales of activations
// (x.input_scale, x.activation_scale) are not used: activations are not quantized here.
#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "runtime/model/weights/quantized_matrix.h"
#include "runtime/model/weights/quantized_methods.h"

namespace trireme {
namespace {

class Fp8Matrix final : public QuantizedMatrix {
 public:
  const std::byte* codes = nullptr;

  void read_codes(int64_t first, int64_t count, uint8_t* to) const override {
    std::memcpy(to, codes + first * cols, static_cast<size_t>(count * cols));
  }
  void read_zeros(int64_t, int64_t count, int32_t* to) const override {
    std::fill_n(to, count * groups(), 0);
  }
};

class Fp8Tensors final : public QuantizedMatrices {
 public:
  std::optional<std::pair<int64_t, int64_t>> block;  // outputs, inputs

  std::string_view name() const override { return "fp8"; }

  bool holds(const Checkpoint& checkpoint, std::string_view weight) const override {
    const TensorInfo* info = checkpoint.find(weight);
    return info != nullptr && !stem_of(weight).empty() && info->dtype_name == "F8_E4M3";
  }

  std::vector<std::string> parts(const Checkpoint& checkpoint,
                                 std::string_view weight) const override {
    return existing_parts(
        checkpoint, stem_of(weight),
        {".weight", ".weight_scale_inv", ".weight_scale", ".input_scale", ".activation_scale"});
  }

 private:
  Result<std::unique_ptr<QuantizedMatrix>> open(const Checkpoint& checkpoint,
                                                std::string_view weight, int64_t rows,
                                                int64_t cols) const override;
};

Result<std::unique_ptr<QuantizedMatrix>> Fp8Tensors::open(const Checkpoint& checkpoint,
                                                          std::string_view weight, int64_t rows,
                                                          int64_t cols) const {
  const std::string stem(stem_of(weight));
  auto m = std::make_unique<Fp8Matrix>();
  m->type = WeightType::kFp8;
  m->rows = rows;
  m->cols = cols;
  m->group = std::max<int64_t>(cols, 1);
  const Result<Part> codes = read_part(checkpoint, std::string(weight), {"F8_E4M3"}, {{rows, cols}},
                                       fmt::format("{} outputs and {} inputs", rows, cols));
  if (!codes.ok()) return codes.status();
  m->codes = codes->data;
  m->where = codes->where;

  const bool inverse = checkpoint.find(stem + ".weight_scale_inv") != nullptr;
  const std::string name = stem + (inverse || block ? ".weight_scale_inv" : ".weight_scale");
  std::vector<std::vector<int64_t>> shapes = {{1}, {}, {1, 1}, {rows, 1}};
  std::string because =
      "one scale for all, or one for each output, as there is no "
      "weight_block_size";
  if (block) {
    m->group = block->second;
    const int64_t row_blocks = rows == 0 ? 0 : (rows - 1) / block->first + 1;
    shapes = {{row_blocks, m->groups()}};
    because = fmt::format("weight_block_size [{}, {}]", block->first, block->second);
  }
  Result<Part> scales =
      read_part(checkpoint, name, {"F32", "BF16", "F16", "F8_E8M0"}, shapes, because);
  if (!scales.ok()) return scales.status();
  const std::vector<int64_t>& shape = scales->info->shape;
  if (block)
    m->scales = {scales.take(), block->first, m->groups(), 1};
  else if (shape == std::vector<int64_t>{rows, 1})
    m->scales = {scales.take(), 1, 1, 0};
  else
    m->scales = {scales.take(), 1, 0, 0};
  return std::unique_ptr<QuantizedMatrix>(std::move(m));
}

}  // namespace

Result<std::unique_ptr<QuantizedTensors>> fp8_tensors(QuantizationFields fields) {
  auto made = std::make_unique<Fp8Tensors>();
  const std::string fmt_field = fields.string_or("fmt", "e4m3");
  if (fmt_field != "e4m3" && fmt_field != "float8_e4m3fn")
    fields.not_read("fmt", "'" + fmt_field + "'", "of fp8, e4m3 is read");
  made->block = fields.block("weight_block_size");
  if (!fields.status().ok()) return fields.status();
  return std::unique_ptr<QuantizedTensors>(std::move(made));
}

}  // namespace trireme

#include "runtime/model/weights/quantized_tensors.h"

#include <fmt/format.h>

#include "runtime/model/weights/quantized_methods.h"

namespace trireme {
namespace {

constexpr std::string_view kRead =
    "what is read is gptq, awq, compressed-tensors, fp8 and auto-round, and weights that are not "
    "quantized";

// AutoRound quantizes in its own way and packs in that of others
// (auto_round/export/export_to_autoround/export.py, dynamic_import_quant_linear_for_packing).
Result<std::unique_ptr<QuantizedTensors>> auto_round_tensors(QuantizationFields fields) {
  const std::string packing = fields.string_or("packing_format", "auto_round:auto_gptq");
  const std::string type = fields.string_or("data_type", "int");
  if (type != "int")
    fields.not_read("data_type", "'" + type + "'", "of auto-round, the data type int is read");
  fields.refuse("rotation_config", "a rotation of weights and activations");
  if (!fields.status().ok()) return fields.status();
  if (packing == "auto_round:auto_gptq") return gptq_tensors(std::move(fields));
  if (packing == "auto_round:auto_awq") return awq_tensors(std::move(fields));
  fields.not_read("packing_format", "'" + packing + "'",
                  "of auto-round, auto_round:auto_gptq and auto_round:auto_awq are read");
  return fields.status();
}

}  // namespace

Result<std::unique_ptr<QuantizedTensors>> quantized_tensors(const Json& config,
                                                            const std::string& path) {
  // The second name is what compressed-tensors had before transformers knew it.
  for (const std::string_view key : {"quantization_config", "compression_config"}) {
    const Json* object = find(config, key);
    if (object == nullptr) continue;
    if (!object->is_object()) {
      return invalid_argument(
          fmt::format("{}: field '{}' is a {}, expected an object", path, key, json_kind(*object)));
    }
    QuantizationFields fields(*object, fmt::format("{}: {}", path, key));
    const std::string method =
        fields.string_or("quant_method", key == "compression_config" ? "compressed-tensors" : "");
    if (!fields.status().ok()) return fields.status();
    if (method == "gptq") return gptq_tensors(std::move(fields));
    if (method == "awq") return awq_tensors(std::move(fields));
    if (method == "compressed-tensors") return compressed_tensors(std::move(fields));
    if (method == "auto-round") return auto_round_tensors(std::move(fields));
    if (method == "fp8") return fp8_tensors(std::move(fields));
    if (method.empty())
      fields.fail(StatusCode::kUnimplemented, fmt::format("has no 'quant_method'; {}", kRead));
    else
      fields.not_read("quant_method", "'" + method + "'", kRead);
    return fields.status();
  }
  return std::unique_ptr<QuantizedTensors>();
}

}  // namespace trireme

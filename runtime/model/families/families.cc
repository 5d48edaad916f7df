#include "runtime/model/families/families.h"

#include <algorithm>

#include <fmt/format.h>
#include <sys/stat.h>

namespace trireme {
namespace {

bool exists(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0;
}

void add_token_ids(const Json* value, std::vector<int32_t>& ids) {
  const auto add = [&](const Json& id) {
    if (!id.is_int64() || id.get_int64() < 0 || id.get_int64() > INT32_MAX) return;
    const auto token = static_cast<int32_t>(id.get_int64());
    if (std::find(ids.begin(), ids.end(), token) == ids.end()) ids.push_back(token);
  };
  if (value == nullptr) return;
  if (value->is_array()) {
    for (const Json& id : value->get_array()) add(id);
  } else {
    add(*value);
  }
}

Result<ModelSpec> read_config_spec(ConfigReader& config, const Checkpoint* checkpoint) {
  const std::string type = config.string_or("model_type", "");
  if (type == "llama" || type == "mistral" || type == "qwen2" || type == "qwen3")
    return read_gqa_spec(config);
  if (type == "yoco") return read_yoco_spec(config, checkpoint);
  if (type == "rwkv") return read_rwkv4_spec(config);
  if (type == "rwkv7") return read_rwkv7_spec(config, checkpoint);
  if (!config.status().ok()) return config.status();
  if (type.empty()) return invalid_argument(config.path() + ": field 'model_type' is missing");
  return unimplemented(fmt::format(
      "{}: model_type '{}' is not supported; Trireme reads llama, mistral, qwen2, qwen3, rwkv (4), "
      "rwkv7 and yoco",
      config.path(), type));
}

}  // namespace

Result<ModelSpec> read_model_spec(const std::string& path, const Checkpoint* checkpoint) {
  const std::string config_path = path + "/config.json";
  if (!exists(config_path)) {
    if (checkpoint != nullptr) return read_blink_spec(*checkpoint);
    return not_found(fmt::format(
        "{}: there is no such file; dummy weights need a config.json that says the sizes",
        config_path));
  }
  Result<Json> json = read_json_file(config_path);
  if (!json.ok()) return json.status();
  if (!json->is_object()) return invalid_argument(config_path + ": expected a JSON object");
  ConfigReader config(*json, config_path);
  Result<ModelSpec> spec = read_config_spec(config, checkpoint);
  if (!spec.ok()) return spec;
  Result<std::unique_ptr<QuantizedTensors>> quantized = quantized_tensors(*json, config_path);
  if (!quantized.ok()) return quantized.status();
  spec->quantized = quantized.take();

  spec->dtype = parse_dtype(config.string_or("torch_dtype", config.string_or("dtype", "")));
  if (!config.status().ok()) return config.status();
  add_token_ids(find(*json, "eos_token_id"), spec->eos_token_ids);
  const std::string generation_path = path + "/generation_config.json";
  if (exists(generation_path)) {
    Result<Json> generation = read_json_file(generation_path);
    if (!generation.ok()) return generation.status();
    add_token_ids(find(*generation, "eos_token_id"), spec->eos_token_ids);
  }
  // Configs name end tokens that a cut vocabulary does not have; the model cannot say them.
  std::erase_if(spec->eos_token_ids, [&](int32_t id) { return id >= spec->vocab; });
  return spec;
}

}  // namespace trireme

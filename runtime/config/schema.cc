#include "runtime/config/schema.h"

#include "runtime/config/schema_kinds.h"

namespace trireme {
namespace schema {
namespace {

Kind version_one() {
  return {"1", R"({"const": 1})",
          [](const ConfigNode& node, Deployment&) -> Status {
            const Result<int64_t> value = read_integer(node, 1, kInt32Max);
            if (!value.ok()) return value.status();
            if (*value == 1) return {};
            return node.error(fmt::format(
                "version {} of the schema is not known: this program reads version 1", *value));
          },
          [](const Deployment&) { return std::string("1"); }};
}

std::vector<ConfigKey> all_keys() {
  std::vector<ConfigKey> all = {
      key("version", version_one(), "required", "the version of this schema")};
  for (auto* keys : {&model_keys, &engine_keys, &group_keys, &generate_keys, &sampling_keys,
                     &gateway_keys, &operation_keys}) {
    for (ConfigKey& k : keys()) all.push_back(std::move(k));
  }
  return all;
}

}  // namespace
}  // namespace schema

std::span<const ConfigKey> config_schema() {
  static const std::vector<ConfigKey> keys = schema::all_keys();
  return keys;
}

const ConfigKey* find_config_key(std::string_view path) {
  for (const ConfigKey& key : config_schema()) {
    if (key.path == path) return &key;
  }
  return nullptr;
}

std::string config_table() {
  std::string table;
  for (const ConfigKey& key : config_schema())
    table +=
        fmt::format("| `{}` | {} | {} | {} |\n", key.path, key.type, key.fallback, key.meaning);
  return table;
}

}  // namespace trireme

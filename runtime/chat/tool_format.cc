// Which form a model writes its calls in, and the schema of outputs that have to be calls.
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "runtime/chat/tool_calls.h"

namespace trireme {

Result<ToolFormat> tool_format_named(std::string_view name) {
  if (name == "hermes") return ToolFormat::kHermes;
  if (name == "llama3_json") return ToolFormat::kLlama3;
  if (name == "mistral") return ToolFormat::kMistral;
  return invalid_argument(
      fmt::format("'{}' is no form of tool calls: there are hermes, llama3_json and mistral",
                  name.substr(0, 40)));
}

std::optional<ToolFormat> detect_tool_format(std::string_view chat_template) {
  const auto has = [&](std::string_view text) {
    return chat_template.find(text) != std::string_view::npos;
  };
  if (has("[TOOL_CALLS]")) return ToolFormat::kMistral;
  // (Some families put XML of their own into the same tags.)
  if (has("<tool_call>")) {
    if (has("<function=") || has("<arg_key>")) return std::nullopt;
    return ToolFormat::kHermes;
  }
  if (has("<|python_tag|>") || (has("<|start_header_id|>") && has("\"parameters\": ")))
    return ToolFormat::kLlama3;
  return std::nullopt;
}

namespace {

// References into the schema of a tool's parameters, now that it is a part of another one.
void move_references(Json& schema, const std::string& root) {
  if (schema.is_array()) {
    for (Json& entry : schema.get_array()) move_references(entry, root);
  }
  if (!schema.is_object()) return;
  for (auto& [key, value] : schema.get_object()) {
    if (key == "const" || key == "enum" || key == "default" || key == "examples") continue;
    if (key == "$ref" && value.is_string() && value.get_string().starts_with("#")) {
      value = root + std::string(value.get_string()).substr(1);
    } else {
      move_references(value, root);
    }
  }
}

JsonObject call_schema(const Json& function, const std::string& root) {
  Json parameters = JsonObject{{"type", "object"}, {"additionalProperties", false}};
  if (const Json* given = find(function, "parameters")) parameters = *given;
  move_references(parameters, root + "/properties/arguments");
  JsonObject properties;
  properties["name"] = JsonObject{{"const", *find(function, "name")}};
  properties["arguments"] = std::move(parameters);
  JsonObject schema;
  schema["type"] = "object";
  schema["properties"] = std::move(properties);
  schema["required"] = JsonArray{"name", "arguments"};
  schema["additionalProperties"] = false;
  return schema;
}

}  // namespace

std::string tool_calls_schema(const JsonArray& tools, const std::optional<std::string>& name,
                              bool single) {
  JsonObject definitions;
  JsonArray any;
  for (size_t i = 0; i < tools.size(); ++i) {
    const Json* function = find(tools[i], "function");
    const Json* called = function == nullptr ? nullptr : find(*function, "name");
    if (called == nullptr || !called->is_string()) continue;
    if (name.has_value() && called->get_string() != *name) continue;
    const std::string key = fmt::format("tool{}", i);
    const std::string root = "#/$defs/" + key;
    definitions[key] = call_schema(*function, root);
    any.emplace_back(JsonObject{{"$ref", root}});
  }
  JsonObject schema;
  schema["type"] = "array";
  schema["minItems"] = 1;
  if (single) schema["maxItems"] = 1;
  schema["items"] = JsonObject{{"anyOf", std::move(any)}};
  schema["$defs"] = std::move(definitions);
  return boost::json::serialize(schema);
}

}  // namespace trireme

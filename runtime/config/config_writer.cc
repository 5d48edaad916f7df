#include "runtime/config/config_writer.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "runtime/config/schema.h"

namespace trireme {
namespace {

std::vector<std::string_view> split(std::string_view path) {
  std::vector<std::string_view> words;
  for (size_t dot = path.find('.'); dot != std::string_view::npos; dot = path.find('.')) {
    words.push_back(path.substr(0, dot));
    path.remove_prefix(dot + 1);
  }
  words.push_back(path);
  return words;
}

// Lines of YAML, one key each, sections opened as they come.
class Lines {
 public:
  void add(std::string_view path, const std::string& value, const std::string& comment) {
    const std::vector<std::string_view> words = split(path);
    const size_t sections = words.size() - 1;
    size_t same = 0;
    while (same < std::min(sections, open_.size()) && open_[same] == words[same]) ++same;
    open_.resize(same);
    for (size_t i = same; i < sections; ++i) open(words[i]);
    const std::string line = fmt::format("{}{}: {}", indent(), words.back(), value);
    dash_ = false;
    text_ += comment.empty() ? line + "\n" : fmt::format("{:<44}  # {}\n", line, comment);
  }
  std::string take() { return std::move(text_); }

 private:
  void open(std::string_view word) {
    const bool list = word.ends_with("[]");
    text_ += fmt::format("{}{}:\n", indent(), list ? word.substr(0, word.size() - 2) : word);
    open_.push_back(word);
    dash_ = list;
  }
  // Of the next line; the first key of a list's item has the item's dash.
  std::string indent() const {
    size_t columns = 0;
    for (const std::string_view word : open_) columns += word.ends_with("[]") ? 4 : 2;
    return dash_ ? std::string(columns - 2, ' ') + "- " : std::string(columns, ' ');
  }

  std::string text_;
  std::vector<std::string_view> open_;
  bool dash_ = false;
};

// "a.b": one of the words right below the section, in the order of the table.
struct Child {
  std::string path;
  const ConfigKey* key = nullptr;  // null: a section
};

std::vector<Child> children(const std::string& prefix) {
  std::vector<Child> found;
  const std::string stem = prefix.empty() ? "" : prefix + ".";
  for (const ConfigKey& key : config_schema()) {
    if (!key.path.starts_with(stem)) continue;
    const size_t dot = key.path.find('.', stem.size());
    std::string path = key.path.substr(0, dot);
    if (!found.empty() && found.back().path == path) continue;
    found.push_back({std::move(path), dot == std::string::npos ? &key : nullptr});
  }
  return found;
}

// A key with rivals was said by any of them.
std::string origin_of(const ConfigKey& key, const Origins& origins) {
  for (const ConfigKey& said : config_schema()) {
    if (said.path != key.path && (key.rivals.empty() || said.rivals != key.rivals)) continue;
    if (const auto origin = origins.find(said.path); origin != origins.end()) return origin->second;
  }
  return "default";
}

std::string json_string(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + '"';
}

std::string json_of(const std::string& prefix, const std::string& indent);

std::string json_of(const Child& child, const std::string& indent) {
  if (child.key == nullptr && child.path.ends_with("[]"))
    return fmt::format(
        R"({{"type": ["array", "null"], "minItems": 1, "maxItems": 1, "items": {}}})",
        json_of(child.path, indent));
  if (child.key == nullptr) return json_of(child.path, indent);
  const ConfigKey& key = *child.key;
  const std::string description = json_string(key.fallback == "none" || key.fallback == "required"
                                                  ? key.meaning
                                                  : key.meaning + " [" + key.fallback + "]");
  if (key.path == "version")
    return fmt::format(R"({{"description": {}, "const": 1}})", description);
  const std::string value =
      key.json_schema == "engine" ? json_of("engine", indent) : key.json_schema;
  return fmt::format(R"({{"description": {}, "anyOf": [{}, {{"type": "null"}}]}})", description,
                     value);
}

std::string json_of(const std::string& prefix, const std::string& indent) {
  std::string properties;
  for (const Child& child : children(prefix)) {
    std::string name = child.path.substr(prefix.empty() ? 0 : prefix.size() + 1);
    if (name.ends_with("[]")) name.resize(name.size() - 2);
    properties += fmt::format("{}\n{}  \"{}\": {}", properties.empty() ? "" : ",", indent, name,
                              json_of(child, indent + "  "));
  }
  return fmt::format(
      "{{\"type\": {}, \"additionalProperties\": false,{} \"properties\": {{{}\n{}}}}}",
      prefix.empty() ? R"("object")" : R"(["object", "null"])",
      prefix.empty() ? R"( "required": ["version"],)" : "", properties, indent);
}

}  // namespace

std::string write_config(const Deployment& deployment, bool origins) {
  Lines lines;
  for (const ConfigKey& key : config_schema()) {
    const std::string value = key.get(deployment);
    // Of rivals that one is written which was given. A group's engine is in `engine` by now.
    if (value == "null" && (!key.rivals.empty() || key.path == "groups[].engine")) continue;
    std::string comment;
    if (origins && key.path != "version") {
      comment = origin_of(key, deployment.origins);
    }
    lines.add(key.path, value, comment);
  }
  return lines.take();
}

std::string config_json_schema() {
  std::string schema = json_of("", "");
  schema.insert(1,
                "\"$schema\": \"http://json-schema.org/draft-07/schema#\",\n"
                "\"title\": \"A deployment of Trireme\",\n");
  return schema + "\n";
}

}  // namespace trireme

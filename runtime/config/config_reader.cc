#include "runtime/config/config_reader.h"

#include <filesystem>
#include <map>
#include <system_error>

#include <fmt/format.h>

#include "kernels/base/json.h"
#include "runtime/config/nearest.h"
#include "runtime/config/schema.h"

namespace trireme {
namespace {

// "engine" for "engine.threads" under "", "threads" under "engine"; "" where path is not below.
std::string_view child_of(std::string_view path, std::string_view prefix) {
  if (!prefix.empty()) {
    if (!path.starts_with(prefix) || path.size() <= prefix.size() || path[prefix.size()] != '.')
      return {};
    path.remove_prefix(prefix.size() + 1);
  }
  return path.substr(0, path.find('.'));
}

bool is_section(std::string_view path) {
  for (const ConfigKey& key : config_schema()) {
    if (!child_of(key.path, path).empty()) return true;
  }
  return false;
}

std::string join(std::string_view prefix, std::string_view name) {
  return prefix.empty() ? std::string(name) : fmt::format("{}.{}", prefix, name);
}

// " in engine (did you mean 'x'?)", or " (it belongs in 'generate')".
std::string hint(std::string_view prefix, std::string_view name) {
  std::vector<std::string_view> words;
  std::string_view elsewhere;
  for (const ConfigKey& key : config_schema()) {
    std::string_view child = child_of(key.path, prefix);
    if (child.ends_with("[]")) child.remove_suffix(2);
    if (!child.empty()) words.push_back(child);
    const std::string_view path = key.path;
    const size_t dot = path.rfind('.');
    if (dot != std::string_view::npos && path.substr(dot + 1) == name) elsewhere = path;
  }
  const std::string in = prefix.empty() ? std::string() : fmt::format(" in {}", prefix);
  if (!elsewhere.empty()) return fmt::format("{} (did you mean '{}'?)", in, elsewhere);
  return in + did_you_mean(name, words);
}

Status unknown_key(const ConfigNode& node, std::string_view prefix, std::string_view name) {
  const std::string shown(name.substr(0, 100));
  return node.error(fmt::format("unknown key '{}'{}", shown, hint(prefix, shown)));
}

std::string resolve(const std::string& path, const std::string& folder) {
  std::error_code ignored;
  if (path.empty() || path.front() == '/' || std::filesystem::exists(path, ignored)) return path;
  const std::filesystem::path beside = std::filesystem::path(folder) / path;
  return std::filesystem::exists(beside, ignored) ? beside.string() : path;
}

// Sets it and notes where that was said.
Status set_key(const ConfigKey& key, const ConfigNode& value, const std::string& where,
               Deployment& deployment) {
  if (Status s = key.set(value, deployment); !s.ok()) return s;
  if (!key.rivals.empty()) {
    for (const ConfigKey& other : config_schema()) {
      if (other.rivals == key.rivals) deployment.origins.erase(other.path);
    }
  }
  deployment.origins[key.path] = where;
  return {};
}

// Walks one map of the file and sets what it says.
class Walk {
 public:
  Walk(const std::string& folder, Deployment& deployment)
      : folder_(folder), deployment_(deployment) {}

  // Everything, and then what goes over it.
  Status file(const ConfigNode& root) {
    if (Status s = section(root, ""); !s.ok()) return s;
    return group_engine_ == nullptr ? Status{} : section(*group_engine_, "engine");
  }

 private:
  // `prefix` is the path of the section's keys.
  Status section(const ConfigNode& node, const std::string& prefix) {
    if (node.kind == ConfigNode::Kind::kNull) return {};
    if (node.kind != ConfigNode::Kind::kMap) {
      return node.error(fmt::format("expected a map of keys{}, found {}",
                                    prefix.empty() ? "" : " under '" + prefix + "'",
                                    node.describe()));
    }
    for (const auto& [name, value] : node.entries) {
      const std::string path = join(prefix, name.text);
      if (const size_t dot = name.text.find('.'); dot != std::string::npos) {
        if (find_config_key(path) == nullptr) return unknown_key(name, prefix, name.text);
        return name.error(fmt::format("'{}' is written as '{}:' under '{}:'", name.text,
                                      name.text.substr(dot + 1), name.text.substr(0, dot)));
      } else if (const ConfigKey* key = find_config_key(path); key != nullptr) {
        if (Status s = set(*key, name, value); !s.ok()) return s;
      } else if (is_section(path) && !path.ends_with("[]")) {
        if (Status s = section(value, path); !s.ok()) return s;
      } else if (is_section(path + "[]")) {
        if (Status s = list(name, value, path); !s.ok()) return s;
      } else {
        return unknown_key(name, prefix, name.text);
      }
    }
    return {};
  }

  Status list(const ConfigNode& name, const ConfigNode& value, const std::string& path) {
    if (value.kind == ConfigNode::Kind::kNull) return {};
    if (value.kind != ConfigNode::Kind::kList)
      return value.error(
          fmt::format("expected a list under '{}', found {}", path, value.describe()));
    for (const ConfigNode& item : value.items) {
      if (Status s = section(item, path + "[]"); !s.ok()) return s;
    }
    if (value.items.size() == 1) return {};
    return name.error(fmt::format("{} has {} entries, but this version serves one worker: keep one",
                                  path, value.items.size()));
  }

  Status set(const ConfigKey& key, const ConfigNode& name, const ConfigNode& value) {
    if (!key.rivals.empty() && value.kind != ConfigNode::Kind::kNull) {
      const auto [first, added] = given_.emplace(key.rivals, key.path);
      if (!added)
        return name.error(fmt::format("'{}' and '{}' are both given: keep one {}", first->second,
                                      key.path, key.rivals));
    }
    // null says nothing: it must not undo a rival that was given.
    if (!key.rivals.empty() && value.kind == ConfigNode::Kind::kNull) return {};
    if (key.path == "groups[].engine") group_engine_ = &value;
    if (!key.is_path || value.kind != ConfigNode::Kind::kScalar)
      return set_key(key, value, name.where, deployment_);
    ConfigNode resolved = value;
    resolved.text = resolve(value.text, folder_);
    return set_key(key, resolved, name.where, deployment_);
  }

  const std::string& folder_;
  Deployment& deployment_;
  std::map<std::string_view, std::string> given_;
  const ConfigNode* group_engine_ = nullptr;  // of the one group
};

void set_place(ConfigNode& node, const std::string& where) {
  node.where = where;
  for (ConfigNode& item : node.items) set_place(item, where);
  for (auto& [key, value] : node.entries) {
    set_place(key, where);
    set_place(value, where);
  }
}

}  // namespace

Status read_config(std::string_view text, std::string_view name, const std::string& folder,
                   Deployment& deployment) {
  Result<ConfigNode> root = parse_yaml(text, name);
  if (!root.ok()) return root.status();
  if (root->kind == ConfigNode::Kind::kNull)
    return invalid_argument(
        fmt::format("{}: the file is empty: it needs at least 'version: 1' and a model", name));
  Deployment read = deployment;  // so that an error leaves the caller's as it was
  if (Status s = Walk(folder, read).file(*root); !s.ok()) return s;
  bool has_version = false;
  for (const auto& [key, value] : root->entries)
    has_version |= key.text == "version" && value.kind != ConfigNode::Kind::kNull;
  if (!has_version)
    return invalid_argument(fmt::format("{}: no version: begin the file with 'version: 1'", name));
  deployment = std::move(read);
  return {};
}

Status read_config_file(const std::string& path, Deployment& deployment) {
  const Result<std::string> text = read_file(path, YamlLimits{}.bytes_max);
  if (!text.ok()) return text.status();
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return read_config(*text, path, folder, deployment);
}

Status set_config_key(std::string_view path, const ConfigNode& value, Deployment& deployment) {
  const ConfigKey* key = find_config_key(path);
  CHECK(key != nullptr) << path;
  return set_key(*key, value, value.where, deployment);
}

Status apply_override(std::string_view assignment, Deployment& deployment) {
  const size_t equals = assignment.find('=');
  if (equals == std::string_view::npos || equals == 0 || equals + 1 == assignment.size())
    return invalid_argument(
        fmt::format("--set {}: expected KEY=VALUE, as in engine.max_num_seqs=8", assignment));
  const std::string path(assignment.substr(0, equals));
  const std::string where = "--set " + path;
  const ConfigKey* key = find_config_key(path);
  if (path.starts_with("groups"))
    return invalid_argument(fmt::format(
        "{}: groups are described in the file alone: set engine.KEY=VALUE here", where));
  if (key == nullptr && is_section(path))
    return invalid_argument(
        fmt::format("{0}: a section: set one key of it, as in --set {1}.KEY=VALUE", where, path));
  if (key == nullptr) {
    const size_t dot = path.rfind('.');
    const std::string prefix = dot == std::string::npos ? "" : path.substr(0, dot);
    const ConfigNode place = ConfigNode::argument(path, where);
    return prefix.empty() || is_section(prefix)
               ? unknown_key(place, prefix, path.substr(prefix.empty() ? 0 : dot + 1))
               : unknown_key(place, "", path);
  }
  Result<ConfigNode> value = parse_yaml(assignment.substr(equals + 1), where);
  if (!value.ok()) return value.status();
  set_place(*value, where);
  if (value->kind == ConfigNode::Kind::kScalar) value->style = ConfigNode::Style::kArgument;
  return set_key(*key, *value, where, deployment);
}

Status validate(const Deployment& deployment) {
  if (Status s = validate(deployment.sampling); !s.ok()) return s;
  if (!deployment.generate.prompts.empty() && !deployment.generate.prompt_file.empty())
    return invalid_argument("both prompts and a prompt file are given: keep one");
  return {};
}

}  // namespace trireme

// YAML as a strict reader sees it: a tree of maps, lists and scalars with the place where each
// stands, before anybody knows what the keys mean. What YAML readers silently understand in
// different ways is an error here: duplicate keys, merge keys (<<), anchors and aliases, tags, tabs
// as indentation, keys that are not plain words. Throws nothing; thread-safe.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/status.h"

namespace trireme {

struct ConfigEntry;

struct ConfigNode {
  enum class Kind : uint8_t { kNull, kScalar, kList, kMap };
  // How a scalar was written. What stands in quotes is a string. What the command line gives is of
  // whatever type its key wants.
  enum class Style : uint8_t { kPlain, kQuoted, kArgument };

  Kind kind = Kind::kNull;
  Style style = Style::kPlain;
  std::string text;                  // of a scalar
  std::vector<ConfigNode> items;     // of a list
  std::vector<ConfigEntry> entries;  // of a map
  std::string where;                 // "file.yaml:14:7" or "--max-tokens"

  // "a map", "a list", "null", "the string 'x'", "'x'": for messages.
  std::string describe() const;
  // kInvalidArgument "<where>: <message>".
  Status error(std::string_view message) const;

  static ConfigNode argument(std::string text, std::string where);
};

// INVARIANT: key is a scalar.
struct ConfigEntry {
  ConfigNode key;
  ConfigNode value;
};

struct YamlLimits {
  size_t bytes_max = size_t{1} << 20;
  size_t nodes_max = 100'000;
  size_t depth_max = 32;
};

// The one document of `text`; `name` is the file name that messages begin with.
Result<ConfigNode> parse_yaml(std::string_view text, std::string_view name,
                              const YamlLimits& limits = {});

}  // namespace trireme

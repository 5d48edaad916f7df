#include "runtime/config/schema_kinds.h"

#include <algorithm>

#include "runtime/config/nearest.h"

namespace trireme::schema {

Result<size_t> read_choice(const ConfigNode& node, const std::vector<std::string_view>& words,
                           const OtherWords& others) {
  for (size_t i = 0; i < words.size(); ++i) {
    if (node.kind == ConfigNode::Kind::kScalar && node.text == words[i]) return i;
  }
  const auto other = std::find_if(others.begin(), others.end(),
                                  [&](const auto& pair) { return pair.first == node.text; });
  const std::string_view meant = other == others.end() ? node.text : other->second;
  return node.error(fmt::format("expected one of {}, found {}{}", fmt::join(words, ", "),
                                node.describe(), did_you_mean(meant, words)));
}

std::string choice_json(const std::vector<std::string_view>& words) {
  return fmt::format(R"({{"enum": ["{}"]}})", fmt::join(words, R"(", ")"));
}

Result<double> read_share(const ConfigNode& node) {
  const Result<double> value = read_number(node);
  if (!value.ok() || (*value > 0 && *value <= 1)) return value;
  return node.error(fmt::format("expected a number above 0, at most 1, found {}", node.describe()));
}

Result<std::optional<DType>> read_dtype(const ConfigNode& node) {
  if (node.kind == ConfigNode::Kind::kScalar && node.text == "auto") return std::optional<DType>();
  const std::optional<DType> value = parse_dtype(node.text);
  if (value == DType::kF32 || value == DType::kBF16 || value == DType::kF16) return value;
  return node.error(
      fmt::format("expected one of auto, float32, bfloat16, float16 (or fp32, bf16, fp16), found "
                  "{}",
                  node.describe()));
}

Kind only_default(Kind kind, std::string json, std::string sentence) {
  Set set = std::move(kind.set);
  kind.set = [set, sentence](const ConfigNode& node, Deployment&) -> Status {
    Deployment alone;
    if (Status s = set(node, alone); !s.ok()) return s;
    return alone == Deployment{} ? Status{} : node.error(sentence);
  };
  kind.json = std::move(json);
  return kind;
}

ConfigKey key(std::string path, Kind kind, std::string fallback, std::string meaning) {
  return {.path = std::move(path),
          .type = std::move(kind.type),
          .fallback = std::move(fallback),
          .meaning = std::move(meaning),
          .set = std::move(kind.set),
          .get = std::move(kind.get),
          .json_schema = std::move(kind.json)};
}

ConfigKey path_key(std::string path, Kind kind, std::string fallback, std::string meaning) {
  ConfigKey made = key(std::move(path), std::move(kind), std::move(fallback), std::move(meaning));
  made.is_path = true;
  return made;
}

}  // namespace trireme::schema

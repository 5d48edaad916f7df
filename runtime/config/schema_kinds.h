// The kinds of values that a key may have: how each is read, written and described. For the files
// of the table (schema.cc, schema_*.cc) alone.
#pragma once

#include <functional>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "runtime/config/schema.h"
#include "runtime/config/value_reader.h"
#include "runtime/config/value_writer.h"

namespace trireme::schema {

inline constexpr int64_t kInt32Max = std::numeric_limits<int32_t>::max();

using Set = std::function<Status(const ConfigNode&, Deployment&)>;
using Get = std::function<std::string(const Deployment&)>;

struct Kind {
  std::string type;  // in words
  std::string json;  // as JSON Schema
  Set set;
  Get get;
};

// A field of a section of Deployment: field(&Deployment::engine, &EngineOptions::threads, ...).
// `read` makes a Result of the field's type, or of what converts to it, from a node; `write` makes
// YAML of the field.
template <class Section, class Field, class Read, class Write>
Kind field(Section Deployment::*section, Field Section::*member, std::string type, std::string json,
           Read read, Write write) {
  const auto set = [=](const ConfigNode& node, Deployment& deployment) -> Status {
    Field& target = deployment.*section.*member;
    if (node.kind == ConfigNode::Kind::kNull) {
      target = Deployment{}.*section.*member;
      return {};
    }
    auto value = read(node);
    if (!value.ok()) return value.status();
    if constexpr (std::is_arithmetic_v<Field>) {
      target = static_cast<Field>(*value);
    } else {
      target = std::move(*value);
    }
    return {};
  };
  const auto get = [=](const Deployment& deployment) -> std::string {
    return write(deployment.*section.*member);
  };
  return {std::move(type), std::move(json), set, get};
}

template <class Section, class Field>
Kind integer(Section Deployment::*section, Field Section::*member, int64_t min, int64_t max) {
  std::string type = max >= kInt32Max ? fmt::format("integer, at least {}", min)
                                      : fmt::format("integer, {} to {}", min, max);
  const auto read = [=](const ConfigNode& node) -> Result<std::remove_cvref_t<Field>> {
    const Result<int64_t> value = read_integer(node, min, max);
    if (!value.ok()) return value.status();
    if constexpr (std::is_arithmetic_v<Field>) {
      return static_cast<Field>(*value);
    } else {
      return Field(static_cast<typename Field::value_type>(*value));
    }
  };
  const auto write = [](const Field& value) -> std::string {
    if constexpr (std::is_arithmetic_v<Field>) {
      return std::to_string(value);
    } else {
      return value.has_value() ? std::to_string(*value) : "null";
    }
  };
  return field(section, member, std::move(type),
               fmt::format(R"({{"type": "integer", "minimum": {}, "maximum": {}}})", min, max),
               read, write);
}

template <class Section>
Kind seed(Section Deployment::*section, uint64_t Section::*member) {
  return field(section, member, "integer, 0 to 2^64 - 1",
               R"({"type": "integer", "minimum": 0, "maximum": 18446744073709551615})",
               read_unsigned, [](uint64_t value) { return std::to_string(value); });
}

// `json`: its range, as "minimum": 0.
template <class Section>
Kind number(Section Deployment::*section, float Section::*member, std::string_view range,
            std::string_view json) {
  return field(section, member, fmt::format("number, {}", range),
               fmt::format(R"({{"type": "number", {}}})", json), read_number, write_number);
}

Result<double> read_share(const ConfigNode& node);

// A part of a whole.
template <class Section>
Kind share(Section Deployment::*section, float Section::*member) {
  return field(section, member, "number, above 0, at most 1",
               R"({"type": "number", "exclusiveMinimum": 0, "maximum": 1})", read_share,
               write_number);
}

template <class Section>
Kind boolean(Section Deployment::*section, bool Section::*member) {
  return field(section, member, "true or false", R"({"type": "boolean"})", read_boolean,
               [](bool value) { return std::string(value ? "true" : "false"); });
}

template <class Section, class Field>
Kind size(Section Deployment::*section, Field Section::*member) {
  const auto write = [](const Field& value) -> std::string {
    if constexpr (std::is_arithmetic_v<Field>) {
      return write_size(value);
    } else {
      return value.has_value() ? write_size(*value) : "null";
    }
  };
  return field(section, member, "size, as in 512MiB",
               R"({"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?([KMGT]i?)?B$"})", read_size,
               write);
}

template <class Section>
Kind duration(Section Deployment::*section, uint64_t Section::*member) {
  return field(section, member, "duration, as in 30s",
               R"({"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(ms|s|m|h)$"})",
               read_duration_ms, write_duration_ms);
}

// Of a field that is empty by default, null is that.
template <class Section, class Field>
Kind text(Section Deployment::*section, Field Section::*member) {
  const auto write = [=](const Field& value) -> std::string {
    if constexpr (std::is_same_v<Field, std::string>) {
      const bool unsaid = value.empty() && (Deployment{}.*section.*member).empty();
      return unsaid ? "null" : write_string(value);
    } else {
      return value.has_value() ? write_string(*value) : "null";
    }
  };
  return field(section, member, "string", R"({"type": "string"})", read_string, write);
}

// What others call a choice, and the choice: not read, but told in "did you mean".
using OtherWords = std::vector<std::pair<std::string_view, std::string_view>>;

// Which of the words the node says.
Result<size_t> read_choice(const ConfigNode& node, const std::vector<std::string_view>& words,
                           const OtherWords& others);
std::string choice_json(const std::vector<std::string_view>& words);

// One of a few words; each stands for a value of the field.
template <class Section, class Field>
Kind choice(Section Deployment::*section, Field Section::*member,
            std::initializer_list<std::pair<std::string_view, Field>> list,
            OtherWords others = {}) {
  std::vector<std::string_view> words;
  std::vector<Field> values;
  for (const auto& [word, value] : list) {
    words.push_back(word);
    values.push_back(value);
  }
  const auto read = [=](const ConfigNode& node) -> Result<Field> {
    const Result<size_t> at = read_choice(node, words, others);
    if (!at.ok()) return at.status();
    return values[*at];
  };
  const auto write = [=](const Field& value) -> std::string {
    for (size_t i = 0; i < values.size(); ++i) {
      if (values[i] == value) return std::string(words[i]);
    }
    return "null";
  };
  return field(section, member, fmt::format("{}", fmt::join(words, ", ")), choice_json(words), read,
               write);
}

Result<std::optional<DType>> read_dtype(const ConfigNode& node);

template <class Section>
Kind dtype(Section Deployment::*section, std::optional<DType> Section::*member) {
  return field(section, member, "auto, float32, bfloat16, float16",
               choice_json({"auto", "float32", "bfloat16", "float16", "fp32", "bf16", "fp16"}),
               read_dtype, write_dtype);
}

inline constexpr std::string_view kStringsJson =
    R"({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})";

template <class Section>
Kind strings(Section Deployment::*section, std::vector<std::string> Section::*member) {
  return field(section, member, "string or list of strings", std::string(kStringsJson),
               read_strings, write_strings);
}

// Of what this version cannot do: a value of the kind that is not the default is refused, with
// `sentence`, where it stands. `json`: what is left.
Kind only_default(Kind kind, std::string json, std::string sentence);

ConfigKey key(std::string path, Kind kind, std::string fallback, std::string meaning);
// A path is relative to the current folder, else to the file's.
ConfigKey path_key(std::string path, Kind kind, std::string fallback, std::string meaning);

// The table, in the order in which a file is usually written.
std::vector<ConfigKey> model_keys();
std::vector<ConfigKey> engine_keys();
std::vector<ConfigKey> group_keys();
std::vector<ConfigKey> generate_keys();
std::vector<ConfigKey> sampling_keys();
std::vector<ConfigKey> gateway_keys();
std::vector<ConfigKey> operation_keys();  // admin, metrics, tracing, logging

}  // namespace trireme::schema

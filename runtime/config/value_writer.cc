#include "runtime/config/value_writer.h"

#include <fmt/format.h>

namespace trireme {

std::string write_number(float value) { return fmt::format("{}", value); }

std::string write_string(std::string_view value) {
  std::string quoted = "\"";
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (c == '\n') {
      quoted += "\\n";
    } else if (c == '\t') {
      quoted += "\\t";
    } else if (c == '\r') {
      quoted += "\\r";
    } else if (byte < 0x20 || byte == 0x7f) {
      quoted += fmt::format("\\u{:04x}", byte);
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

std::string write_size(uint64_t bytes) {
  constexpr std::string_view kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (bytes > 0 && bytes % 1024 == 0 && unit + 1 < std::size(kUnits)) {
    bytes /= 1024;
    ++unit;
  }
  return fmt::format("{}{}", bytes, kUnits[unit]);
}

std::string write_duration_ms(uint64_t ms) {
  if (ms == 0 || ms % 1000 != 0) return fmt::format("{}ms", ms);
  if (ms % 3'600'000 == 0) return fmt::format("{}h", ms / 3'600'000);
  if (ms % 60'000 == 0) return fmt::format("{}m", ms / 60'000);
  return fmt::format("{}s", ms / 1000);
}

std::string write_dtype(const std::optional<DType>& dtype) {
  if (!dtype) return "auto";
  return *dtype == DType::kF32 ? "float32" : *dtype == DType::kBF16 ? "bfloat16" : "float16";
}

std::string write_strings(const std::vector<std::string>& values) {
  std::vector<std::string> quoted;
  for (const std::string& value : values) quoted.push_back(write_string(value));
  return fmt::format("[{}]", fmt::join(quoted, ", "));
}

std::string write_token_ids(const std::vector<int32_t>& ids) {
  return fmt::format("[{}]", fmt::join(ids, ", "));
}

std::string write_logit_bias(const std::vector<std::pair<int32_t, float>>& bias) {
  std::vector<std::string> entries;
  for (const auto& [id, amount] : bias)
    entries.push_back(fmt::format("{}: {}", id, write_number(amount)));
  return fmt::format("{{{}}}", fmt::join(entries, ", "));
}

}  // namespace trireme

#include "runtime/config/units.h"

#include <array>
#include <limits>
#include <span>
#include <string>

#include <fmt/format.h>

namespace trireme {
namespace {

struct Unit {
  std::string_view name;
  uint64_t factor;
};

constexpr std::array<Unit, 9> kSizes{{{"B", 1},
                                      {"KB", 1'000},
                                      {"MB", 1'000'000},
                                      {"GB", 1'000'000'000},
                                      {"TB", 1'000'000'000'000},
                                      {"KiB", uint64_t{1} << 10},
                                      {"MiB", uint64_t{1} << 20},
                                      {"GiB", uint64_t{1} << 30},
                                      {"TiB", uint64_t{1} << 40}}};
constexpr std::array<Unit, 4> kDurations{
    {{"ms", 1}, {"s", 1'000}, {"m", 60'000}, {"h", 3'600'000}}};

__extension__ typedef unsigned __int128 uint128;

bool digit(char c) { return c >= '0' && c <= '9'; }

// number * factor exactly, or nothing where it is not whole or too large. `number` is digits, or
// digits '.' digits.
bool multiply(std::string_view number, uint64_t factor, uint64_t& out) {
  uint128 value = 0;
  uint128 scale = 1;  // 10^decimals
  bool decimals = false;
  for (const char c : number) {
    if (c == '.') {
      decimals = true;
      continue;
    }
    value = value * 10 + static_cast<unsigned>(c - '0');
    if (decimals) scale *= 10;
    // 2^64 * 10^19 < 2^128: room for 19 digits, and the product with the largest factor is checked
    // by division below.
    if (value > std::numeric_limits<uint64_t>::max()) return false;
  }
  const uint128 product = value * factor;
  if (product % scale != 0 || product / scale > std::numeric_limits<uint64_t>::max()) return false;
  out = static_cast<uint64_t>(product / scale);
  return true;
}

Result<uint64_t> parse(std::string_view text, std::span<const Unit> units, std::string_view what,
                       std::string_view example) {
  size_t n = 0;
  size_t points = 0;
  while (n < text.size() && (digit(text[n]) || text[n] == '.')) points += text[n++] == '.';
  const std::string_view number = text.substr(0, n);
  const std::string_view unit = text.substr(n);
  const auto bad = [&](std::string_view why) -> Status {
    return invalid_argument(fmt::format("'{}' is not a {}: {}, as in {}",
                                        text.size() <= 60 ? text : text.substr(0, 60), what, why,
                                        example));
  };
  if (number.empty() || number.size() > 19 || points > 1 || !digit(number.front()) ||
      !digit(number.back()))
    return bad("write a number and a unit");
  if (unit.empty()) return bad("it needs a unit");
  for (const Unit& known : units) {
    if (unit != known.name) continue;
    uint64_t value = 0;
    if (!multiply(number, known.factor, value)) return bad("it is too large or not whole");
    return value;
  }
  std::string names;
  for (const Unit& known : units)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", known.name);
  return bad(fmt::format("the units are {}", names));
}

}  // namespace

Result<uint64_t> parse_size(std::string_view text) {
  return parse(text, kSizes, "size", "512MiB or 1.5GiB");
}

Result<uint64_t> parse_duration_ms(std::string_view text) {
  return parse(text, kDurations, "duration", "30s or 500ms");
}

std::string format_size(uint64_t bytes) {
  for (auto unit = kSizes.rbegin(); unit != kSizes.rend(); ++unit) {
    if (unit->name.size() != 3 || bytes < unit->factor) continue;
    std::string number =
        fmt::format("{:.2f}", static_cast<double>(bytes) / static_cast<double>(unit->factor));
    while (number.back() == '0') number.pop_back();
    if (number.back() == '.') number.pop_back();
    return fmt::format("{} {}", number, unit->name);
  }
  return fmt::format("{} B", bytes);
}

}  // namespace trireme

// Cutting a text at the matches of a pattern, in the five ways of HF tokenizers'
// SplitDelimiterBehavior. Pure; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/text/regex.h"

namespace trireme {

// What happens to "-" in "the-final--countdown":
enum class SplitBehavior : uint8_t {
  kRemoved,             // the | final | countdown
  kIsolated,            // the | - | final | - | - | countdown
  kMergedWithPrevious,  // the- | final- | - | countdown
  kMergedWithNext,      // the | -final | - | -countdown
  kContiguous,          // the | - | final | -- | countdown
};

// "Removed" and so on, as tokenizer.json spells them.
std::optional<SplitBehavior> parse_split_behavior(std::string_view name);

struct Span {
  size_t begin = 0;
  size_t end = 0;
  bool is_match = false;
};

// The parts of a text of `bytes` bytes, in order, none empty. `invert`: what lies between the
// matches is the delimiter. `parts` is overwritten.
// REQUIRES: matches are ascending and do not overlap.
void split_at(std::span<const Regex::Match> matches, size_t bytes, SplitBehavior behavior,
              bool invert, std::vector<Span>& parts);

}  // namespace trireme

#include "runtime/text/split.h"

#include <algorithm>
#include <utility>

namespace trireme {
namespace {

// Joins a delimiter to the part after which it comes, unless that part is a delimiter itself.
void merge_with_previous(std::vector<Span>& spans) {
  size_t kept = 0;
  bool previous_is_match = false;
  for (size_t i = 0; i < spans.size(); ++i) {
    const Span span = spans[i];
    if (span.is_match && !previous_is_match && kept > 0) {
      spans[kept - 1].begin = std::min(spans[kept - 1].begin, span.begin);
      spans[kept - 1].end = std::max(spans[kept - 1].end, span.end);
    } else {
      spans[kept++] = span;
    }
    previous_is_match = span.is_match;
  }
  spans.resize(kept);
}

void merge_equals(std::vector<Span>& spans) {
  size_t kept = 0;
  bool previous_is_match = false;
  for (size_t i = 0; i < spans.size(); ++i) {
    const Span span = spans[i];
    if (span.is_match == previous_is_match && kept > 0) {
      spans[kept - 1].end = span.end;
    } else {
      spans[kept++] = span;
    }
    previous_is_match = span.is_match;
  }
  spans.resize(kept);
}

}  // namespace

std::optional<SplitBehavior> parse_split_behavior(std::string_view name) {
  constexpr std::pair<std::string_view, SplitBehavior> kNames[] = {
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous}};
  for (const auto& [known, behavior] : kNames) {
    if (name == known) return behavior;
  }
  return std::nullopt;
}

void split_at(std::span<const Regex::Match> matches, size_t bytes, SplitBehavior behavior,
              bool invert, std::vector<Span>& parts) {
  parts.clear();
  size_t done = 0;
  for (const Regex::Match& match : matches) {
    if (done < match.begin) parts.push_back({done, match.begin, invert});
    parts.push_back({match.begin, match.end, !invert});
    done = match.end;
  }
  if (done < bytes) parts.push_back({done, bytes, invert});

  switch (behavior) {
    case SplitBehavior::kRemoved:
      std::erase_if(parts, [](const Span& span) { return span.is_match; });
      break;
    case SplitBehavior::kIsolated:
      break;
    case SplitBehavior::kMergedWithPrevious:
      merge_with_previous(parts);
      break;
    case SplitBehavior::kMergedWithNext:
      std::reverse(parts.begin(), parts.end());
      merge_with_previous(parts);
      std::reverse(parts.begin(), parts.end());
      break;
    case SplitBehavior::kContiguous:
      merge_equals(parts);
      break;
  }
  std::erase_if(parts, [](const Span& span) { return span.begin == span.end; });
}

}  // namespace trireme

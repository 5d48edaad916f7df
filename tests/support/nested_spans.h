// Spans of one thread, as a trace draws them.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace trireme::test {

// Of two spans {begin, end} one is in the other, or they do not meet by more than `slack`.
template <class Time>
void expect_nested(std::vector<std::pair<Time, Time>> spans, Time slack = {}) {
  std::sort(spans.begin(), spans.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first < b.first : a.second > b.second;
  });
  std::vector<Time> open;
  for (const auto& [begin, end] : spans) {
    while (!open.empty() && open.back() <= begin + slack) open.pop_back();
    if (!open.empty()) {
      EXPECT_LE(end, open.back() + slack) << "from " << begin;
    }
    open.push_back(end);
  }
}

}  // namespace trireme::test

// The five ways of cutting, on HF's own example and at the edges.
#include "runtime/text/split.h"

#include <string>

#include <gtest/gtest.h>

namespace trireme {
namespace {

std::string cut(std::string_view text, SplitBehavior behavior, bool invert = false) {
  std::vector<Regex::Match> matches;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '-') matches.push_back({i, i + 1});
  }
  std::vector<Span> parts;
  split_at(matches, text.size(), behavior, invert, parts);
  std::string all;
  for (const Span& part : parts) {
    all.append(all.empty() ? "" : "|").append(text.substr(part.begin, part.end - part.begin));
  }
  return all;
}

TEST(Split, Behaviors) {
  const std::string_view text = "the-final--countdown";
  EXPECT_EQ(cut(text, SplitBehavior::kRemoved), "the|final|countdown");
  EXPECT_EQ(cut(text, SplitBehavior::kIsolated), "the|-|final|-|-|countdown");
  EXPECT_EQ(cut(text, SplitBehavior::kMergedWithPrevious), "the-|final-|-|countdown");
  EXPECT_EQ(cut(text, SplitBehavior::kMergedWithNext), "the|-final|-|-countdown");
  EXPECT_EQ(cut(text, SplitBehavior::kContiguous), "the|-|final|--|countdown");
}

TEST(Split, InvertedTheWordsAreTheDelimiter) {
  EXPECT_EQ(cut("a-b--", SplitBehavior::kRemoved, true), "-|-|-");
  EXPECT_EQ(cut("a-b--", SplitBehavior::kMergedWithPrevious, true), "a|-b|-|-");
}

TEST(Split, Edges) {
  EXPECT_EQ(cut("", SplitBehavior::kIsolated), "");
  EXPECT_EQ(cut("-", SplitBehavior::kRemoved), "");
  EXPECT_EQ(cut("--a", SplitBehavior::kMergedWithPrevious), "-|-|a");
  EXPECT_EQ(cut("a--", SplitBehavior::kMergedWithNext), "a|-|-");
  EXPECT_EQ(cut("--a", SplitBehavior::kContiguous), "--|a");
}

TEST(Split, NamesAreThoseOfTokenizerJson) {
  EXPECT_EQ(parse_split_behavior("MergedWithNext"), SplitBehavior::kMergedWithNext);
  EXPECT_EQ(parse_split_behavior("isolated"), std::nullopt);
}

}  // namespace
}  // namespace trireme

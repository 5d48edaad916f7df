// The longest string of a set is found even where its beginnings are not in the set.
#include "runtime/text/byte_trie.h"

#include <gtest/gtest.h>

namespace trireme {
namespace {

using Entries = std::vector<std::pair<std::string_view, int32_t>>;

TEST(ByteTrie, FindsTheLongestPrefix) {
  ByteTrie trie;
  const std::string_view binary("\x00\xff", 2);
  EXPECT_EQ(trie.build(Entries{{"a", 1}, {"abcd", 2}, {"b", 3}, {"ba", 4}, {binary, 5}}), -1);
  const auto check = [&](std::string_view text, int32_t value, size_t bytes) {
    const ByteTrie::Found found = trie.longest_prefix(text);
    EXPECT_EQ(found.value, value) << text;
    EXPECT_EQ(found.bytes, bytes) << text;
  };
  check("abcde", 2, 4);  // "ab" and "abc" are no strings of the set
  check("abc", 1, 1);    // and the way back goes to "a"
  check("bab", 4, 2);
  check("b", 3, 1);
  check("cab", -1, 0);
  check("", -1, 0);
  check(std::string_view("\x00\xff\x00", 3), 5, 2);
  check(std::string_view("\x00", 1), -1, 0);
}

TEST(ByteTrie, TellsWhichEntryIsEmptyOrRepeated) {
  ByteTrie trie;
  EXPECT_EQ(trie.build(Entries{{"a", 1}, {"", 2}}), 1);
  EXPECT_EQ(trie.build(Entries{{"x", 1}, {"a", 2}, {"x", 3}}), 2);
  EXPECT_EQ(trie.build(Entries{}), -1);
  EXPECT_TRUE(trie.empty());
  EXPECT_EQ(trie.longest_prefix("a").value, -1);
}

}  // namespace
}  // namespace trireme

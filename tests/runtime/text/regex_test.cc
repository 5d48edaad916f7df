// A pattern in Oniguruma's syntax finds what Oniguruma finds (the expected matches were taken from
// HF tokenizers 0.23), and what cannot be rewritten is refused.
#include "runtime/text/regex.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/text/onig_syntax.h"

namespace trireme {
namespace {

std::string matches_of(std::string_view pattern, std::string_view text) {
  Result<Regex> regex = Regex::compile(pattern);
  if (!regex.ok()) return regex.status().message();
  Regex::Scratch scratch;
  std::vector<Regex::Match> matches;
  Status status = regex->find_all(text, scratch, matches);
  if (!status.ok()) return status.message();
  std::string all;
  for (const Regex::Match& match : matches) {
    all.append("[").append(text.substr(match.begin, match.end - match.begin)).append("]");
  }
  return all;
}

TEST(Regex, MeansWhatOnigurumaMeans) {
  struct Case {
    const char* pattern;
    const char* text;
    const char* matches;
  };
  const Case cases[] = {
      {"\\s", "a\u180e b\u3000", "[ ][\u3000]"},  // PCRE2's \s holds U+180E
      {"\\S+", "a\u180e b", "[a\u180e][b]"},
      {"\\w+", "caf\u00e9\u0301_1-\u00b2", "[caf\u00e9\u0301_1][\u00b2]"},
      {"[\\w]+", "a\u00b2b", "[a][b]"},  // in brackets \w does not hold superscripts
      {"\\h+", "xfFg9", "[fF][9]"},
      {"\\p{N}{1,3}+", "12345 6", "[12345][6]"},  // a repeated repetition
      {"\\p{N}{1,3}", "12345", "[123][45]"},
      {"a++b?", "aab", "[aab]"},
      {"(ab){2}?", "abab", "[abab]"},  // optional, not lazy
      {"a{,2}b", "aaab", "[aab]"},
      {"a{b", "xa{b", "[a{b]"},
      {"^.", "ab\ncd\n", "[a][c]"},  // ^ and $ at every line
      {"\\s+$", "a \n b ", "[ ][ ]"},
      {"(?m)a.b", "a\nb", "[a\nb]"},
      {"a(?i)b|c", "aB c aC", "[aB][aC]"},
      {"(?i:'s|'ll)", "'S 'LL '\u017f", "['S]['LL]['\u017f]"},
      {"[a-z&&[^aeiou]]+", "hello", "[h][ll]"},
      {"[^a[b-d]]+", "xaybz", "[x][y][z]"},
      {"[[:alpha:]]+|[[:^alnum:]]", "ab1-", "[ab][-]"},
      {"[]a]+", "x]a", "[]a]"},
      {"\\p{^L}+|\\P{N}", "a1-b", "[a][1-][b]"},
      {"[^\\s\\P{L}]+", "ab 1c", "[ab][c]"},
      {"\\p{Han}+", "\u4e00\u3001\u30fc\U0002ebf0",
       "[\u4e00][\U0002ebf0]"},                   // scripts, Unicode 15.1
      {"\\p{Lo}", "\U00031350", "[\U00031350]"},  // Unicode 15
      {"\\b", "ab", "[][]"},
      {"x*", "axb", "[][x][]"},  // no empty match right after a match
      {"", "\u00e9a", "[][][]"},
      {"(?<=a)b|(?<!a)c(?=d)(?!de)", "abcdcdebac", "[b][c]"},
      {"\\x41\\x{e9}\\u00e8\\t", "A\u00e9\u00e8\t", "[A\u00e9\u00e8\t]"},
      {"a#b (?#no)c", "a#b c", "[a#b c]"},
      {"\\R|\\N", "\r\na\n", "[\r\n][a][\n]"},
  };
  for (const Case& c : cases) EXPECT_EQ(matches_of(c.pattern, c.text), c.matches) << c.pattern;
}

TEST(Regex, RefusesWhatItDoesNotUnderstand) {
  for (const char* pattern :
       {"(a)\\1", "(?<name>a)", "\\Ga",        "a\\Kb",         "\\X",   "(?x: a)",     "(*ACCEPT)",
        "(?~a)",  "(?(1)a)",    "[[:print:]]", "\\p{Nonsense}", "\\pL",  "a**b(",       "*a",
        "[a",     "[b-a]",      "\\",          "(?=a)*",        "[\\q]", "\\x{110000}", "\\xff",
        "a)"}) {
    Result<Regex> regex = Regex::compile(pattern);
    ASSERT_FALSE(regex.ok()) << pattern;
    EXPECT_NE(regex.status().message().find("pattern"), std::string::npos)
        << regex.status().message();
  }
}

// Nesting, length and repetition have limits, and reaching one is an answer.
TEST(Regex, HostilePatternsAreRefused) {
  std::string deep;
  for (int i = 0; i < 10000; ++i) deep += "(";
  EXPECT_FALSE(Regex::compile(deep).ok());
  EXPECT_FALSE(Regex::compile(std::string(100000, 'a')).ok());
  std::string sets = "[";
  for (int i = 0; i < 1000; ++i) sets += "[^a]";
  EXPECT_FALSE(Regex::compile(sets + "]").ok());
  std::string words;
  for (int i = 0; i < 20000; ++i) words += "\\b";
  EXPECT_FALSE(Regex::compile(words).ok());
  EXPECT_FALSE(Regex::compile("a" + std::string(1000, '*')).ok());
}

TEST(Regex, RunawayBacktrackingEndsInAnError) {
  const std::string found = matches_of("(?:a*)*b|(?:a|aa)+$", std::string(5000, 'a') + "c");
  EXPECT_NE(found.find("too many steps"), std::string::npos) << found.substr(0, 200);
}

// Many searches, each within its own limit, that together take the square of the text.
TEST(Regex, WorkThatGrowsWithTheSquareEndsInAnError) {
  Result<Regex> regex = Regex::compile("\\p{N}{1,3}(?=(?:\\p{N}{3})*(?!\\p{N}))");
  ASSERT_TRUE(regex.ok()) << regex.status().message();
  std::vector<Regex::Match> matches;
  Regex::Scratch scratch(/*cpu_ms_max=*/100);
  EXPECT_TRUE(regex->find_all("1234567", scratch, matches).ok());
  EXPECT_EQ(matches.size(), 3u);
  const Status status = regex->find_all(std::string(300000, '7'), scratch, matches);
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.message().find("too many steps"), std::string::npos) << status.message();
}

TEST(Regex, SpacesBeforeAWordDoNotTakeTheSquare) {
  EXPECT_EQ(matches_of("\\s+$", std::string(2000000, ' ') + "1 "), "[ ]");
}

// The JIT's stack is small; a group that repeats over a long text goes on in the interpreter.
TEST(Regex, LongMatchesNeedNoStack) {
  const std::string text(300000, 'a');
  const std::string found = matches_of("(?:a|b(?=c))+", text);
  EXPECT_EQ(found.size(), text.size() + 2) << found.substr(0, 200);
}

}  // namespace
}  // namespace trireme

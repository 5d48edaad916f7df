// The model by itself: merges by rank, whatever the length of the piece; bytes and unknowns where a
// character has no token; the options of tokenizer.json.
#include "runtime/text/bpe.h"

#include <map>
#include <random>

#include <gtest/gtest.h>

#include "tests/runtime/text/tiny_tokenizer.h"

namespace trireme {
namespace {

using testing::encode;
using testing::Ids;
using testing::TinyTokenizer;

TEST(Bpe, MergesTheLowestRankFirstThenTheLeftmost) {
  TinyTokenizer tiny;
  tiny.vocab = R"({"a": 0, "b": 1, "c": 2, "bc": 3, "ab": 4, "abc": 5, "aa": 6})";
  tiny.merges = R"(["b c", "a b", "a bc", "a a"])";
  const auto tokenizer = tiny.load();
  EXPECT_EQ(encode(*tokenizer, "abc"), (Ids{5}));  // bc before ab
  EXPECT_EQ(encode(*tokenizer, "ab"), (Ids{4}));
  EXPECT_EQ(encode(*tokenizer, "aaa"), (Ids{6, 0}));
  EXPECT_EQ(encode(*tokenizer, ""), (Ids{}));
}

TEST(Bpe, MergesMayBePairsOfStrings) {
  TinyTokenizer tiny;
  tiny.vocab = R"({"a": 0, " ": 1, "a ": 2})";
  tiny.merges = R"([["a", " "]])";
  EXPECT_EQ(encode(*tiny.load(), "aa "), (Ids{0, 2}));
}

TEST(Bpe, ARepeatedMergeHasItsLastRank) {
  TinyTokenizer tiny;
  tiny.vocab = R"({"a": 0, "b": 1, "c": 2, "ab": 3, "bc": 4})";
  tiny.merges = R"(["a b", "b c", "a b"])";
  EXPECT_EQ(encode(*tiny.load(), "abc"), (Ids{0, 4}));
}

// Merges one pair after another, looking at all of them each time: the definition.
Ids merge_by_definition(Ids ids, const std::map<std::pair<int32_t, int32_t>, int32_t>& merges) {
  while (true) {
    size_t best = ids.size();
    int32_t best_id = INT32_MAX;  // in this vocabulary the id of a merge grows with its rank
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto merge = merges.find({ids[i], ids[i + 1]});
      if (merge == merges.end() || merge->second >= best_id) continue;
      best = i;
      best_id = merge->second;
    }
    if (best == ids.size()) return ids;
    ids[best] = best_id;
    ids.erase(ids.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
}

// Short pieces and long ones take different ways; both are the definition.
TEST(Bpe, AgreesWithTheDefinitionAtEveryLength) {
  std::mt19937 random(11);
  for (int round = 0; round < 40; ++round) {
    std::vector<std::string> tokens = {"a", "b", "c"};
    std::map<std::pair<int32_t, int32_t>, int32_t> merges;
    std::string vocab = R"("a": 0, "b": 1, "c": 2)";
    std::string list;
    while (tokens.size() < 30) {
      const size_t left = random() % tokens.size();
      const size_t right = random() % tokens.size();
      const std::string joined = tokens[left] + tokens[right];
      if (joined.size() > 8 || vocab.find("\"" + joined + "\"") != std::string::npos) continue;
      const int32_t id = static_cast<int32_t>(tokens.size());
      merges[{static_cast<int32_t>(left), static_cast<int32_t>(right)}] = id;
      vocab += fmt::format(R"(, "{}": {})", joined, id);
      list += fmt::format(R"({}"{} {}")", list.empty() ? "" : ", ", tokens[left], tokens[right]);
      tokens.push_back(joined);
    }
    TinyTokenizer tiny;
    tiny.vocab = "{" + vocab + "}";
    tiny.merges = "[" + list + "]";
    const auto tokenizer = tiny.load();
    for (const size_t length : {1, 2, 7, 47, 48, 49, 50, 130, 1000}) {
      std::string text;
      Ids characters;
      for (size_t i = 0; i < length; ++i) {
        characters.push_back(static_cast<int32_t>(random() % 3));
        text.push_back(static_cast<char>('a' + characters.back()));
      }
      ASSERT_EQ(encode(*tokenizer, text), merge_by_definition(characters, merges)) << text;
    }
  }
}

TEST(Bpe, IgnoreMergesTakesAWholePieceFirst) {
  TinyTokenizer tiny;
  tiny.vocab = R"({"a": 0, "b": 1, "ab": 2, "bab": 3})";
  EXPECT_EQ(encode(*tiny.load(), "bab"), (Ids{1, 2}));
  tiny.model_more = R"(, "ignore_merges": true)";
  EXPECT_EQ(encode(*tiny.load(), "bab"), (Ids{3}));
  EXPECT_EQ(encode(*tiny.load(), "babb"), (Ids{1, 2, 1}));
}

TEST(Bpe, CharactersWithoutATokenBecomeBytesOrUnknown) {
  TinyTokenizer tiny;
  tiny.vocab = R"({"a": 0, "<unk>": 1, "<0xC3>": 2, "<0xA9>": 3})";
  tiny.merges = "[]";
  EXPECT_EQ(encode(*tiny.load(), "a\u00e9\u00e8a"), (Ids{0, 0})) << "dropped";
  tiny.model_more = R"(, "unk_token": "<unk>")";
  EXPECT_EQ(encode(*tiny.load(), "a\u00e9\u00e8a"), (Ids{0, 1, 1, 0}));
  tiny.model_more = R"(, "unk_token": "<unk>", "fuse_unk": true)";
  EXPECT_EQ(encode(*tiny.load(), "a\u00e9\u00e8a"), (Ids{0, 1, 0}));
  tiny.model_more = R"(, "unk_token": "<unk>", "byte_fallback": true)";
  EXPECT_EQ(encode(*tiny.load(), "a\u00e9\u00e8a"), (Ids{0, 2, 3, 1, 0})) << "<0xA8> is missing";
  // An unknown waits for the next token, and bytes do not count as one: as HF does it.
  EXPECT_EQ(encode(*tiny.load(), "\u00e8\u00e9a"), (Ids{2, 3, 1, 0}));
}

TEST(Bpe, AnUnknownTokenThatIsNotThereIsAnErrorWhenItIsNeeded) {
  TinyTokenizer tiny;
  tiny.model_more = R"(, "unk_token": "<unk>")";
  const auto tokenizer = tiny.load();
  EXPECT_EQ(encode(*tokenizer, "ab"), (Ids{2}));
  const Result<Ids> ids = tokenizer->encode("abx", {});
  ASSERT_FALSE(ids.ok());
  EXPECT_NE(ids.status().message().find("'x'"), std::string::npos) << ids.status().message();
  EXPECT_NE(ids.status().message().find("'<unk>'"), std::string::npos);
}

TEST(Bpe, PrefixAndSuffixOfSubwords) {
  TinyTokenizer tiny;
  tiny.vocab = R"({"a": 0, "##a": 1, "##a</w>": 2, "a</w>": 3, "aa</w>": 4})";
  tiny.merges = R"(["a ##a</w>"])";
  tiny.model_more = R"(, "continuing_subword_prefix": "##", "end_of_word_suffix": "</w>")";
  const auto tokenizer = tiny.load();
  EXPECT_EQ(encode(*tokenizer, "a"), (Ids{3}));
  EXPECT_EQ(encode(*tokenizer, "aa"), (Ids{4}));
  EXPECT_EQ(encode(*tokenizer, "aaa"), (Ids{0, 1, 2}));
}

// One piece of a million characters, as SentencePiece's kind of tokenizer sees a long prompt.
TEST(Bpe, ALongPieceTakesNoSquareOfItsLength) {
  TinyTokenizer tiny;
  tiny.vocab = R"({"a": 0, "aa": 1, "aaaa": 2, "b": 3, "ab": 4})";
  tiny.merges = R"(["a a", "aa aa", "a b"])";
  EXPECT_EQ(encode(*tiny.load(), std::string(1 << 20, 'a')), Ids(1 << 18, 2));
}

}  // namespace
}  // namespace trireme

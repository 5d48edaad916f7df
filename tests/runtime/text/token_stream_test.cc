// A stream never splits a character, and together its pieces are decode() of all ids.
#include "runtime/text/token_stream.h"

#include <gtest/gtest.h>

#include "tests/runtime/text/tiny_tokenizer.h"

namespace trireme {
namespace {

using testing::Ids;
using testing::TinyTokenizer;

TinyTokenizer sentence_piece() {
  TinyTokenizer tiny;
  tiny.vocab =
      R"({"<s>": 0, "\u2581a": 1, "b": 2, "<0xE2>": 3, "<0x82>": 4, "<0xAC>": 5, "<0xFF>": 6, "\u2581": 7})";
  tiny.merges = "[]";
  tiny.added_tokens =
      R"([{"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}])";
  tiny.decoder = R"({"type": "Sequence", "decoders": [
{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
{"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})";
  return tiny;
}

std::vector<std::string> pieces(const Tokenizer& tokenizer, const Ids& ids,
                                bool skip_special = true) {
  TokenStream stream(tokenizer, skip_special);
  std::vector<std::string> all;
  for (const int32_t id : ids) all.push_back(stream.push(id));
  all.push_back(stream.finish());
  return all;
}

using Pieces = std::vector<std::string>;

TEST(TokenStream, HoldsBackAnIncompleteCharacterOnly) {
  const auto tokenizer = sentence_piece().load();
  EXPECT_EQ(pieces(*tokenizer, {1, 3, 4, 5, 2}), (Pieces{"a", "", "", "\u20ac", "b", ""}));
  EXPECT_EQ(pieces(*tokenizer, {3, 4}), (Pieces{"", "", "\ufffd\ufffd"}));
  EXPECT_EQ(pieces(*tokenizer, {3, 2}), (Pieces{"", "\ufffdb", ""}));
}

TEST(TokenStream, StripsTheFirstSpaceOfTheTextOnly) {
  const auto tokenizer = sentence_piece().load();
  EXPECT_EQ(pieces(*tokenizer, {0, 1, 1}), (Pieces{"", "a", " a", ""}));
  EXPECT_EQ(pieces(*tokenizer, {0, 1}, /*skip_special=*/false), (Pieces{"<s>", " a", ""}));
  EXPECT_EQ(pieces(*tokenizer, {7, 7, 2}), (Pieces{"", " ", "b", ""}));
}

TEST(TokenStream, AfterAPromptTheFirstTokenKeepsItsSpace) {
  const auto tokenizer = sentence_piece().load();
  TokenStream stream = TokenStream::after_prompt(*tokenizer);
  EXPECT_EQ(stream.push(1), " a");
  EXPECT_EQ(stream.push(1), " a");
  EXPECT_EQ(stream.finish(), "");
}

// decode() gives a bad run up as a whole, as HF does; a stream cannot unsay what it said.
TEST(TokenStream, ABadRunOfBytes) {
  const auto tokenizer = sentence_piece().load();
  EXPECT_EQ(tokenizer->decode(Ids{3, 4, 5, 6, 2}), "\ufffd\ufffd\ufffd\ufffdb");
  EXPECT_EQ(pieces(*tokenizer, {3, 4, 5, 6, 2}), (Pieces{"", "", "\u20ac", "\ufffd", "b", ""}));
  EXPECT_EQ(tokenizer->decode(Ids{6, 3, 4, 5, 2}), "\ufffd\ufffd\ufffd\ufffdb");
  EXPECT_EQ(pieces(*tokenizer, {6, 3, 4, 5, 2}),
            (Pieces{"\ufffd", "\ufffd", "\ufffd", "\ufffd", "b", ""}));
}

TEST(TokenStream, MetaspaceDropsTheSpacesOfTheFirstToken) {
  TinyTokenizer tiny = sentence_piece();
  tiny.decoder = R"({"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always"})";
  const auto tokenizer = tiny.load();
  EXPECT_EQ(pieces(*tokenizer, {0, 1, 1}), (Pieces{"", "a", " a", ""}));
  EXPECT_EQ(tokenizer->decode(Ids{0, 1, 1}), "a a");
  EXPECT_EQ(tokenizer->token_bytes(1), " a");
}

TEST(TokenStream, WithoutADecoderTokensStandApart) {
  TinyTokenizer tiny;
  tiny.decoder = "null";
  const auto tokenizer = tiny.load();
  EXPECT_EQ(pieces(*tokenizer, {0, 2, 1}), (Pieces{"a", " ab", " b", ""}));
  EXPECT_EQ(tokenizer->decode(Ids{0, 2, 1}), "a ab b");
}

TEST(TokenStream, StripAtTheEndWaitsForTheEnd) {
  TinyTokenizer tiny;
  tiny.decoder =
      R"({"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 0, "stop": 2}]})";
  const auto tokenizer = tiny.load();
  EXPECT_EQ(pieces(*tokenizer, {0, 3, 1, 3, 3, 3}), (Pieces{"a", "", " b", "", "", " ", ""}));
  EXPECT_EQ(tokenizer->decode(Ids{0, 3, 1, 3, 3, 3}), "a b ");
}

}  // namespace
}  // namespace trireme

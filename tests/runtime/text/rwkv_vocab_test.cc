// The RWKV World vocabulary: every one of its tokens round trips, and a damaged file is refused
// with the line that is wrong.
#include <gtest/gtest.h>

#include "tests/runtime/text/tiny_tokenizer.h"

namespace trireme {
namespace {

using testing::encode;
using testing::Ids;

std::string bytes_vocab() {
  std::string vocab;
  for (int byte = 0; byte < 256; ++byte)
    vocab += fmt::format("{} b'\\x{:02x}' 1\n", byte + 1, byte);
  return vocab;
}

TEST(RwkvVocab, EveryTokenRoundTrips) {
  const auto loaded = load_rwkv_vocab(TRIREME_BINARY_DIR "/rwkv_world/rwkv_vocab_v20230424.txt");
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  const Tokenizer& tokenizer = **loaded;
  ASSERT_EQ(tokenizer.vocab_size(), 65530);
  int whole_characters = 0;
  for (int32_t id = 1; id < tokenizer.vocab_size(); ++id) {
    const std::string bytes = tokenizer.token_bytes(id);
    ASSERT_FALSE(bytes.empty()) << id;
    ASSERT_EQ(tokenizer.token_id(bytes), id);
    const Result<Ids> ids = tokenizer.encode(bytes, {});
    if (!ids.ok()) continue;  // half a character: no text is this token
    ++whole_characters;
    ASSERT_EQ(*ids, (Ids{id}));
    ASSERT_EQ(tokenizer.decode(*ids), bytes);
  }
  EXPECT_EQ(whole_characters, 65529 - 358 - 128);  // 128 of the single bytes are not text alone
  EXPECT_EQ(encode(tokenizer, "Hello world"), (Ids{33155, 40213}));
  EXPECT_EQ(encode(tokenizer, "\n\nUser:"), (Ids{261, 24281, 59}));
  EXPECT_EQ(encode(tokenizer, "\u4f60\u597d"), (Ids{10464, 11685}));
  EXPECT_TRUE(tokenizer.is_special(0));
  EXPECT_EQ(tokenizer.decode(Ids{33155, 0, 40213}), "Hello world");
}

TEST(RwkvVocab, ReadsPythonLiterals) {
  const auto loaded = parse_rwkv_vocab(bytes_vocab() +
                                       "300 ' it\\'s \\n' 7\r\n"
                                       "301 \"can't\" 5\n"
                                       "302 '\\x80\\u4f60\\U0001F642' 9\n"
                                       "303 b'\\xe2\\x82' 2\n");
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  EXPECT_EQ((*loaded)->token_bytes(300), " it's \n");
  EXPECT_EQ((*loaded)->token_bytes(301), "can't");
  EXPECT_EQ((*loaded)->token_bytes(302), "\u0080\u4f60\U0001F642");
  EXPECT_EQ((*loaded)->token_bytes(303), "\xE2\x82");
  EXPECT_EQ((*loaded)->token_bytes(299), "");
  // "\xE2\x82" is a token, but the byte after it is looked at too.
  EXPECT_EQ(encode(**loaded, "\u20ac"), (Ids{303, 0xAC + 1}));
}

TEST(RwkvVocab, ADamagedFileIsRefusedWithItsLine) {
  const std::pair<const char*, const char*> cases[] = {
      {"300 'a", "line 257 is not '<id> <literal> <length>'"},
      {"x 'ab' 2", "line 257 has an id that is not in 1 to"},
      {"0 'ab' 2", "line 257 has an id"},
      {"99999999999 'ab' 2", "line 257 has an id"},
      {"300 ab 2", "line 257 is not in quotes"},
      {"300 'ab\" 2", "line 257 is not in quotes"},
      {"300 ' 1", "line 257 is not in quotes"},
      {"300 'ab' 3", "line 257 says 3 bytes, but its token has 2"},
      {"300 'ab' ", "line 257 says  bytes"},
      {"300 '' 0", "line 257 has a token of 0 bytes"},
      {"300 'a\\q' 2", "line 257 has the unknown escape \\q"},
      {"300 'a\\x4' 2", "line 257 has an escape without its digits"},
      {"300 'a\\' 2", "line 257 ends in the middle of an escape"},
      {"300 '\\ud800' 3", "line 257 has an escape that is no character"},
      {"300 b'\\u0041' 1", "line 257 has the unknown escape \\u"},
      {"1 'ab' 2", "line 257 repeats the id 1"},
      {"300 'a' 1", "the token of id 300 is listed twice"},
      {"300 'it's' 4", "line 257 has a quote inside"},
      {"300 '\xFF' 1", "not valid UTF-8 at byte"},
  };
  for (const auto& [line, error] : cases) {
    const auto loaded = parse_rwkv_vocab(bytes_vocab() + line + "\n");
    ASSERT_FALSE(loaded.ok()) << line;
    EXPECT_NE(loaded.status().message().find(error), std::string::npos)
        << loaded.status().message();
  }
  EXPECT_NE(parse_rwkv_vocab("").status().message().find("0x00 has no token"), std::string::npos);
}

}  // namespace
}  // namespace trireme

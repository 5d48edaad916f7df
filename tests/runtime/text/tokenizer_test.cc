// tokenizer.json read part by part: what each part does to ids (the values were taken from HF
// tokenizers 0.23), and what a wrong file, a hostile file or a wrong text is answered with.
#include "runtime/text/tokenizer.h"

#include <filesystem>
#include <fstream>
#include <thread>

#include <gtest/gtest.h>

#include "tests/runtime/text/tiny_tokenizer.h"

namespace trireme {
namespace {

using testing::encode;
using testing::Ids;
using testing::TinyTokenizer;

TEST(Tokenizer, TextThatIsNotUtf8IsAnErrorThatNamesTheByte) {
  const auto tokenizer = TinyTokenizer().load();
  const Result<Ids> ids = tokenizer->encode("ab\xC3(", {});
  ASSERT_FALSE(ids.ok());
  EXPECT_EQ(ids.status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ids.status().message(), "the text is not valid UTF-8 at byte 2");
}

TEST(Tokenizer, ATextBeyondTheLimitIsRefused) {
  const auto tokenizer = TinyTokenizer().load();
  EXPECT_FALSE(tokenizer->encode(std::string(kPromptBytesMax + 1, 'a'), {}).ok());
}

TEST(Tokenizer, AnyIdMayBeAskedFor) {
  const auto tokenizer = TinyTokenizer().load();
  EXPECT_EQ(tokenizer->vocab_size(), 4);
  EXPECT_EQ(tokenizer->token_bytes(2), "ab");
  for (const int32_t id : {-1, 4, INT32_MAX, INT32_MIN}) {
    EXPECT_EQ(tokenizer->token_bytes(id), "");
    EXPECT_FALSE(tokenizer->is_special(id));
  }
  EXPECT_EQ(tokenizer->decode(Ids{0, 99, -5, 1}), "ab");
  EXPECT_EQ(tokenizer->token_id("ab"), 2);
  EXPECT_EQ(tokenizer->token_id("abc"), std::nullopt);
}

TinyTokenizer with_added(std::string more) {
  TinyTokenizer tiny;
  tiny.added_tokens = fmt::format(
      R"([{{"id": 4, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
"normalized": false, "special": true}},
{{"id": 5, "content": "<s>x", "single_word": false, "lstrip": false, "rstrip": false,
"normalized": false, "special": false}},
{{"id": 6, "content": "b", {}}}])",
      more);
  return tiny;
}

TEST(AddedTokens, TheLongestWinsAndSpecialOnesAreTextUnlessAskedFor) {
  TinyTokenizer tiny = with_added(
      R"("single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false)");
  EXPECT_EQ(tiny.error(),
            "added_tokens[2] ('b') has the id 6, but HF tokenizers would use 1: make the file's "
            "ids consistent");
  tiny.added_tokens.replace(tiny.added_tokens.find("\"id\": 6"), 7, "\"id\": 1");
  const auto tokenizer = tiny.load();
  EXPECT_EQ(encode(*tokenizer, "a<s>xa<s>a"), (Ids{0, 5, 0, 4, 0}));
  EXPECT_EQ(encode(*tokenizer, "a<s>xa<s>a", {false, false}), (Ids{0, 5, 0, 0}));
  EXPECT_EQ(encode(*tokenizer, "aab"), (Ids{0, 0, 1})) << "b is cut out before the model sees ab";
  EXPECT_TRUE(tokenizer->is_special(4));
  EXPECT_FALSE(tokenizer->is_special(5));
  EXPECT_EQ(tokenizer->token_id("<s>"), 4);
  EXPECT_EQ(tokenizer->decode(Ids{4, 0, 5}), "a<s>x");
  EXPECT_EQ(tokenizer->decode(Ids{4, 0, 5}, /*skip_special=*/false), "<s>a<s>x");
}

TEST(AddedTokens, StripAndSingleWord) {
  TinyTokenizer tiny;
  tiny.vocab = R"({"a": 0, "x": 1, " ": 2, "\n": 3})";
  tiny.merges = "[]";
  const auto added = [](const char* content, const char* flags) {
    return fmt::format(
        R"([{{"id": 4, "content": "{}", "normalized": false, "special": false, {}}}])", content,
        flags);
  };
  tiny.added_tokens = added("T", R"("single_word": true, "lstrip": false, "rstrip": false)");
  auto tokenizer = tiny.load();
  EXPECT_EQ(encode(*tokenizer, "T aT T. T"), (Ids{4, 2, 0, 2, 4, 2, 4}));
  tiny.added_tokens = added("T", R"("single_word": false, "lstrip": true, "rstrip": true)");
  tokenizer = tiny.load();
  EXPECT_EQ(encode(*tokenizer, "a  T \n x T"), (Ids{0, 4, 1, 4}));
  // White space that went to a token on its left is not a token once more.
  tiny.added_tokens = added(" ", R"("single_word": false, "lstrip": true, "rstrip": true)");
  EXPECT_EQ(R"([{"id)", tiny.added_tokens.substr(0, 5));
  tiny.added_tokens.replace(tiny.added_tokens.find("\"id\": 4"), 7, "\"id\": 2");
  EXPECT_EQ(encode(*tiny.load(), "a     x"), (Ids{0, 2, 1}));
}

TEST(AddedTokens, NormalizedOnesAreLookedForInTheNormalizedText) {
  TinyTokenizer tiny;
  tiny.normalizer = R"({"type": "Lowercase"})";
  tiny.added_tokens =
      R"([{"id": 4, "content": "DAY", "single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": false},
{"id": 5, "content": "RAW", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false}])";
  const auto tokenizer = tiny.load();
  EXPECT_EQ(encode(*tokenizer, "aDaYaRAWArawA"), (Ids{0, 4, 0, 5, 0, 0, 0}));
  EXPECT_EQ(tokenizer->token_bytes(4), "day");
  EXPECT_EQ(tokenizer->token_bytes(5), "RAW");
}

// Long runs of white space around tokens that take it in: not read again for each token.
TEST(AddedTokens, WhiteSpaceIsReadOnce) {
  TinyTokenizer tiny;
  tiny.added_tokens =
      R"([{"id": 3, "content": " ", "single_word": false, "lstrip": false, "rstrip": true, "normalized": false, "special": false}])";
  EXPECT_EQ(encode(*tiny.load(), std::string(1 << 20, ' ')).size(), size_t{1} << 20);
}

TEST(Normalizers, DoWhatTheirNamesSay) {
  TinyTokenizer tiny;
  tiny.vocab = R"({"a": 0, "b": 1, "_": 2, "\u0301": 3, "\u00e9": 4, "e": 5, " ": 6})";
  tiny.merges = "[]";
  const auto ids = [&](const char* normalizer, const char* text) {
    tiny.normalizer = normalizer;
    return encode(*tiny.load(), text);
  };
  EXPECT_EQ(ids(R"({"type": "NFC"})", "e\u0301"), (Ids{4}));
  EXPECT_EQ(ids(R"({"type": "NFD"})", "\u00e9"), (Ids{5, 3}));
  EXPECT_EQ(
      ids(R"({"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "StripAccents"}]})",
          "\u00e9\uff41"),
      (Ids{5, 0}));
  EXPECT_EQ(ids(R"({"type": "Prepend", "prepend": "_"})", "a"), (Ids{2, 0}));
  EXPECT_EQ(ids(R"({"type": "Prepend", "prepend": "_"})", ""), (Ids{}));
  EXPECT_EQ(ids(R"({"type": "Replace", "pattern": {"String": " "}, "content": "_"})", " a "),
            (Ids{2, 0, 2}));
  EXPECT_EQ(ids(R"({"type": "Replace", "pattern": {"Regex": "b*"}, "content": "_"})", "abba"),
            (Ids{2, 0, 2, 0, 2}));
  EXPECT_EQ(ids(R"({"type": "Strip", "strip_left": true, "strip_right": false})", "  a "),
            (Ids{0, 6}));
  EXPECT_EQ(ids(R"({"type": "Strip", "strip_left": false, "strip_right": true})", "   "), (Ids{}));
}

TEST(PreTokenizers, MetaspaceFirstMarksTheBeginningOfTheInputOnly) {
  TinyTokenizer tiny;
  tiny.vocab = R"({"a": 0, "\u2581": 1, "\u2581a": 2, "-": 3})";
  tiny.merges = R"(["\u2581 a"])";
  tiny.added_tokens =
      R"([{"id": 4, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}])";
  const auto ids = [&](const char* scheme, const char* text) {
    tiny.pre_tokenizer = fmt::format(
        R"({{"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "{}", "split": false}})",
        scheme);
    return encode(*tiny.load(), text);
  };
  EXPECT_EQ(ids("first", "a<s>a"), (Ids{2, 4, 0}));
  EXPECT_EQ(ids("first", "<s>a"), (Ids{4, 0}));
  EXPECT_EQ(ids("always", "<s>a a"), (Ids{4, 2, 2}));
  EXPECT_EQ(ids("never", "a a"), (Ids{0, 2}));
  EXPECT_EQ(ids("first", " a"), (Ids{2}));
  // What a normalizer put before the first character counts as its beginning; where it took the
  // first character away, nothing does.
  tiny.normalizer = R"({"type": "Prepend", "prepend": "-"})";
  EXPECT_EQ(ids("first", "a"), (Ids{1, 3, 0}));
  tiny.normalizer = R"({"type": "Strip", "strip_left": true, "strip_right": false})";
  EXPECT_EQ(ids("first", "\na"), (Ids{0}));
}

TEST(PreTokenizers, ByteLevelPutsASpaceBeforeEachStretch) {
  TinyTokenizer tiny;
  tiny.vocab = R"({"a": 0, "\u0120": 1, "\u0120a": 2, "\u00c3": 3, "\u00a9": 4})";
  tiny.merges = R"(["\u0120 a"])";
  tiny.pre_tokenizer = R"({"type": "ByteLevel", "add_prefix_space": true, "use_regex": true})";
  tiny.decoder = R"({"type": "ByteLevel"})";
  const auto tokenizer = tiny.load();
  EXPECT_EQ(encode(*tokenizer, "a a\u00e9"), (Ids{2, 2, 3, 4}));
  EXPECT_EQ(tokenizer->decode(Ids{2, 3, 4}), " a\u00e9");
  EXPECT_EQ(tokenizer->decode(Ids{3}), "\ufffd");
  EXPECT_EQ(tokenizer->token_bytes(4), "\xA9");
}

TEST(PostProcessor, TemplatePutsTokensAround) {
  TinyTokenizer tiny;
  tiny.post_processor =
      R"({"type": "Sequence", "processors": [{"type": "ByteLevel", "trim_offsets": false}, {"type": "TemplateProcessing",
"single": [{"SpecialToken": {"id": "B", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "E", "type_id": 0}}],
"pair": [], "special_tokens": {"B": {"id": "B", "ids": [3, 2], "tokens": ["x", "y"]}, "E": {"id": "E", "ids": [1], "tokens": ["z"]}}}]})";
  const auto tokenizer = tiny.load();
  EXPECT_EQ(encode(*tokenizer, "a", {true, false}), (Ids{3, 2, 0, 1}));
  EXPECT_EQ(encode(*tokenizer, "", {true, false}), (Ids{3, 2, 1}));
  EXPECT_EQ(encode(*tokenizer, "a", {false, false}), (Ids{0}));
}

// Every refusal names the field and what is wrong with it.
TEST(TokenizerJson, ErrorsNameTheField) {
  struct Case {
    std::string TinyTokenizer::*part;
    const char* value;
    const char* error;
  };
  const Case cases[] = {
      {&TinyTokenizer::vocab, "[]", "model.vocab is array; it has to be an object"},
      {&TinyTokenizer::vocab, R"({"a": -1})", "model.vocab['a'] is -1"},
      {&TinyTokenizer::vocab, R"({"a": 4000000000})", "model.vocab['a'] is 4000000000"},
      {&TinyTokenizer::vocab, R"({"a": 1.5})", "model.vocab['a'] is number"},
      {&TinyTokenizer::vocab, R"({"a": 1, "b": 1})",
       "model.vocab gives the id 1 to 'a' and to 'b'"},
      {&TinyTokenizer::vocab, R"({"a": 1, "a": 2})", "duplicate JSON key 'a'"},
      {&TinyTokenizer::merges, "{}", "model.merges is object; it has to be an array"},
      {&TinyTokenizer::merges, R"(["a  b"])", "model.merges[0] is 'a  b'"},
      {&TinyTokenizer::merges, R"(["a b", "ab a"])", "model.merges[1] needs 'aba'"},
      {&TinyTokenizer::merges, R"([["a"]])", "model.merges[0] is array"},
      {&TinyTokenizer::merges, R"(["a b", ["a", "b"]])", "model.merges[1] is array"},
      {&TinyTokenizer::merges, R"([" a"])", "of which one is empty"},
      {&TinyTokenizer::model_more, R"(, "byte_fallback": "yes")", "model.byte_fallback is string"},
      {&TinyTokenizer::normalizer, R"({"type": "BertNormalizer"})",
       "normalizer.type 'BertNormalizer' is not supported; Trireme reads NFC"},
      {&TinyTokenizer::normalizer,
       R"({"type": "Sequence", "normalizers": [{"type": "NFC"}, null]})",
       "normalizer.normalizers[1].type is missing"},
      {&TinyTokenizer::normalizer,
       R"({"type": "Replace", "pattern": {"Regex": "(a)\\1"}, "content": ""})",
       "normalizer.pattern.Regex: the pattern '(a)\\1' has the escape '\\1', which is not "
       "supported"},
      {&TinyTokenizer::pre_tokenizer, R"({"type": "UnicodeScripts"})",
       "pre_tokenizer.type 'UnicodeScripts' is not supported"},
      {&TinyTokenizer::pre_tokenizer,
       R"({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"String": "a"}, "behavior": "Removed"}]})",
       "pre_tokenizer.pretokenizers[0].invert is missing; it has to be a boolean"},
      {&TinyTokenizer::pre_tokenizer,
       R"({"type": "Split", "pattern": "a", "behavior": "Removed", "invert": false})",
       "pre_tokenizer.pattern is string"},
      {&TinyTokenizer::pre_tokenizer, R"({"type": "Metaspace", "replacement": "__"})",
       "pre_tokenizer.replacement has to be one character"},
      {&TinyTokenizer::post_processor, R"({"type": "BertProcessing"})",
       "post_processor.type 'BertProcessing' is not supported"},
      {&TinyTokenizer::post_processor,
       R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "B"}}]})",
       "post_processor.single[0] has to be the one place of the sequence A"},
      {&TinyTokenizer::post_processor,
       R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}], "special_tokens": {"x": {"ids": [77]}}})",
       "post_processor.special_tokens.x.ids[0] is 77; it has to lie in 0 to 3"},
      {&TinyTokenizer::decoder, R"({"type": "CTC"})", "decoder.type 'CTC' is not supported"},
      {&TinyTokenizer::decoder,
       R"({"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "ByteLevel"}]})",
       "decoder.decoders[1] ('ByteLevel') comes after"},
      {&TinyTokenizer::added_tokens, R"([{"id": 4}])", "added_tokens[0].content is missing"},
      {&TinyTokenizer::added_tokens, "[7]", "added_tokens[0].id is missing"},
  };
  for (const Case& c : cases) {
    TinyTokenizer tiny;
    tiny.*c.part = c.value;
    EXPECT_NE(tiny.error().find(c.error), std::string::npos) << c.value << "\n" << tiny.error();
  }
  EXPECT_FALSE(parse_tokenizer_json("").ok());
  EXPECT_FALSE(parse_tokenizer_json("[]").ok());
  EXPECT_EQ(parse_tokenizer_json(R"({"version": "2.0"})").status().message(),
            "version '2.0' is not supported; Trireme reads 1.0");
  EXPECT_EQ(parse_tokenizer_json(R"({"model": {"type": "Unigram"}})").status().message(),
            "model.type 'Unigram' is not supported; Trireme reads BPE");
  EXPECT_EQ(parse_tokenizer_json(R"({"model": {"dropout": 0.1}})").status().message(),
            "model.dropout is set; an encoding that is not the same each time is not supported");
}

TEST(Tokenizer, ManyThreadsMayUseIt) {
  TinyTokenizer tiny;
  tiny.pre_tokenizer =
      R"({"type": "Split", "pattern": {"Regex": " ?b+| "}, "behavior": "Isolated", "invert": false})";
  const auto tokenizer = tiny.load();
  std::string text;
  for (int i = 0; i < 500; ++i) text += "ab b aab ";
  const Ids want = encode(*tokenizer, text);
  std::vector<std::thread> threads;
  std::vector<Ids> got(4);
  for (size_t t = 0; t < got.size(); ++t) {
    threads.emplace_back([&, t] { got[t] = tokenizer->encode(text, {}).take(); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Ids& ids : got) EXPECT_EQ(ids, want);
}

class LoadTokenizer : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(::testing::TempDir()) /
              fmt::format("load_tokenizer_{}", ::testing::UnitTest::GetInstance()->random_seed());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void write(const char* name, const std::string& text) {
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }
  std::string error(const std::string& path) {
    const auto loaded = load_tokenizer(path);
    return loaded.ok() ? "no error" : loaded.status().message();
  }
  std::filesystem::path folder_;
};

TEST_F(LoadTokenizer, LooksInTheFolderOrBesideTheFile) {
  EXPECT_NE(error(folder_.string()).find("has no tokenizer.json"), std::string::npos);
  EXPECT_NE(error((folder_ / "missing").string()).find("does not exist"), std::string::npos);
  write("model.safetensors", "");
  std::string vocab;
  for (int byte = 0; byte < 256; ++byte)
    vocab += fmt::format("{} b'\\x{:02x}' 1\n", byte + 1, byte);
  write("rwkv_vocab_small.txt", vocab);
  auto loaded = load_tokenizer((folder_ / "model.safetensors").string());
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  EXPECT_EQ(encode(**loaded, "a"), (Ids{98}));
  write("rwkv_vocab_other.txt", vocab);
  EXPECT_NE(error(folder_.string()).find("has 2 files rwkv_vocab*.txt"), std::string::npos);
  write("tokenizer.json", TinyTokenizer().json());
  loaded = load_tokenizer(folder_.string());
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  EXPECT_EQ(encode(**loaded, "ab"), (Ids{2}));
  write("tokenizer.json", "{");
  EXPECT_EQ(error(folder_.string()).rfind((folder_ / "tokenizer.json").string() + ": ", 0), 0u);
}

}  // namespace
}  // namespace trireme

// Ids and texts are those of the models' own tokenizers, for every case of
// tests/golden/data/tokenizers (HF tokenizers 0.23) and tests/golden/data/rwkv_world (the rwkv
// package). What a case's fields mean: tests/golden/README.md.
#include <filesystem>

#include <gtest/gtest.h>

#include "kernels/base/json.h"
#include "runtime/text/token_stream.h"
#include "runtime/text/utf8.h"
#include "tests/runtime/text/tiny_tokenizer.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;
using testing::encode;
using testing::Ids;

const fs::path kData = fs::path(TRIREME_SOURCE_DIR) / "tests/golden/data";

Ids ids_of(const Json& value) {
  Ids ids;
  for (const Json& id : value.as_array()) ids.push_back(static_cast<int32_t>(id.as_int64()));
  return ids;
}

std::vector<Json> read_lines(const fs::path& path) {
  std::vector<Json> lines;
  Result<std::string> text = read_file(path.string());
  EXPECT_TRUE(text.ok()) << text.status().message();
  if (!text.ok()) return lines;
  for (size_t begin = 0; begin < text->size();) {
    const size_t end = text->find('\n', begin);
    Result<Json> line = parse_json(std::string_view(*text).substr(begin, end - begin));
    EXPECT_TRUE(line.ok()) << path << ": " << line.status().message();
    if (line.ok()) lines.push_back(line.take());
    if (end == std::string::npos) break;
    begin = end + 1;
  }
  return lines;
}

// All pieces of a stream, after the checks that hold for every stream.
std::string stream(const Tokenizer& tokenizer, const Ids& ids, bool skip_special) {
  TokenStream tokens(tokenizer, skip_special);
  std::string all;
  for (size_t i = 0; i <= ids.size(); ++i) {
    const std::string piece = i < ids.size() ? tokens.push(ids[i]) : tokens.finish();
    EXPECT_EQ(utf8_error(piece), std::nullopt) << "a split character";
    all += piece;
  }
  return all;
}

// One line of cases.jsonl. `field` absent: the value of `otherwise`.
void check_case(const Tokenizer& tokenizer, const Json& line) {
  const auto field = [&](const char* name, const char* otherwise) {
    const Json* value = find(line, name);
    return value != nullptr ? value : find(line, otherwise);
  };
  const std::string text(find(line, "text")->as_string());
  const Ids ids = ids_of(*find(line, "ids"));
  EXPECT_EQ(encode(tokenizer, text, {false, true}), ids) << text;
  EXPECT_EQ(encode(tokenizer, text, {true, true}), ids_of(*field("ids_special", "ids"))) << text;
  EXPECT_EQ(encode(tokenizer, text, {false, false}), ids_of(*field("ids_plain", "ids"))) << text;
  if (find(line, "decoded") == nullptr) {
    EXPECT_EQ(tokenizer.decode(ids), text);
    return;
  }
  const std::string decoded(find(line, "decoded")->as_string());
  const std::string skipped(field("decoded_skip", "decoded")->as_string());
  EXPECT_EQ(tokenizer.decode(ids, /*skip_special=*/false), decoded) << text;
  EXPECT_EQ(tokenizer.decode(ids, /*skip_special=*/true), skipped) << text;
  EXPECT_EQ(stream(tokenizer, ids, false), decoded) << text;
  EXPECT_EQ(stream(tokenizer, ids, true), skipped) << text;
}

TEST(TokenizerGolden, EveryCaseOfEveryTokenizer) {
  const fs::path unpacked = TRIREME_BINARY_DIR "/tokenizer_cases";
  size_t tokenizers = 0;
  size_t cases = 0;
  for (const fs::directory_entry& folder : fs::directory_iterator(kData / "tokenizers")) {
    SCOPED_TRACE(folder.path().filename().string());
    const auto tokenizer = load_tokenizer(folder.path().string());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
    ++tokenizers;
    for (const Json& line : read_lines(unpacked / folder.path().filename() / "cases.jsonl")) {
      check_case(**tokenizer, line);
      ++cases;
    }
  }
  EXPECT_GE(tokenizers, 3u);
  EXPECT_GE(cases, 2000u);
}

// Ids that no text gives: characters cut in the middle, stray bytes. A stream differs from decode()
// in one way only (token_stream.h), and not where there are no fallback bytes.
TEST(TokenizerGolden, EveryRunOfIdsDecodes) {
  size_t cases = 0;
  for (const fs::directory_entry& folder : fs::directory_iterator(kData / "tokenizers")) {
    if (!fs::exists(folder.path() / "decode.jsonl")) continue;
    SCOPED_TRACE(folder.path().filename().string());
    const auto tokenizer = load_tokenizer(folder.path().string());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
    for (const Json& line : read_lines(folder.path() / "decode.jsonl")) {
      const Ids ids = ids_of(*find(line, "ids"));
      const std::string decoded(find(line, "decoded")->as_string());
      EXPECT_EQ((*tokenizer)->decode(ids, /*skip_special=*/false), decoded);
      const std::string streamed = stream(**tokenizer, ids, false);
      if (!(*tokenizer)->text_rules().byte_runs) {
        EXPECT_EQ(streamed, decoded);
      }
      ++cases;
    }
  }
  EXPECT_GE(cases, 500u);
}

TEST(TokenizerGolden, RwkvWorld) {
  const auto tokenizer = load_tokenizer(TRIREME_BINARY_DIR "/rwkv_world");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  const std::vector<Json> lines = read_lines(kData / "rwkv_world" / "cases.jsonl");
  EXPECT_GE(lines.size(), 300u);
  for (const Json& line : lines) check_case(**tokenizer, line);
}

}  // namespace
}  // namespace trireme

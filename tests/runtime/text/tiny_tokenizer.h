// tokenizer.json files of a few tokens, written in the test that uses them.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "runtime/text/tokenizer.h"

namespace trireme::testing {

// The parts of a file, as JSON; what is not set is null.
struct TinyTokenizer {
  std::string vocab = R"({"a": 0, "b": 1, "ab": 2, " ": 3})";
  std::string merges = R"(["a b"])";
  std::string model_more;  // R"(, "unk_token": "a")"
  std::string added_tokens = "[]";
  std::string normalizer = "null";
  std::string pre_tokenizer = "null";
  std::string post_processor = "null";
  std::string decoder = R"({"type": "Fuse"})";

  std::string json() const {
    return fmt::format(
        R"({{"version": "1.0", "truncation": null, "padding": null, "added_tokens": {},
"normalizer": {}, "pre_tokenizer": {}, "post_processor": {}, "decoder": {},
"model": {{"type": "BPE", "dropout": null, "vocab": {}, "merges": {}{}}}}})",
        added_tokens, normalizer, pre_tokenizer, post_processor, decoder, vocab, merges,
        model_more);
  }
  std::unique_ptr<Tokenizer> load() const {
    Result<std::unique_ptr<Tokenizer>> loaded = parse_tokenizer_json(json());
    EXPECT_TRUE(loaded.ok()) << loaded.status().message();
    return loaded.ok() ? loaded.take() : nullptr;
  }
  std::string error() const {
    Result<std::unique_ptr<Tokenizer>> loaded = parse_tokenizer_json(json());
    return loaded.ok() ? "no error" : loaded.status().message();
  }
};

using Ids = std::vector<int32_t>;

inline Ids encode(const Tokenizer& tokenizer, std::string_view text,
                  Tokenizer::EncodeOptions options = {false, true}) {
  Result<Ids> ids = tokenizer.encode(text, options);
  EXPECT_TRUE(ids.ok()) << ids.status().message();
  return ids.ok() ? ids.take() : Ids{-1};
}

}  // namespace trireme::testing

// The added_tokens of tokenizer.json: strings that are tokens before the model sees the text.
// Immutable; any thread. The meaning is that of HF tokenizers 0.23: tokens with normalized = false
// are looked for in the text as it came, the others in the normalized stretches between; from left
// to right, the longest first, none overlapping.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/text/bpe.h"
#include "runtime/text/byte_trie.h"
#include "runtime/text/json_field.h"
#include "runtime/text/normalizer.h"
#include "runtime/text/regex.h"
#include "runtime/text/tokenizer.h"

namespace trireme {

class AddedTokens {
 public:
  // Errors also where HF tokenizers would give a token another id than the file says: the file and
  // the model would not agree on what an id means.
  static Result<AddedTokens> parse(const JsonField& field, const BpeModel& model,
                                   const Normalizer& normalizer);

  struct Stretch {
    size_t begin = 0;
    size_t end = 0;
    int32_t token = -1;  // -1: text between tokens
  };
  // Cuts `text` at the tokens of one pass. `parse_special` false: special tokens are text.
  // `stretches` is overwritten. REQUIRES: text is well-formed UTF-8.
  // `untrusted`: as in Tokenizer::EncodeOptions.
  Status find_raw(std::string_view text, bool parse_special, std::span<const TextRange> untrusted,
                  Regex::Scratch& scratch, std::vector<Stretch>& stretches) const;
  Status find_normalized(std::string_view text, bool parse_special, Regex::Scratch& scratch,
                         std::vector<Stretch>& stretches) const;

  int32_t ids_end() const { return ids_end_; }
  std::optional<int32_t> id_of(std::string_view content) const;
  // What the decoder is given for this id; nullptr where it is no added token.
  const std::string* string_of(int32_t id) const;
  // Whether decoding leaves this id out.
  bool is_special(int32_t id) const;

 private:
  struct Token {
    int32_t id = -1;
    std::string content;
    std::string decoded;  // the normalized content where normalized is set
    bool special = false;
    bool single_word = false;
    bool lstrip = false;
    bool rstrip = false;
    bool normalized = true;
  };
  static Result<Token> parse_token(const JsonField& field);
  Status add(Token token, const JsonField& field, const BpeModel& model, int32_t& next_id);
  Status build(const JsonField& field, const Normalizer& normalizer);
  Status find(const ByteTrie& trie, std::string_view text, bool parse_special,
              std::span<const TextRange> untrusted, Regex::Scratch& scratch,
              std::vector<Stretch>& stretches) const;
  Result<bool> inside_word(std::string_view text, size_t begin, size_t end,
                           Regex::Scratch& scratch) const;
  const Token* token_of(int32_t id) const;

  std::vector<Token> tokens_;
  std::unordered_map<std::string, size_t> by_content_;
  std::unordered_map<int32_t, size_t> by_id_;
  ByteTrie raw_;
  ByteTrie normalized_;
  std::optional<Regex> word_;  // one word character; set where a token has single_word
  int32_t ids_end_ = 0;
};

}  // namespace trireme

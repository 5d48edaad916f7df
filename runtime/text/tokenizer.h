// Text to token ids and back: the face of runtime/text. A Tokenizer is immutable after it is
// loaded and may be used from any thread.
//
// What it reads: tokenizer.json of HF (byte-level BPE, SentencePiece-style BPE with byte fallback)
// and the vocabulary file of RWKV World. Its ids are those that HF tokenizers 0.23 and RWKV's own
// tokenizer give.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/status.h"

namespace trireme {

// What one token adds to a text.
struct TokenText {
  std::string_view bytes;  // a view into the tokenizer
  bool exists = false;     // false: no token has this id, and it adds nothing
  bool special = false;
  bool fallback_byte = false;  // one byte of a character that has no token: "<0xE2>"
};

// How the bytes of tokens become one text. TokenStream follows it.
struct TextRules {
  bool spaces_between = false;  // the file has no decoder: tokens stand apart
  bool byte_runs = false;       // a run of fallback bytes is text as a whole or not at all
  // Up to so many of this character are taken off the ends of the text.
  std::string strip;
  size_t strip_start = 0;
  size_t strip_end = 0;
};

// Bytes [begin, end) of a text.
struct TextRange {
  size_t begin = 0;
  size_t end = 0;
  bool operator==(const TextRange&) const = default;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  struct EncodeOptions {
    bool add_special = true;     // the post-processor's tokens: <s> and its like
    bool parse_special = false;  // text may name special tokens ("<|eot|>"); false: it is text
    // Where parse_special: a special token that touches one of these is text all the same.
    // Ascending, not overlapping.
    std::span<const TextRange> untrusted = {};
  };
  // Errors (INVALID_ARGUMENT): `utf8` is not UTF-8 (the message has the offset of the first bad
  // byte), is longer than kPromptBytesMax, or holds what the tokenizer's pattern cannot match in
  // its step limit.
  virtual Result<std::vector<int32_t>> encode(std::string_view utf8,
                                              const EncodeOptions& options) const = 0;

  // Ids are below this; not every one below it need be a token.
  virtual int32_t vocab_size() const = 0;
  // The id of an added token's content or of a token of the vocabulary as the file spells it.
  virtual std::optional<int32_t> token_id(std::string_view content) const = 0;
  // `first`: the token is the first of its text. Any id may be asked for.
  virtual TokenText token_text(int32_t id, bool first) const = 0;
  virtual const TextRules& text_rules() const = 0;

  // The bytes that this token adds to a text in which it is not the first; a special token: its
  // content. Not always whole characters.
  std::string token_bytes(int32_t id) const { return std::string(token_text(id, false).bytes); }
  bool is_special(int32_t id) const { return token_text(id, false).special; }
  // The text of `ids`, always well-formed UTF-8, as HF's decode with
  // clean_up_tokenization_spaces = false. Ids that are no token add nothing.
  std::string decode(std::span<const int32_t> ids, bool skip_special = true) const;

 protected:
  // The first two errors of encode().
  static Status check_prompt(std::string_view utf8);
};

inline constexpr size_t kPromptBytesMax = size_t{64} << 20;

// The file at `path`. Errors begin with the path and name the field.
Result<std::unique_ptr<Tokenizer>> load_tokenizer_json(const std::string& path);
Result<std::unique_ptr<Tokenizer>> load_rwkv_vocab(const std::string& path);
// `model_path`: a model's directory, or a weight file whose tokenizer lies beside it. Looks for
// tokenizer.json, 20B_tokenizer.json, then the one rwkv_vocab*.txt.
Result<std::unique_ptr<Tokenizer>> load_tokenizer(const std::string& model_path);

// The same from the text of a file.
Result<std::unique_ptr<Tokenizer>> parse_tokenizer_json(std::string_view json);
Result<std::unique_ptr<Tokenizer>> parse_rwkv_vocab(std::string_view text);

}  // namespace trireme

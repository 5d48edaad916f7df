// The pre-tokenizer of tokenizer.json: cuts the normalized text into the pieces that the model
// encodes one by one. Immutable; any thread. The meaning is that of HF tokenizers 0.23.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/text/json_field.h"
#include "runtime/text/regex.h"

namespace trireme {

// A text that is cut into pieces; some of them are tokens already.
struct PieceList {
  struct Piece {
    uint32_t begin = 0;  // bytes of `text`
    uint32_t end = 0;
    int32_t token = -1;         // >= 0: an added token; its bytes are not looked at any more
    uint32_t origin_bytes = 0;  // as NormalizedText::origin_bytes; at most end - begin
  };
  std::string text;
  std::vector<Piece> pieces;  // in order

  std::string_view view(const Piece& piece) const {
    return std::string_view(text).substr(piece.begin, piece.end - piece.begin);
  }
};

// The origin_bytes of bytes [begin, end) of a text that has `origin_bytes` of them.
uint32_t origin_bytes_of(size_t origin_bytes, size_t begin, size_t end);

class PreTokenizerStep {
 public:
  virtual ~PreTokenizerStep() = default;
  virtual Status apply(PieceList& list, Regex::Scratch& scratch) const = 0;
};

class PreTokenizer {
 public:
  // A field without a value is the pre-tokenizer that cuts nothing.
  static Result<PreTokenizer> parse(const JsonField& field);

  // REQUIRES: list.text is well-formed UTF-8 of at most kTextBytesMax bytes; it stays so.
  // Errors: a regular expression passed its step limit, or the text grew too long.
  Status apply(PieceList& list, Regex::Scratch& scratch) const;

 private:
  std::vector<std::unique_ptr<PreTokenizerStep>> steps_;
};

}  // namespace trireme

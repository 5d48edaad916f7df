// The normalizer of tokenizer.json: what is done to the text before it is cut into pieces.
// Immutable; any thread. The meaning is that of HF tokenizers 0.23.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/text/json_field.h"
#include "runtime/text/regex.h"

namespace trireme {

// A stretch of text on its way through the tokenizer.
struct NormalizedText {
  std::string text;
  // So many leading bytes of `text` come from the first character of the whole input. Metaspace's
  // prepend_scheme "first" asks whether a piece begins there; HF answers by its alignments.
  size_t origin_bytes = 0;
  bool at_origin = false;  // the stretch began where the input begins
};

// `text` before its normalization. `at_origin`: it is the beginning of the input.
NormalizedText unnormalized(std::string_view text, bool at_origin);

class NormalizerStep {
 public:
  virtual ~NormalizerStep() = default;
  virtual Status apply(NormalizedText& text, Regex::Scratch& scratch) const = 0;
};

class Normalizer {
 public:
  // A field without a value (null or absent) is the normalizer that does nothing.
  static Result<Normalizer> parse(const JsonField& field);

  // REQUIRES: text is well-formed UTF-8; it stays so. Errors: a regular expression passed its step
  // limit, or the text grew beyond kTextBytesMax.
  Status apply(NormalizedText& text, Regex::Scratch& scratch) const;

 private:
  std::vector<std::unique_ptr<NormalizerStep>> steps_;
};

// No text grows longer than this on its way through a tokenizer.
inline constexpr size_t kTextBytesMax = size_t{1} << 30;

}  // namespace trireme

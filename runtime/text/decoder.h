// The decoder of tokenizer.json: what text each token stands for, and how the texts are joined.
// Used while loading: the result is a text per id and the TextRules, so that decoding and streaming
// are table look-ups. Immutable; any thread. The meaning is that of HF tokenizers 0.23.
//
// HF's decoders pass a list of strings from one to the next. Those that real models use have one
// shape, and only that shape is accepted, because only it can be streamed:
//   steps on each token (Replace, Metaspace, Strip), then ByteLevel or ByteFallback or neither,
//   then Fuse, then Strip of the whole text.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/text/json_field.h"
#include "runtime/text/tokenizer.h"

namespace trireme {

class DecoderStep {
 public:
  virtual ~DecoderStep() = default;
  virtual Status apply(std::string& token, bool first, Regex::Scratch& scratch) const = 0;
};

class Decoder {
 public:
  // A field without a value: tokens as they are, with spaces between.
  static Result<Decoder> parse(const JsonField& field);

  struct Text {
    std::string bytes;
    bool fallback_byte = false;
  };
  // What the token `token` stands for. `first`: it is the first of its text.
  Result<Text> text_of(std::string_view token, bool first, Regex::Scratch& scratch) const;
  const TextRules& rules() const { return rules_; }
  // Whether `first` ever makes a difference.
  bool first_differs() const { return first_differs_; }

 private:
  enum class Joint : uint8_t { kPlain, kByteLevel, kByteFallback };
  enum class Stage : uint8_t { kTokens, kJoined, kWhole, kStripped };
  Status parse_step(const JsonField& field, Stage& stage);
  Status parse_strip(const JsonField& field, Stage& stage);
  Status parse_metaspace(const JsonField& field);
  Status parse_replace(const JsonField& field);

  std::vector<std::unique_ptr<DecoderStep>> steps_;
  Joint joint_ = Joint::kPlain;
  TextRules rules_;
  bool first_differs_ = false;
};

}  // namespace trireme

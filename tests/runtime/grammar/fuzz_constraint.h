// What the fuzz targets of runtime/grammar share: a text is compiled for a small vocabulary, and an
// output is made under its masks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include <fmt/format.h>

#include "runtime/grammar/grammar_compiler.h"

namespace trireme {

// All bytes, and a few longer tokens that end in the middle of characters or of JSON's words.
inline const Tokenizer& fuzz_tokenizer() {
  static const std::unique_ptr<Tokenizer> made = [] {
    std::string vocab;
    for (int byte = 0; byte < 256; ++byte)
      vocab += fmt::format("{} b'\\x{:02x}' 1\n", byte + 1, byte);
    vocab += "257 '{\"' 2\n258 '\": ' 3\n259 'tru' 3\n260 b'\\xc3\\xa9\\xe6' 3\n261 '00' 2\n";
    return parse_rwkv_vocab(vocab).take();
  }();
  return *made;
}

inline void fuzz_constraint(ConstraintSpec::Kind kind, const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  constexpr int32_t kVocab = 264;
  GrammarCompiler compiler(fuzz_tokenizer(), {0}, kVocab);
  const auto constraint = compiler.compile({kind, text});
  if (!constraint.ok()) {
    CHECK(!constraint.status().message().empty());
    return;
  }
  std::vector<uint32_t> mask((kVocab + 31) / 32);
  for (size_t step = 0; step < 24 && !text.empty(); ++step) {
    if (!(*constraint)->fill_mask(mask).ok()) return;
    int32_t token = (text[size - 1 - step % size] & 0xFF) * 31 % kVocab;
    int32_t tries = 0;
    for (; tries < kVocab && (mask[static_cast<size_t>(token) / 32] >> (token % 32) & 1) == 0;
         ++tries)
      token = (token + 1) % kVocab;
    CHECK(tries < kVocab) << "the output is stuck";
    if (token == 0) return;
    (*constraint)->accept(token);
  }
}

}  // namespace trireme

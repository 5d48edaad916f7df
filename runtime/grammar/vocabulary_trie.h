// The tokens of a vocabulary by their bytes: tokens with a common beginning share its path, so that
// a mask is found by one walk. Immutable; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/grammar/expression.h"
#include "runtime/text/tokenizer.h"

namespace trireme::grammar {

class VocabularyTrie {
 public:
  // Of all tokens that are text: special ones, and those that add nothing, are left out. `vocab`:
  // ids at or beyond it too.
  VocabularyTrie(const Tokenizer& tokenizer, int32_t vocab);

  // In depth-first order: a node's children follow it, `end` is the first node that is not below
  // it.
  struct Node {
    uint8_t byte = 0;
    uint32_t end = 0;
    uint32_t first_token = 0, tokens = 0;  // in ids()
  };
  std::span<const Node> nodes() const { return nodes_; }  // the first is the root
  std::span<const int32_t> ids() const { return ids_; }
  // The characters that texts can be written in: empty, all, where each byte is a token. Else those
  // that are tokens, and tokens that are not whole characters are left out: so that what was begun
  // can always be ended.
  std::span<const CodeRange> alphabet() const { return alphabet_; }
  // The bytes of a token; "" of one that is left out.
  std::string_view bytes(int32_t id) const;

 private:
  void find_alphabet(std::vector<int32_t>& tokens);

  std::vector<Node> nodes_;
  std::vector<int32_t> ids_;
  std::vector<std::string> bytes_;
  std::vector<CodeRange> alphabet_;
};

}  // namespace trireme::grammar

// Constraints on output for one tokenizer: JSON schemas, regular expressions, choices and GBNF
// grammars as masks of tokens, exact to the token.
//
// Thread-safe. What was compiled is kept, with the masks of the states that were met, and shared by
// all requests that say the same; the least recently used go when there are too many. Outlives its
// constraints.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/grammar/automaton.h"
#include "runtime/grammar/vocabulary_trie.h"
#include "runtime/sample/token_constraint.h"

namespace trireme {

struct GrammarLimits {
  size_t text_bytes_max = 1 << 20;   // of a schema or grammar
  size_t compiled_max = 256;         // kept at a time
  size_t bytes_max = 512 << 20;      // of all that are kept, their masks and automata
  size_t mask_bytes_max = 16 << 20;  // of one compiled grammar's masks
  grammar::AutomatonLimits automaton;
};

class GrammarCompiler final : public ConstraintCompiler {
 public:
  // `vocab`: the width of the model's logits. `eos`: what ends an output; kInvalidArgument at
  // compile() where there is none, since a constrained output could not end.
  GrammarCompiler(const Tokenizer& tokenizer, std::vector<int32_t> eos, int32_t vocab,
                  const GrammarLimits& limits = {});
  ~GrammarCompiler() override;

  Result<std::unique_ptr<TokenConstraint>> compile(const ConstraintSpec& spec) override;

  // For tests and measurements.
  const grammar::VocabularyTrie& trie() const { return trie_; }

  class Compiled;

 private:
  Result<std::shared_ptr<Compiled>> find_or_make(const ConstraintSpec& spec);

  const GrammarLimits limits_;
  const grammar::VocabularyTrie trie_;
  const std::vector<int32_t> eos_;
  const int32_t vocab_;
  std::mutex mutex_;
  std::list<std::pair<std::string, std::shared_ptr<Compiled>>> recent_;  // the latest first
  std::unordered_map<std::string, decltype(recent_)::iterator> by_text_;
};

}  // namespace trireme

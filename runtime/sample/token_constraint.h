// What a request's output has to look like, as the sampler sees it: which tokens may come next.
//
// A constraint belongs to one choice of one request and to one thread at a time. It is a function
// of the tokens that it accepted, so that a choice which goes on elsewhere is rebuilt by feeding it
// what was said.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "kernels/base/status.h"

namespace trireme {

// The constraint as the request says it. kJsonObject: any JSON object, `text` is empty;
// kJsonSchema: `text` is the schema; kRegex: an expression that the whole output matches; kChoice:
// a JSON array of strings, one of which is the output; kGrammar: GBNF whose start symbol is `root`.
struct ConstraintSpec {
  enum class Kind : uint8_t { kNone, kJsonObject, kJsonSchema, kRegex, kChoice, kGrammar };
  Kind kind = Kind::kNone;
  std::string text;
  bool operator==(const ConstraintSpec&) const = default;
};

class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;

  // Sets bit t % 32 of allowed[t / 32] for exactly the tokens t that may come next, and clears all
  // others: a token may come if its bytes continue the output to the beginning of a sentence of the
  // language; an end token, if the output is such a sentence. Special tokens never. At least one
  // bit is set. kResourceExhausted: finding them takes more steps than one mask may take.
  // REQUIRES: allowed.size() == ceil(vocab / 32).
  virtual Status fill_mask(std::span<uint32_t> allowed) = 0;

  // REQUIRES: fill_mask() would allow `token`.
  virtual void accept(int32_t token) = 0;
};

// Makes constraints for one tokenizer. Thread-safe; what was compiled is kept and shared.
class ConstraintCompiler {
 public:
  virtual ~ConstraintCompiler() = default;
  // A constraint at the start of the output. kInvalidArgument: one sentence that says what is wrong
  // with `spec.text` and where. REQUIRES: spec.kind != kNone.
  virtual Result<std::unique_ptr<TokenConstraint>> compile(const ConstraintSpec& spec) = 0;
};

}  // namespace trireme

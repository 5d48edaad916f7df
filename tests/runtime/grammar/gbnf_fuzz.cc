// Any bytes as a GBNF grammar: refused with a sentence, or a constraint under which an output goes
// on for a while and is never stuck. The last bytes of the input choose the tokens.
#include "tests/runtime/grammar/fuzz_constraint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  trireme::fuzz_constraint(trireme::ConstraintSpec::Kind::kGrammar, data, size);
  return 0;
}

// The form that an output has to have, as a request says it, in each of the dialects that clients
// speak: OpenAI's response_format, vLLM's structured_outputs and guided_*, llama-server's grammar
// and json_schema.
#pragma once

#include <string>

#include "runtime/gateway/field_reader.h"
#include "runtime/sample/token_constraint.h"

namespace trireme {

// `field`: where it is said, "response_format"; "" and kNone where it is not. Saying it twice is an
// error of `in`; whether schema and grammar make sense is their compiler's matter.
void read_constraint(FieldReader& in, ConstraintSpec& out, std::string& field);

}  // namespace trireme

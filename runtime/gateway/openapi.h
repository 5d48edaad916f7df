// The OpenAPI 3.1 document of what the gateway serves: its paths, the fields of requests with their
// ranges, the members of answers. Pure.
#pragma once

#include <string>

#include "kernels/base/json.h"
#include "runtime/gateway/api_call.h"

namespace trireme {

// INVARIANT: a body that the schemas allow is refused only for what two fields say together, or for
// what only model, tokenizer and templates know; numbers have the same ranges in both.
// `metrics_page`: whether there is one.
JsonObject openapi_document(const std::string& version, const ApiLimits& limits, bool metrics_page);

// components.schemas: of requests, and of answers.
JsonObject openapi_requests(const ApiLimits& limits);
JsonObject openapi_answers();

}  // namespace trireme

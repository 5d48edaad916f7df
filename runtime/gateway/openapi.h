// The OpenAPI 3.1 document of what the gateway serves: its paths, the fields of requests with their
// ranges, the members of answers. Pure.
#pragma once

#include <string>
#include <vector>

#include "kernels/base/json.h"
#include "runtime/gateway/api_call.h"

namespace trireme {

// What differs from server to server.
struct OpenApiOptions {
  std::string version;
  std::vector<std::string> model_names;
  ApiLimits limits;
  bool metrics_page = true;  // whether there is one
};

// INVARIANT: a body that the schemas allow is refused only for what two fields say together, or for
// what only model, tokenizer and templates know; numbers have the same ranges in both.
JsonObject openapi_document(const OpenApiOptions& options);

// components.schemas: of requests, and of answers.
JsonObject openapi_requests(const OpenApiOptions& options);
JsonObject openapi_answers();

}  // namespace trireme

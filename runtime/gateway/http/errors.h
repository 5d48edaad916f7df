// Errors as OpenAI's clients read them: {"error": {"message", "type", "param", "code"}}.
#pragma once

#include <string>
#include <string_view>

#include "kernels/base/json.h"
#include "runtime/gateway/http/exchange.h"

namespace trireme {

struct ApiError {
  int status = 400;
  std::string type = "invalid_request_error";
  std::string code;  // "": null
  std::string message;
  std::string param;      // "": null
  JsonObject extra = {};  // further members of the error object
};

// The object alone: {"message": ...}.
JsonObject error_object(const ApiError& error);
HttpResponse error_response(const ApiError& error);

// The type that goes with a status: "invalid_request_error", "rate_limit_error", "server_error",
// ...
std::string_view error_type(int status);

// What an endpoint that does not exist, a body that is too large and their like are answered.
inline ApiError api_error(int status, std::string code, std::string message,
                          std::string param = "") {
  return {status,           std::string(error_type(status)),
          std::move(code),  std::move(message),
          std::move(param), {}};
}

}  // namespace trireme

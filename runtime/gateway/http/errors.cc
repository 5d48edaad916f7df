#include "runtime/gateway/http/errors.h"

#include <boost/json/serialize.hpp>

namespace trireme {

std::string_view error_type(int status) {
  switch (status) {
    case 401:
    case 403:
      return "authentication_error";
    case 404:
      return "not_found_error";
    case 408:
      return "timeout_error";
    case 429:
      return "rate_limit_error";
    case 503:
      return "unavailable_error";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

JsonObject error_object(const ApiError& error) {
  JsonObject object;
  object["message"] = error.message;
  object["type"] = error.type;
  object["param"] = error.param.empty() ? Json(nullptr) : Json(error.param);
  object["code"] = error.code.empty() ? Json(nullptr) : Json(error.code);
  for (const auto& [key, value] : error.extra) object[key] = value;
  return object;
}

HttpResponse error_response(const ApiError& error) {
  HttpResponse response;
  response.status = error.status;
  if (error.status == 429 || error.status == 503) response.headers.emplace_back("Retry-After", "1");
  if (error.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  JsonObject body;
  body["error"] = error_object(error);
  response.body = boost::json::serialize(body);
  return response;
}

}  // namespace trireme

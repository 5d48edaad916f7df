#include "runtime/gateway/http/errors.h"

#include <boost/json/serialize.hpp>

namespace trireme {
namespace {

// Messages quote what clients sent, perhaps cut off in a character: bytes that are not UTF-8
// become '?', since JSON has no place for them.
std::string well_formed(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const auto at = [&](size_t k) {
      return i + k < text.size() ? static_cast<unsigned char>(text[i + k]) : 0u;
    };
    const unsigned a = at(0), b = at(1);
    size_t size = a < 0x80                ? 1
                  : a >= 0xc2 && a < 0xe0 ? 2
                  : a >= 0xe0 && a < 0xf0 ? 3
                  : a >= 0xf0 && a < 0xf5 ? 4
                                          : 0;
    for (size_t k = 1; k < size; ++k)
      if ((at(k) & 0xc0) != 0x80) size = 0;
    // Overlong forms, surrogates, and what is beyond U+10FFFF.
    if ((a == 0xe0 && b < 0xa0) || (a == 0xed && b > 0x9f) || (a == 0xf0 && b < 0x90) ||
        (a == 0xf4 && b > 0x8f))
      size = 0;
    out += size == 0 ? std::string_view("?") : text.substr(i, size);
    i += size == 0 ? 1 : size;
  }
  return out;
}

}  // namespace

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
  object["message"] = well_formed(error.message);
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

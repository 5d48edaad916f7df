#include "runtime/gateway/http/routes.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

namespace trireme {
namespace {

bool matches(const HttpRoute& route, std::string_view path) {
  if (!route.path.empty() && route.path.back() == '*')
    return path.starts_with(std::string_view(route.path).substr(0, route.path.size() - 1));
  return route.path == path;
}

bool answers(const HttpRoute& route, std::string_view method) {
  return route.method == method || (route.method == "GET" && method == "HEAD");
}

// Levenshtein's distance, of strings of a few dozen characters.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0u);
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t above = row[j + 1];
      row[j + 1] = std::min({above + 1, row[j] + 1, diagonal + (a[i] == b[j] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// "application/json; charset=utf-8" is JSON too.
bool is_json(std::string_view content_type) {
  std::string type(content_type.substr(0, content_type.find(';')));
  while (!type.empty() && type.back() == ' ') type.pop_back();
  std::transform(type.begin(), type.end(), type.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return type == "application/json" ||
         (type.starts_with("application/") && type.ends_with("+json"));
}

}  // namespace

std::string HttpRoutes::allowed(std::string_view path) const {
  std::string methods;
  for (const HttpRoute& route : routes_) {
    if (!matches(route, path) || methods.find(route.method) != std::string::npos) continue;
    methods += (methods.empty() ? "" : ", ") + route.method;
    if (route.method == "GET") methods += ", HEAD";
  }
  return methods.empty() ? methods : methods + ", OPTIONS";
}

const HttpRoute* HttpRoutes::find(const HttpRequest& request, HttpResponse& error) const {
  const HttpRoute* nearest = nullptr;
  size_t nearest_distance = 0;
  for (const HttpRoute& route : routes_) {
    if (!matches(route, request.path)) {
      const size_t d = request.path.size() > 200 ? 200 : distance(route.path, request.path);
      if (nearest == nullptr || d < nearest_distance) {
        nearest = &route;
        nearest_distance = d;
      }
      continue;
    }
    if (!answers(route, request.method)) continue;
    if (route.takes_json && !is_json(request.header("content-type"))) {
      error = error_response(api_error(
          415, "unsupported_media_type",
          fmt::format("the content type is '{}': send JSON with Content-Type: application/json",
                      request.header("content-type").substr(0, 100))));
      return nullptr;
    }
    return &route;
  }
  const std::string allow = allowed(request.path);
  if (allow.empty()) {
    std::string message =
        fmt::format("there is nothing at {}", std::string_view(request.path).substr(0, 200));
    if (nearest != nullptr && nearest_distance <= 1 + request.path.size() / 4)
      message += fmt::format(": did you mean {}?", nearest->path);
    error = error_response(api_error(404, "not_found", message));
    return nullptr;
  }
  error = error_response(api_error(
      405, "method_not_allowed",
      fmt::format("{} does not take {}: it takes {}", request.path, request.method, allow)));
  error.headers.emplace_back("Allow", allow);
  return nullptr;
}

bool decode_path(std::string_view raw, std::string& path) {
  path.clear();
  for (size_t i = 0; i < raw.size(); ++i) {
    if (raw[i] != '%') {
      path += raw[i];
      continue;
    }
    const int high = i + 2 < raw.size() ? hex(raw[i + 1]) : -1;
    const int low = i + 2 < raw.size() ? hex(raw[i + 2]) : -1;
    if (high < 0 || low < 0 || high * 16 + low == 0) return false;
    path += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return true;
}

}  // namespace trireme

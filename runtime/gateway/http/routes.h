// Which handler answers which request. Filled before the server starts, read by all its threads.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "runtime/gateway/http/errors.h"

namespace trireme {

struct HttpRoute {
  std::string method;  // "GET" answers HEAD too
  std::string path;    // "/v1/models"; with a "*" at its end: whatever begins so
  HttpHandler handler;
  bool takes_json = false;  // a body of another content type is refused
};

class HttpRoutes {
 public:
  void add(HttpRoute route) { routes_.push_back(std::move(route)); }

  // The route of a request; nullptr where there is none, with the answer in `error` (404 with the
  // nearest path, 405 with Allow, 415).
  const HttpRoute* find(const HttpRequest& request, HttpResponse& error) const;
  // The methods that a path answers: "GET, HEAD, OPTIONS"; "" where nothing is there.
  std::string allowed(std::string_view path) const;
  const std::vector<HttpRoute>& all() const { return routes_; }

 private:
  std::vector<HttpRoute> routes_;
};

// "%41%20b" -> "A b"; false where an escape is malformed or names a NUL.
bool decode_path(std::string_view raw, std::string& path);

}  // namespace trireme

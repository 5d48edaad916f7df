// Where a server is: http://host:port/prefix. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

#include "kernels/base/status.h"

namespace trireme {

struct ServerUrl {
  std::string host;    // a name or an address, [] of IPv6 taken off
  std::string port;    // 1 to 65535
  std::string prefix;  // "" or "/something": before every path

  // "http://host:port/prefix", IPv6 in brackets.
  std::string text() const;
  // What the Host header says.
  std::string authority() const;
};

// "http://host:8000", "host:8000", "http://host/proxy"; a trailing "/" or "/v1" is taken off, since
// base URLs of the OpenAI API end with it and every path here begins with it. Port: 8000 where
// none is given. Errors: another scheme (put a proxy that ends TLS before the server), no host, a
// port that is none.
Result<ServerUrl> parse_server_url(std::string_view text);

}  // namespace trireme

#include "launcher/client/server_url.h"

#include <charconv>

#include <fmt/format.h>

namespace trireme {

std::string ServerUrl::authority() const {
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                             : fmt::format("[{}]:{}", host, port);
}

std::string ServerUrl::text() const { return "http://" + authority() + prefix; }

Result<ServerUrl> parse_server_url(std::string_view text) {
  const auto wrong = [whole = std::string(text)](std::string_view why) {
    return invalid_argument(
        fmt::format("'{}' is no server's URL, as in http://127.0.0.1:8000: {}", whole, why));
  };
  for (const char c : text) {
    if (static_cast<unsigned char>(c) <= ' ' || c == '?' || c == '#' || c == '@')
      return wrong("it holds a space, a control character, '?', '#' or '@'");
  }
  if (const size_t scheme = text.find("://"); scheme != std::string_view::npos) {
    if (text.substr(0, scheme) != "http") return wrong("only http:// is spoken");
    text.remove_prefix(scheme + 3);
  }
  const size_t slash = text.find('/');
  std::string_view where = text.substr(0, slash);
  std::string_view prefix = slash == std::string_view::npos ? "" : text.substr(slash);
  ServerUrl url;
  std::string_view port;
  if (where.starts_with('[')) {
    const size_t end = where.find(']');
    if (end == std::string_view::npos) return wrong("'[' without ']'");
    url.host = where.substr(1, end - 1);
    port = where.substr(end + 1);
    if (!port.empty() && port[0] != ':') return wrong("after ']' comes :PORT");
  } else {
    const size_t colon = where.find(':');
    url.host = where.substr(0, colon);
    port = colon == std::string_view::npos ? "" : where.substr(colon);
  }
  if (url.host.empty()) return wrong("it has no host");
  if (!port.empty()) port.remove_prefix(1);
  uint32_t number = 8000;
  if (!port.empty()) {
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
    if (error != std::errc() || end != port.data() + port.size() || number == 0 || number > 65535)
      return wrong("its port is no number from 1 to 65535");
  }
  url.port = std::to_string(number);
  while (prefix.ends_with('/')) prefix.remove_suffix(1);
  if (prefix.ends_with("/v1")) prefix.remove_suffix(3);
  while (prefix.ends_with('/')) prefix.remove_suffix(1);
  url.prefix = prefix;
  return url;
}

}  // namespace trireme

#include "runtime/gateway/http/auth.h"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "kernels/base/json.h"

namespace trireme {

namespace {

// Of "Bearer TOKEN"; the scheme's case is nobody's matter. "": there is none.
std::string_view bearer_token(std::string_view header) {
  constexpr std::string_view kScheme = "bearer ";
  if (header.size() < kScheme.size()) return {};
  const bool bears = std::equal(
      kScheme.begin(), kScheme.end(), header.begin(),
      [](char wanted, char c) { return wanted == std::tolower(static_cast<unsigned char>(c)); });
  return bears ? header.substr(kScheme.size()) : std::string_view();
}

}  // namespace

bool is_loopback(std::string_view host) {
  return host == "127.0.0.1" || host == "::1" || host == "[::1]" || host == "localhost";
}

ApiKeys::Digest ApiKeys::digest(std::string_view key) {
  Digest digest{};
  unsigned int size = 0;
  CHECK(EVP_Digest(key.data(), key.size(), digest.data(), &size, EVP_sha256(), nullptr) == 1);
  return digest;
}

ApiKeys::ApiKeys(const std::vector<std::string>& keys) {
  for (const std::string& key : keys) digests_.push_back(digest(key));
}

Result<ApiKeys> ApiKeys::read_file(const std::string& path) {
  constexpr size_t kBytesMax = 1 << 20;
  Result<std::string> text = trireme::read_file(path, kBytesMax);
  if (!text.ok()) return text.status();
  std::vector<std::string> keys;
  for (size_t begin = 0; begin < text->size();) {
    const size_t end = std::min(text->find('\n', begin), text->size());
    std::string line = text->substr(begin, end - begin);
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    begin = end + 1;
    if (line.empty() || line[0] == '#') continue;
    if (line.size() < 8)
      return invalid_argument(
          fmt::format("{}: a key has {} characters: use at least 8", path, line.size()));
    keys.push_back(std::move(line));
  }
  if (keys.empty()) return invalid_argument(path + ": it has no key: write one per line");
  return ApiKeys(keys);
}

bool ApiKeys::admits(const HttpRequest& request, HttpResponse& refusal) const {
  const std::string& path = request.path;
  if (open() || path == "/health" || path == "/metrics" || path == "/version") return true;
  const std::string_view header = request.header("authorization");
  const Digest brought = digest(bearer_token(header));
  int matches = 0;
  for (const Digest& known : digests_)
    matches |= CRYPTO_memcmp(known.data(), brought.data(), known.size()) == 0;
  if (matches != 0) return true;
  refusal = error_response(
      api_error(401, "invalid_api_key",
                header.empty() ? "this server needs an API key: send Authorization: Bearer KEY"
                               : "the API key is not one of this server's"));
  return false;
}

}  // namespace trireme

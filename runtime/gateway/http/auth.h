// API keys: who may use the API.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/gateway/http/errors.h"

namespace trireme {

// Whether a host's name or address, in brackets or not, is of this machine alone.
bool is_loopback(std::string_view host);

class ApiKeys {
 public:
  // Without keys everybody may come in.
  ApiKeys() = default;
  explicit ApiKeys(const std::vector<std::string>& keys);
  // One key per line; empty lines and lines that begin with '#' do not count. Errors name the file.
  static Result<ApiKeys> read_file(const std::string& path);

  bool open() const { return digests_.empty(); }

  // False, with the answer in `refusal`, where the request needs a key and does not bring one as
  // "Authorization: Bearer KEY". Paths that only tell how the server fares need none: /health,
  // /metrics, /version. Takes as long for a wrong key as for a right one.
  bool admits(const HttpRequest& request, HttpResponse& refusal) const;

 private:
  using Digest = std::array<uint8_t, 32>;
  static Digest digest(std::string_view key);
  std::vector<Digest> digests_;
};

}  // namespace trireme

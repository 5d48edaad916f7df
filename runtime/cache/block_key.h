// Names of prefixes: a SHA-256 chain over tokens. Two prefixes have the same key only if they are
// the same tokens under the same root (model, dtypes, layout, tenant), so that a key that was found
// is a prefix that was found; keys are equal on every rank and in every process.
//
//   key_0 = SHA256(SHA256(fingerprint) || salt)
//   key_k = SHA256(key_{k-1} || tokens of granule k as little-endian int32)
//
// A key over fewer tokens than a granule names a tail: the end of a turn or of a prompt.
// KeyHasher is used by one thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

namespace trireme {

struct BlockKey {
  std::array<uint8_t, 32> bytes{};
  bool operator==(const BlockKey&) const = default;
};

struct BlockKeyHash {
  size_t operator()(const BlockKey& key) const {
    size_t h;
    std::memcpy(&h, key.bytes.data(), sizeof(h));
    return h;
  }
};

class KeyHasher {
 public:
  explicit KeyHasher(std::string_view fingerprint);
  ~KeyHasher();
  KeyHasher(KeyHasher&&) noexcept;

  BlockKey root(std::string_view salt) const;
  BlockKey next(const BlockKey& parent, std::span<const int32_t> tokens) const;

  // The keys next(parent, tokens[0, n)) for each n of `lengths`, in one pass over the tokens.
  // REQUIRES: lengths ascend and do not exceed tokens.size().
  void tails(const BlockKey& parent, std::span<const int32_t> tokens,
             std::span<const uint32_t> lengths,
             const std::function<void(uint32_t length, const BlockKey& key)>& told) const;

 private:
  struct Evp;  // OpenSSL's, so that its headers stay out of here
  std::unique_ptr<Evp> evp_;
  BlockKey fingerprint_;
};

}  // namespace trireme

#include "runtime/cache/block_key.h"

#include <bit>

#include <openssl/evp.h>

#include "kernels/base/check.h"

namespace trireme {

static_assert(std::endian::native == std::endian::little,
              "tokens are hashed as they lie in memory");

// The algorithm is fetched once: looking it up costs more than hashing a granule.
struct KeyHasher::Evp {
  EVP_MD* sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  EVP_MD_CTX* running = EVP_MD_CTX_new();
  EVP_MD_CTX* copy = EVP_MD_CTX_new();

  Evp() { CHECK(sha256 != nullptr && running != nullptr && copy != nullptr); }
  ~Evp() {
    EVP_MD_CTX_free(copy);
    EVP_MD_CTX_free(running);
    EVP_MD_free(sha256);
  }
  Evp(const Evp&) = delete;

  void begin() { CHECK(EVP_DigestInit_ex2(running, sha256, nullptr) == 1); }
  void add(const void* data, size_t bytes) { CHECK(EVP_DigestUpdate(running, data, bytes) == 1); }
  static BlockKey finish(EVP_MD_CTX* context) {
    BlockKey key;
    CHECK(EVP_DigestFinal_ex(context, key.bytes.data(), nullptr) == 1);
    return key;
  }
  // The key of what was added so far; more may be added.
  BlockKey so_far() {
    CHECK(EVP_MD_CTX_copy_ex(copy, running) == 1);
    return finish(copy);
  }
};

KeyHasher::KeyHasher(std::string_view fingerprint) : evp_(std::make_unique<Evp>()) {
  evp_->begin();
  evp_->add(fingerprint.data(), fingerprint.size());
  fingerprint_ = Evp::finish(evp_->running);
}
KeyHasher::~KeyHasher() = default;
KeyHasher::KeyHasher(KeyHasher&&) noexcept = default;

BlockKey KeyHasher::root(std::string_view salt) const {
  evp_->begin();
  evp_->add(fingerprint_.bytes.data(), fingerprint_.bytes.size());
  evp_->add(salt.data(), salt.size());
  return Evp::finish(evp_->running);
}

BlockKey KeyHasher::next(const BlockKey& parent, std::span<const int32_t> tokens) const {
  evp_->begin();
  evp_->add(parent.bytes.data(), parent.bytes.size());
  evp_->add(tokens.data(), tokens.size_bytes());
  return Evp::finish(evp_->running);
}

void KeyHasher::tails(const BlockKey& parent, std::span<const int32_t> tokens,
                      std::span<const uint32_t> lengths,
                      const std::function<void(uint32_t, const BlockKey&)>& told) const {
  evp_->begin();
  evp_->add(parent.bytes.data(), parent.bytes.size());
  uint32_t hashed = 0;
  for (const uint32_t length : lengths) {
    CHECK(length >= hashed && length <= tokens.size());
    evp_->add(tokens.data() + hashed, (length - hashed) * sizeof(int32_t));
    hashed = length;
    told(length, evp_->so_far());
  }
}

}  // namespace trireme

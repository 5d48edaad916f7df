// Any bytes as a vocabulary of RWKV World, after one that holds all bytes: refused, or a tokenizer
// whose every token round trips.
#include <cstddef>
#include <cstdint>

#include <fmt/format.h>

#include "runtime/text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace trireme;
  static const std::string bytes = [] {
    std::string vocab;
    for (int byte = 0; byte < 256; ++byte) {
      vocab += fmt::format("{} b'\\x{:02x}' 1\n", byte + 1, byte);
    }
    return vocab;
  }();
  const auto tokenizer =
      parse_rwkv_vocab(bytes + std::string(reinterpret_cast<const char*>(data), size));
  if (!tokenizer.ok()) return 0;
  for (int32_t id = 1; id < (*tokenizer)->vocab_size(); ++id) {
    const std::string token = (*tokenizer)->token_bytes(id);
    if (!token.empty()) CHECK((*tokenizer)->token_id(token) == id);
  }
  return 0;
}

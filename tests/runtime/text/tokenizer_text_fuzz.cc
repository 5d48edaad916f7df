// Any bytes as a prompt, to each golden tokenizer: an error where it is not UTF-8, else ids; any
// bytes as ids: well-formed text.
#include <cstddef>
#include <cstdint>
#include <filesystem>

#include "runtime/text/token_stream.h"
#include "runtime/text/utf8.h"

namespace {

using namespace trireme;

std::vector<std::unique_ptr<Tokenizer>> load_all() {
  namespace fs = std::filesystem;
  const fs::path data = fs::path(TRIREME_SOURCE_DIR) / "tests/golden/data";
  std::vector<std::unique_ptr<Tokenizer>> all;
  all.push_back(load_tokenizer(TRIREME_BINARY_DIR "/rwkv_world").take());
  for (const fs::directory_entry& folder : fs::directory_iterator(data / "tokenizers")) {
    all.push_back(load_tokenizer(folder.path().string()).take());
  }
  return all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<std::unique_ptr<Tokenizer>> tokenizers = load_all();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const auto& tokenizer : tokenizers) {
    const auto ids = tokenizer->encode(text, {});
    CHECK(ids.ok() == !utf8_error(text));
    std::vector<int32_t> any;
    for (size_t i = 0; i + 1 < size; i += 2) any.push_back(data[i] | data[i + 1] << 8);
    TokenStream stream(*tokenizer);
    std::string all;
    for (const int32_t id : any) {
      const std::string piece = stream.push(id);
      CHECK(!utf8_error(piece));
      all += piece;
    }
    all += stream.finish();
    const std::string decoded = tokenizer->decode(any);
    CHECK(!utf8_error(decoded));
    CHECK(tokenizer->text_rules().byte_runs || decoded == all);
  }
  return 0;
}

// Any bytes as a tokenizer.json: refused with a message, or a tokenizer that encodes and decodes
// without a fault. Seeds: tests/golden/data/tokenizers/*/tokenizer.json.
#include <cstddef>
#include <cstdint>

#include "runtime/text/token_stream.h"
#include "runtime/text/utf8.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace trireme;
  const auto tokenizer = parse_tokenizer_json({reinterpret_cast<const char*>(data), size});
  if (!tokenizer.ok()) {
    CHECK(!tokenizer.status().message().empty());
    return 0;
  }
  const std::string_view texts[] = {"", "Hello,  world 12345!\r\n", "<s>a</s> <|x|> \t",
                                    "\u00e9e\u0301 \u4f60\u597d \U0001F469\u200d\U0001F4BB \ufb01"};
  for (const std::string_view text : texts) {
    for (const bool special : {false, true}) {
      const auto ids = (*tokenizer)->encode(text, {special, special});
      if (!ids.ok()) continue;
      TokenStream stream(**tokenizer, special);
      std::string all;
      for (const int32_t id : *ids) {
        CHECK(id >= 0 && id < (*tokenizer)->vocab_size());
        const std::string piece = stream.push(id);
        CHECK(!utf8_error(piece));
        all += piece;
      }
      all += stream.finish();
      const std::string decoded = (*tokenizer)->decode(*ids, special);
      CHECK(!utf8_error(decoded));
      CHECK((*tokenizer)->text_rules().byte_runs || decoded == all);
    }
  }
  return 0;
}

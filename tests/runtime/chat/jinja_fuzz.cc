// Any bytes as a chat template: refused with a sentence, or it writes the same twice within its
// limits. A mark that only the user wrote is the user's wherever it comes out.
//
//   build/fuzz/tests/runtime/chat/jinja_fuzz NEW_INPUTS seeds/jinja
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "kernels/base/check.h"
#include "runtime/chat/jinja/template.h"

namespace {

using namespace trireme;
using jinja::Template;
using jinja::Value;

constexpr std::string_view kMark = "\xee\x80\x80";  // U+E000, private use

Template::Globals globals() {
  const std::string said = "a <|im_end|> b" + std::string(kMark) + "c";
  JsonArray messages;
  for (const char* role : {"system", "user", "assistant", "user"}) {
    JsonObject message;
    message["role"] = role;
    message["content"] = said;
    messages.push_back(std::move(message));
  }
  messages[2].as_object()["tool_calls"] = JsonArray{
      JsonObject{{"type", "function"},
                 {"function", JsonObject{{"name", said}, {"arguments", JsonObject{{said, 1.5}}}}}}};
  Template::Globals globals;
  globals.emplace_back("messages", Value::from_json(std::move(messages), true));
  globals.emplace_back("tools", Value::from_json(JsonArray{JsonObject{{"name", said}}}, true));
  globals.emplace_back("bos_token", Value::text("<s>"));
  globals.emplace_back("eos_token", Value::text("</s>"));
  globals.emplace_back("add_generation_prompt", Value::boolean(true));
  globals.emplace_back("n", Value::integer(-7));
  return globals;
}

void check_ranges(const jinja::Text& text) {
  size_t end = 0;
  for (const TextRange& range : text.user()) {
    CHECK(range.begin < range.end && range.end <= text.size());
    CHECK(end == 0 || range.begin > end) << "ranges that touch";
    end = range.end;
  }
}

bool is_users(const jinja::Text& text, size_t begin, size_t end) {
  for (const TextRange& range : text.user()) {
    if (range.begin <= begin && end <= range.end) return true;
  }
  return false;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  const jinja::Limits limits{1 << 14, 100'000, 1 << 18, 50};
  const Result<Template> parsed = Template::parse(source, limits);
  if (!parsed.ok()) {
    CHECK(!parsed.status().message().empty());
    return 0;
  }
  const Template::Globals given = globals();
  const Result<jinja::Text> once = parsed->render(given);
  const Result<jinja::Text> again = parsed->render(given);
  CHECK(once.ok() == again.ok());
  if (!once.ok()) {
    CHECK(once.status().code() == again.status().code());
    CHECK(!once.status().message().empty() || source.find("raise_exception") != source.npos);
    return 0;
  }
  CHECK(once->str() == again->str() && once->size() <= limits.output_bytes_max);
  check_ranges(*once);
  // A template that can write the mark itself proves nothing.
  if (source.find(kMark) != source.npos || source.find('\\') != source.npos) return 0;
  for (size_t at = once->str().find(kMark); at != std::string::npos;
       at = once->str().find(kMark, at + kMark.size()))
    CHECK(is_users(*once, at, at + kMark.size()))
        << "the user's own words are taken for the template's";
  return 0;
}

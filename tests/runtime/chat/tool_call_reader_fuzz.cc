// Any bytes as what a model says: read whole and cut into pieces the calls and the content are the
// same, and what turns out to be no call is all there. The first byte chooses the form and the most
// calls, the second the cuts.
//
//   build/fuzz/tests/runtime/chat/tool_call_reader_fuzz NEW_INPUTS seeds/tool_call_reader
#include <cstddef>
#include <cstdint>
#include <random>

#include <fmt/format.h>

#include "kernels/base/check.h"
#include "runtime/chat/tool_calls.h"

namespace {

using namespace trireme;

struct Said {
  std::string content;
  std::vector<ToolCallDelta> calls;

  void add(ToolDelta delta) {
    content += delta.content;
    size_t last = 0;
    for (size_t i = 0; i < delta.calls.size(); ++i) {
      ToolCallDelta& piece = delta.calls[i];
      CHECK(i == 0 || piece.index > last) << "a call twice in a delta, or out of order";
      last = piece.index;
      if (piece.index == calls.size()) {
        CHECK(!piece.id.empty() && !piece.name.empty());
        calls.push_back(std::move(piece));
      } else {
        CHECK(piece.index + 1 == calls.size() && piece.id.empty() && piece.name.empty());
        CHECK(!piece.arguments.empty()) << "a piece of nothing";
        calls.back().arguments += piece.arguments;
      }
    }
  }
};

ToolReaderOptions options(uint8_t choice) {
  ToolReaderOptions options;
  options.format = static_cast<ToolFormat>(choice % 4);
  options.calls_max = choice / 4 % 3 == 0 ? 1 : 128;
  options.names = {"add", "ping"};
  options.make_id = [n = 0]() mutable { return fmt::format("id{}", n++); };
  return options;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  const ToolReaderOptions made = options(data[0]);
  Said whole, pieces;
  ToolCallReader at_once(options(data[0])), cut(options(data[0]));
  whole.add(at_once.push(text));
  whole.add(at_once.finish());
  std::minstd_rand random(data[1] + 1u);
  for (size_t at = 0; at < text.size();) {
    const std::string_view piece = text.substr(at, 1 + random() % 5);
    pieces.add(cut.push(piece));
    at += piece.size();
  }
  pieces.add(cut.finish());
  CHECK(whole.content == pieces.content);
  CHECK(whole.calls.size() == pieces.calls.size() && at_once.calls() == cut.calls());
  CHECK(whole.calls.size() <= made.calls_max && whole.calls.size() <= at_once.calls());
  for (size_t i = 0; i < whole.calls.size(); ++i) {
    const ToolCallDelta &a = whole.calls[i], &b = pieces.calls[i];
    CHECK(a.index == i && a.id == b.id && a.name == b.name && a.arguments == b.arguments);
  }
  // A list that has to be one is cut where it is no call; else nothing that was said is lost.
  CHECK(at_once.calls() > 0 || made.format == ToolFormat::kList || whole.content == text);
  return 0;
}

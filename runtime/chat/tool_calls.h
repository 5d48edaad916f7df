// Tool calls in what a model says: found in the text as it streams, in the form that the model's
// family writes them; and the form of outputs that have to be calls.
//
// Values; one thread at a time for a reader.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/json.h"
#include "kernels/base/status.h"
#include "runtime/chat/call_scanner.h"

namespace trireme {

enum class ToolFormat : uint8_t {
  kHermes,   // <tool_call>{"name": ..., "arguments": {...}}</tool_call>: Hermes, Qwen
  kLlama3,   // {"name": ..., "parameters": {...}} as the whole text, or after <|python_tag|>
  kMistral,  // [TOOL_CALLS] [{"name": ..., "arguments": {...}}], or [TOOL_CALLS]name{...}
  kList,     // [{"name": ..., "arguments": {...}}]: what tool_calls_schema() allows
};

// "hermes", "llama3_json" or "mistral", as vLLM calls them. kInvalidArgument: another.
Result<ToolFormat> tool_format_named(std::string_view name);
// By the tags that the text of a chat template tells its model to write; none where it knows none.
std::optional<ToolFormat> detect_tool_format(std::string_view chat_template);

// The JSON schema of a list of calls of `tools` (of the API, each with function.name): of any of
// them, or of the one called `name`; `single`: of one call only.
std::string tool_calls_schema(const JsonArray& tools, const std::optional<std::string>& name,
                              bool single);

// What a piece of text adds to one call.
struct ToolCallDelta {
  size_t index = 0;       // of the call in its answer
  std::string id, name;   // in the first delta of the call only
  std::string arguments;  // the next piece of their JSON text
};
struct ToolDelta {
  std::string content;
  std::vector<ToolCallDelta> calls;  // at most one entry for each call, in order
};

struct ToolReaderOptions {
  ToolFormat format = ToolFormat::kHermes;
  std::set<std::string, std::less<>> names;  // of the tools
  size_t calls_max = 128;                    // what is called beyond them is dropped
  std::function<std::string()> make_id;      // of the next call
};

// INVARIANT: what comes out, put together, does not depend on how the text was cut into pieces.
// A call is told once its name and the beginning of its arguments are read: until then its text is
// held back, and goes out as content if it turns out to be no call. What the model got wrong after
// that goes out with the arguments, for the client to see. White space next to a call is no
// content.
class ToolCallReader {
 public:
  explicit ToolCallReader(ToolReaderOptions options);

  ToolDelta push(std::string_view text);
  // The text ends here.
  ToolDelta finish();
  // Told so far.
  size_t calls() const { return calls_; }

 private:
  enum class Mode : uint8_t {
    kText,     // content, in which a tag may begin
    kBetween,  // in a list of calls, before the next one
    kNamed,    // in the name of Mistral's [TOOL_CALLS]name{...}
    kCall,     // scanner_ reads
    kBroken,   // a told call is no JSON any more
    kAfter,    // a call is read, its closing tag is not
  };
  void step(char c);
  void text(char c);
  void between(char c);
  void named(char c);
  void call(char c);
  void broken(char c);
  void after(char c);

  void open();
  void begin_call(CallScanner scanner);
  bool tell();
  void end_call();
  void give_up();
  void add_content(std::string_view text);
  void add_arguments(std::string_view text);
  // Moves held_ on by `c`: the tag that it has become, if any; what can begin none goes to `rest`.
  std::string_view match(char c, const std::vector<std::string_view>& tags, std::string& rest);

  ToolReaderOptions options_;
  std::string_view opening_, closing_;
  Mode mode_ = Mode::kText;
  CallScanner scanner_;
  bool told_ = false;        // the call that is read
  bool said_ = false;        // content has begun
  bool after_call_ = false;  // nothing has been said since the last call
  size_t calls_ = 0;
  std::string held_;    // may be the beginning of a tag
  std::string raw_;     // of a call that is not told yet, with its tag
  std::string spaces_;  // of content, if more content follows
  std::string name_;    // kNamed
  ToolDelta delta_;
};

}  // namespace trireme

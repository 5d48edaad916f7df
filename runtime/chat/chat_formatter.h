// From the messages of a chat to the tokens of a prompt: what the gateway asks of a chat template.
#pragma once

#include <string>
#include <vector>

#include "kernels/base/json.h"
#include "kernels/base/status.h"

namespace trireme {

struct ChatPrompt {
  const JsonArray* messages = nullptr;
  const JsonArray* tools = nullptr;    // may be empty
  const JsonObject* kwargs = nullptr;  // chat_template_kwargs
  bool add_generation_prompt = true;
  bool continue_final_message = false;
  bool add_special_tokens = false;
};

class ChatFormatter {
 public:
  virtual ~ChatFormatter() = default;
  // Text of users never becomes a special token. kInvalidArgument: the template refuses the
  // messages, in its own words. Thread-safe.
  virtual Result<std::vector<int32_t>> encode(const ChatPrompt& prompt) const = 0;
  // The template's text, for /tokenizer_info.
  virtual const std::string& source() const = 0;
  // The text of the one for chats with tools: mostly the same.
  virtual const std::string& tools_source() const = 0;
};

}  // namespace trireme

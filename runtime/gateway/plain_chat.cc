#include "runtime/gateway/plain_chat.h"

#include <fmt/format.h>

namespace trireme {
namespace {

// A string, or the text parts of a list, one line each.
Result<std::string> content_of(const Json& message, size_t index) {
  const Json* content = find(message, "content");
  if (content == nullptr) return std::string();
  if (content->is_string()) return std::string(content->get_string());
  std::string text;
  for (const Json& part : content->get_array()) {
    const Json* type = find(part, "type");
    const Json* piece = find(part, "text");
    if (type == nullptr || !type->is_string() || type->get_string() != "text" || piece == nullptr ||
        !piece->is_string())
      return invalid_argument(fmt::format(
          "messages[{}] has a part that is no text: this model reads text only", index));
    text += (text.empty() ? "" : "\n") + std::string(piece->get_string());
  }
  return text;
}

std::string_view speaker(std::string_view role) {
  if (role == "assistant") return "Assistant";
  if (role == "system" || role == "developer") return "System";
  return role == "user" ? "User" : "Tool";
}

}  // namespace

Result<std::vector<int32_t>> PlainChat::encode(const ChatPrompt& prompt) const {
  std::string text;
  const JsonArray& messages = *prompt.messages;
  for (size_t i = 0; i < messages.size(); ++i) {
    Result<std::string> content = content_of(messages[i], i);
    if (!content.ok()) return content.status();
    const bool open = prompt.continue_final_message && i + 1 == messages.size();
    text += fmt::format("{}: {}{}", speaker(messages[i].at("role").get_string()), *content,
                        open ? "" : "\n\n");
  }
  if (prompt.add_generation_prompt) text += "Assistant:";
  return tokenizer_.encode(text, {.add_special = true});
}

}  // namespace trireme

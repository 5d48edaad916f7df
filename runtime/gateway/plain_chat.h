// Chats for models without a template of their own: "User: ...\n\nAssistant:", the form that RWKV's
// World models were trained on and that base models understand.
#pragma once

#include "runtime/gateway/chat_formatter.h"
#include "runtime/text/tokenizer.h"

namespace trireme {

class PlainChat final : public ChatFormatter {
 public:
  // `tokenizer` outlives it.
  explicit PlainChat(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  Result<std::vector<int32_t>> encode(const ChatPrompt& prompt) const override;
  const std::string& source() const override { return source_; }

 private:
  const Tokenizer& tokenizer_;
  const std::string source_;  // none
};

}  // namespace trireme

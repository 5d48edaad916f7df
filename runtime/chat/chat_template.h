// The chat template of a model: from messages to the tokens of a prompt. Immutable; any thread.
//
// INVARIANT: text of users, and of tools and their descriptions, never becomes a special token: the
// rendered prompt knows which of its bytes came from them.
#pragma once

#include <ctime>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "runtime/chat/chat_formatter.h"
#include "runtime/chat/jinja/template.h"
#include "runtime/text/tokenizer.h"

namespace trireme {

// What a template is made from.
struct ChatTemplateSource {
  std::string text;                       // the template
  std::optional<std::string> with_tools;  // another for chats with tools, where the model has two
  std::string bos_token, eos_token;       // "" where there is none
};

// The template of a model's folder: chat_template.jinja, else chat_template of
// tokenizer_config.json (a string, or a list of named ones: default and tool_use), else
// kPlainChatTemplate. `override_path`: a file that counts instead. Errors begin with the file.
Result<ChatTemplateSource> load_chat_template(const std::string& model_path,
                                              const std::optional<std::string>& override_path);

// "User: ...\n\nAssistant:", the form that RWKV's World models were trained on and that base models
// go on in: for models without a template of their own.
extern const char* const kPlainChatTemplate;

class ChatTemplate final : public ChatFormatter {
 public:
  using Clock = std::function<std::time_t()>;  // for strftime_now
  // `tokenizer` outlives it. kInvalidArgument: the template's line and what is wrong with it.
  static Result<std::unique_ptr<ChatTemplate>> make(const ChatTemplateSource& source,
                                                    const Tokenizer& tokenizer, Clock now);

  Result<std::vector<int32_t>> encode(const ChatPrompt& prompt) const override;
  const std::string& source() const override { return source_.text; }
  const std::string& tools_source() const override {
    return source_.with_tools.has_value() ? *source_.with_tools : source_.text;
  }
  const std::string& bos_token() const { return source_.bos_token; }
  const std::string& eos_token() const { return source_.eos_token; }

  // The prompt's text, and which of it came from users.
  Result<jinja::Text> render(const ChatPrompt& prompt) const;

 private:
  ChatTemplate(ChatTemplateSource source, jinja::Template plain, const Tokenizer& tokenizer,
               Clock now)
      : source_(std::move(source)),
        plain_(std::move(plain)),
        tokenizer_(tokenizer),
        now_(std::move(now)) {}

  const ChatTemplateSource source_;
  jinja::Template plain_;
  std::optional<jinja::Template> with_tools_;
  const Tokenizer& tokenizer_;
  const Clock now_;
};

}  // namespace trireme

#include "runtime/chat/chat_template.h"

#include <filesystem>

#include <fmt/format.h>

namespace trireme {

using jinja::Arguments;
using jinja::Failure;
using jinja::Value;

const char* const kPlainChatTemplate =
    "{%- for message in messages -%}"
    "{%- set who = {'user': 'User', 'assistant': 'Assistant', 'system': 'System'} -%}"
    "{{- who.get(message.role, 'Tool') + ': ' + (message.content or '') | trim -}}"
    "{{- '\\n\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}";

namespace {

// A token as tokenizer_config.json has it: a string, or an object with its content.
std::string token_content(const Json& config, std::string_view name) {
  const Json* token = find(config, name);
  if (token == nullptr) return {};
  if (token->is_string()) return std::string(token->get_string());
  const Json* content = find(*token, "content");
  return content != nullptr && content->is_string() ? std::string(content->get_string())
                                                    : std::string();
}

// A string, or a list of {name, template}.
Status read_templates(const Json& value, ChatTemplateSource& source) {
  if (value.is_string()) {
    source.text = std::string(value.get_string());
    return {};
  }
  if (!value.is_array())
    return invalid_argument(
        fmt::format("chat_template is {}: expected a string or a list", json_kind(value)));
  for (const Json& entry : value.get_array()) {
    const Json* name = find(entry, "name");
    const Json* text = find(entry, "template");
    if (name == nullptr || !name->is_string() || text == nullptr || !text->is_string())
      return invalid_argument("chat_template has an entry without a name and a template");
    if (name->get_string() == "default") source.text = std::string(text->get_string());
    if (name->get_string() == "tool_use") source.with_tools = std::string(text->get_string());
  }
  if (source.text.empty() && source.with_tools.has_value()) source.text = *source.with_tools;
  if (source.text.empty()) return invalid_argument("chat_template has no entry called default");
  return {};
}

constexpr size_t kTemplateBytesMax = 1 << 20;

}  // namespace

Result<ChatTemplateSource> load_chat_template(const std::string& model_path,
                                              const std::optional<std::string>& override_path) {
  namespace fs = std::filesystem;
  ChatTemplateSource source;
  std::error_code error;
  const fs::path folder = fs::is_directory(model_path, error) ? fs::path(model_path)
                                                              : fs::path(model_path).parent_path();
  const fs::path config_path = folder / "tokenizer_config.json";
  if (fs::exists(config_path, error)) {
    Result<Json> config = read_json_file(config_path.string());
    if (!config.ok()) return config.status();
    source.bos_token = token_content(*config, "bos_token");
    source.eos_token = token_content(*config, "eos_token");
    if (const Json* own = find(*config, "chat_template")) {
      if (Status s = read_templates(*own, source); !s.ok()) return s.at(config_path.string());
    }
  }
  const fs::path file = override_path ? fs::path(*override_path) : folder / "chat_template.jinja";
  if (override_path.has_value() || fs::exists(file, error)) {
    Result<std::string> text = read_file(file.string(), kTemplateBytesMax);
    if (!text.ok()) return text.status();
    source.text = text.take();
    source.with_tools.reset();
  }
  if (source.text.empty()) source.text = kPlainChatTemplate;
  return source;
}

Result<std::unique_ptr<ChatTemplate>> ChatTemplate::make(const ChatTemplateSource& source,
                                                         const Tokenizer& tokenizer, Clock now) {
  Result<jinja::Template> plain = jinja::Template::parse(source.text);
  if (!plain.ok()) return plain.status().at("chat template");
  std::unique_ptr<ChatTemplate> made(
      new ChatTemplate(source, plain.take(), tokenizer, std::move(now)));
  if (source.with_tools.has_value()) {
    Result<jinja::Template> tools = jinja::Template::parse(*source.with_tools);
    if (!tools.ok()) return tools.status().at("chat template for tools");
    made->with_tools_ = tools.take();
  }
  return made;
}

namespace {

// The text of a message: a string, or the text parts of a list, one line each.
Status flatten_content(JsonObject& message, size_t index) {
  const auto it = message.find("content");
  if (it == message.end() || !it->value().is_array()) return {};
  std::string text;
  size_t part_index = 0;
  for (const Json& part : it->value().get_array()) {
    const Json* type = find(part, "type");
    const Json* piece = find(part, "text");
    if (type == nullptr || !type->is_string() || type->get_string() != "text" || piece == nullptr ||
        !piece->is_string())
      return invalid_argument(fmt::format(
          "messages[{}].content[{}] is no text: this model reads text only", index, part_index));
    if (part_index++ > 0) text += '\n';
    text += piece->get_string();
  }
  it->value() = text;
  return {};
}

// Templates expect the arguments of a call as an object; the API has them as the text of one.
void parse_call_arguments(JsonObject& message) {
  const auto calls = message.find("tool_calls");
  if (calls == message.end() || !calls->value().is_array()) return;
  for (Json& call : calls->value().get_array()) {
    if (!call.is_object()) continue;
    const auto function = call.get_object().find("function");
    if (function == call.get_object().end() || !function->value().is_object()) continue;
    const auto arguments = function->value().get_object().find("arguments");
    if (arguments == function->value().get_object().end() || !arguments->value().is_string())
      continue;
    Result<Json> parsed = parse_json(arguments->value().get_string());
    if (parsed.ok()) arguments->value() = parsed.take();
  }
}

Value strftime_now(const ChatTemplate::Clock& now) {
  return Value::callable("strftime_now", [now](Arguments& a) {
    if (a.positional.size() != 1 || !a.positional[0].is_text())
      throw Failure{"strftime_now takes a format"};
    const std::time_t time = now();
    std::tm parts{};
    localtime_r(&time, &parts);
    char text[256];
    const size_t bytes = std::strftime(text, sizeof(text), a.positional[0].str().c_str(), &parts);
    return Value::text(std::string(text, bytes));
  });
}

// Up to the end of what the last message says, so that the model goes on in the middle of it.
Result<jinja::Text> cut_after_last(const jinja::Text& prompt, const Json& last) {
  const Json* content = find(last, "content");
  std::string said =
      content != nullptr && content->is_string() ? std::string(content->get_string()) : "";
  size_t at = said.empty() ? std::string::npos : prompt.str().rfind(said);
  if (at == std::string::npos) {
    const size_t begin = said.find_first_not_of(" \t\n\r");
    said = begin == std::string::npos
               ? ""
               : said.substr(begin, said.find_last_not_of(" \t\n\r") + 1 - begin);
    at = said.empty() ? std::string::npos : prompt.str().rfind(said);
  }
  if (at == std::string::npos)
    return invalid_argument(
        "continue_final_message: the chat template changes the last message, so it cannot be "
        "continued");
  return prompt.sub(0, at + said.size());
}

}  // namespace

namespace {

// A role is one of a few words that the gateway has checked: the template's own, not the user's.
Value messages_value(const JsonArray& messages) {
  jinja::List list;
  for (const Json& json : messages) {
    jinja::Dict message = Value::from_json(json, true).as_dict();
    if (const Value* role = message.find("role"); role != nullptr && role->is_text())
      message.set("role", Value::text(role->str()));
    list.push_back(Value::dict(std::move(message)));
  }
  return Value::list(std::move(list));
}

}  // namespace

Result<jinja::Text> ChatTemplate::render(const ChatPrompt& prompt) const {
  JsonArray messages = *prompt.messages;
  const bool knows_developer = source_.text.find("developer") != std::string::npos;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (!messages[i].is_object())
      return invalid_argument(fmt::format("messages[{}] is no object", i));
    JsonObject& message = messages[i].get_object();
    if (Status s = flatten_content(message, i); !s.ok()) return s;
    parse_call_arguments(message);
    const Json* role = find(messages[i], "role");
    if (!knows_developer && role != nullptr && *role == "developer") message["role"] = "system";
  }
  const bool tools = prompt.tools != nullptr && !prompt.tools->empty();
  jinja::Template::Globals globals = {
      {"messages", messages_value(messages)},
      {"tools", tools ? Value::from_json(Json(*prompt.tools), true) : Value::none()},
      {"documents", Value::none()},
      {"add_generation_prompt", Value::boolean(prompt.add_generation_prompt)},
      {"bos_token", Value::text(source_.bos_token)},
      {"eos_token", Value::text(source_.eos_token)},
      {"strftime_now", strftime_now(now_)}};
  if (prompt.kwargs != nullptr) {
    for (const auto& [key, value] : *prompt.kwargs)
      globals.emplace_back(std::string(key), Value::from_json(value, true));
  }
  const jinja::Template& chosen = tools && with_tools_.has_value() ? *with_tools_ : plain_;
  Result<jinja::Text> text = chosen.render(globals);
  if (!text.ok()) return text.status().at("chat template");
  if (!prompt.continue_final_message || messages.empty()) return text;
  return cut_after_last(*text, messages.back());
}

Result<std::vector<int32_t>> ChatTemplate::encode(const ChatPrompt& prompt) const {
  Result<jinja::Text> text = render(prompt);
  if (!text.ok()) return text.status();
  // The template has its own first token, as a rule: a second one would be a mistake.
  const bool begins = !source_.bos_token.empty() && text->str().starts_with(source_.bos_token);
  Tokenizer::EncodeOptions options;
  options.add_special = prompt.add_special_tokens && !begins;
  options.parse_special = true;
  options.untrusted = text->user();
  return tokenizer_.encode(text->str(), options);
}

}  // namespace trireme

#include "launcher/client/completion_stream.h"

#include <boost/json/serialize.hpp>
#include <fmt/format.h>

namespace trireme {

namespace {

std::string string_at(const Json& object, std::string_view key) {
  const Json* value = find(object, key);
  return value != nullptr && value->is_string() ? std::string(value->as_string()) : std::string();
}

int64_t integer_at(const Json& object, std::string_view key) {
  const Json* value = find(object, key);
  if (value == nullptr) return 0;
  if (value->is_int64()) return value->as_int64();
  return 0;
}

std::optional<StreamUsage> usage_in(const Json& event) {
  const Json* usage = find(event, "usage");
  if (usage == nullptr || !usage->is_object()) return std::nullopt;
  StreamUsage out;
  out.prompt_tokens = integer_at(*usage, "prompt_tokens");
  out.completion_tokens = integer_at(*usage, "completion_tokens");
  if (const Json* details = find(*usage, "prompt_tokens_details"))
    out.cached_tokens = integer_at(*details, "cached_tokens");
  return out;
}

void read_choice(const Json& choice, StreamDelta& delta) {
  delta.finish_reason = string_at(choice, "finish_reason");
  if (const Json* chat = find(choice, "delta")) {
    delta.text = string_at(*chat, "content");
    delta.reasoning = string_at(*chat, "reasoning_content");
    if (delta.reasoning.empty()) delta.reasoning = string_at(*chat, "reasoning");
  } else {
    delta.text = string_at(choice, "text");
  }
}

}  // namespace

std::string_view api_path(ApiKind kind) {
  return kind == ApiKind::kChat ? "/v1/chat/completions" : "/v1/completions";
}

Result<StreamDelta> read_stream_event(std::string_view data) {
  StreamDelta delta;
  if (data == "[DONE]") {
    delta.done = true;
    return delta;
  }
  const Result<Json> event = parse_json(data);
  if (!event.ok()) return data_loss("an event is not JSON: " + event.status().message());
  if (const Json* error = find(*event, "error")) {
    std::string message =
        error->is_string() ? std::string(error->as_string()) : string_at(*error, "message");
    if (message.empty()) message = boost::json::serialize(*error);
    return unavailable("the server says: " + message);
  }
  delta.usage = usage_in(*event);
  const Json* choices = find(*event, "choices");
  if (choices == nullptr || !choices->is_array()) {
    if (delta.usage.has_value()) return delta;
    return data_loss("an event has neither choices nor usage");
  }
  for (const Json& choice : choices->as_array()) {
    if (choice.is_object() && integer_at(choice, "index") == 0) read_choice(choice, delta);
  }
  return delta;
}

std::string stream_body(ApiKind kind, const BenchPrompt& prompt, const CallOptions& options) {
  JsonObject body;
  if (!options.model.empty()) body["model"] = options.model;
  if (kind == ApiKind::kChat) {
    JsonArray messages;
    for (const ChatTurn& turn : prompt.turns) {
      JsonObject message;
      message["role"] = turn.role;
      message["content"] = turn.content;
      messages.emplace_back(std::move(message));
    }
    body["messages"] = std::move(messages);
  } else if (!prompt.ids.empty()) {
    body["prompt"] = JsonArray(prompt.ids.begin(), prompt.ids.end());
  } else {
    body["prompt"] = prompt.text;
  }
  if (options.max_tokens > 0)
    body[kind == ApiKind::kChat ? "max_completion_tokens" : "max_tokens"] = options.max_tokens;
  if (options.temperature >= 0) body["temperature"] = options.temperature;
  if (options.top_p >= 0) body["top_p"] = options.top_p;
  if (options.seed.has_value()) body["seed"] = *options.seed;
  if (options.ignore_eos) body["ignore_eos"] = true;
  if (!options.stop.empty()) body["stop"] = JsonArray(options.stop.begin(), options.stop.end());
  body["stream"] = true;
  JsonObject stream_options;
  stream_options["include_usage"] = true;
  body["stream_options"] = std::move(stream_options);
  return boost::json::serialize(body);
}

}  // namespace trireme

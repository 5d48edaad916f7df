// The endpoints beside the two that generate: models, health, metrics, the tokenizer. Most are a
// function from a request to its answer: without co_await, next to which gcc 12 destroys the
// temporaries of a conditional expression twice.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "runtime/gateway/delivery.h"
#include "runtime/gateway/field_reader.h"
#include "runtime/gateway/gateway.h"
#include "runtime/gateway/logprobs.h"

namespace trireme {

namespace asio = boost::asio;

namespace {

HttpResponse json_response(const JsonObject& object) {
  HttpResponse response;
  response.body = boost::json::serialize(object);
  return response;
}

HttpResponse one_member(std::string_view key, std::string_view value) {
  JsonObject object;
  object[key] = value;
  return json_response(object);
}

}  // namespace

asio::awaitable<void> Gateway::answer(HttpExchange& exchange, Answer member) {
  HttpResponse response;
  if (exchange.request().body.size() <= kInlineBytes) {
    response = (this->*member)(exchange.request());
  } else {
    response = co_await asio::co_spawn(
        text_pool_,
        [this, member, &exchange]() -> asio::awaitable<HttpResponse> {
          co_return (this->*member)(exchange.request());
        },
        asio::use_awaitable);
  }
  (void)(co_await exchange.send(std::move(response))).ok();
}

Json Gateway::context_tokens() const {
  const EngineClient* engine = engine_;
  return engine == nullptr ? Json(nullptr) : Json(engine->info().tokens_max);
}

JsonObject Gateway::model_object(const std::string& name) const {
  JsonObject object;
  object["id"] = name;
  object["object"] = "model";
  object["created"] = started_;
  object["owned_by"] = "trireme";
  object["root"] = options_.model_root;
  object["parent"] = nullptr;
  object["max_model_len"] = context_tokens();
  return object;
}

HttpResponse Gateway::models(const HttpRequest&) const {
  JsonArray list;
  for (const std::string& name : options_.model_names) list.emplace_back(model_object(name));
  JsonObject answer;
  answer["object"] = "list";
  answer["data"] = std::move(list);
  return json_response(answer);
}

HttpResponse Gateway::model(const HttpRequest& request) const {
  const std::string name = request.path.substr(request.path.find("/models/") + 8);
  if (const std::optional<ApiError> error = wrong_model(name.empty() ? "/" : name))
    return error_response(*error);
  return json_response(model_object(name));
}

// The engine itself has to answer: its loop comes by between two steps, and an idle one asks all
// ranks.
asio::awaitable<void> Gateway::health(HttpExchange& exchange) {
  HttpResponse response;
  if (const std::optional<ApiError> error = unready()) {
    response = error_response(*error);
    (void)(co_await exchange.send(std::move(response))).ok();
    co_return;
  }
  Delivery<Status> pong(exchange.executor());
  EngineClient* const engine = engine_;
  engine->ping(pong.bringer());
  const std::optional<Status> status =
      co_await pong.wait(std::chrono::steady_clock::now() + options_.health_timeout);
  if (!status.has_value()) {
    response = error_response(api_error(
        503, "engine_error",
        fmt::format("the engine has not answered for {} ms", options_.health_timeout.count())));
  } else if (!status->ok()) {
    response = error_response(api_error(503, "engine_error", status->message()));
  } else {
    response = one_member("status", "ok");
  }
  (void)(co_await exchange.send(std::move(response))).ok();
}

HttpResponse Gateway::version(const HttpRequest&) const {
  return one_member("version", options_.version);
}

HttpResponse Gateway::metrics_page(const HttpRequest&) const {
  HttpResponse response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  const EngineClient* engine = engine_;
  response.body =
      engine == nullptr ? metrics_.text({}, {}) : metrics_.text(engine->stats(), engine->info());
  return response;
}

// A chat as its prompt would be; the error names a field of the body.
std::variant<std::vector<int32_t>, ApiError> Gateway::chat_tokens(const JsonObject& body) const {
  const ParsedCall parsed = parse_chat_call(body, options_.defaults, options_.limits);
  if (const auto* error = std::get_if<ApiError>(&parsed)) return *error;
  const ApiCall& call = std::get<ApiCall>(parsed);
  Result<std::vector<int32_t>> ids = chat_.encode(
      {&call.messages, &call.tools, &call.chat_template_kwargs, call.add_generation_prompt,
       call.continue_final_message, call.add_special_tokens});
  if (!ids.ok()) return api_error(400, "invalid_value", ids.status().message(), "messages");
  return ids.take();
}

// vLLM's {"prompt"}, llama-server's {"content"}, whose text may name special tokens.
std::variant<std::vector<int32_t>, ApiError> Gateway::text_tokens(FieldReader& in) const {
  const bool llama = in.has("content") && !in.has("prompt");
  const std::string field = llama ? "content" : "prompt";
  if (!in.has(field)) in.fail("prompt", "is missing: it must be a string");
  const std::string text = in.string(field, "");
  const bool special =
      llama ? in.boolean("add_special", false) : in.boolean("add_special_tokens", true);
  const bool parse = llama && in.boolean("parse_special", true);
  if (in.error().has_value()) return *in.error();
  Result<std::vector<int32_t>> ids =
      tokenizer_.encode(text, {.add_special = special, .parse_special = parse});
  if (!ids.ok()) return api_error(400, "invalid_value", ids.status().message(), field);
  return ids.take();
}

HttpResponse Gateway::tokenize(const HttpRequest& request) const {
  const auto body = parse_body(request.body);
  if (const auto* error = std::get_if<ApiError>(&body)) return error_response(*error);
  const JsonObject& object = std::get<JsonObject>(body);
  FieldReader in(object, "");
  const std::string model = in.string("model", "");
  const bool texts = in.boolean("return_token_strs", false);
  if (in.error().has_value()) return error_response(*in.error());
  if (const std::optional<ApiError> error = wrong_model(model)) return error_response(*error);
  const auto tokens = in.has("messages") ? chat_tokens(object) : text_tokens(in);
  if (const auto* error = std::get_if<ApiError>(&tokens)) return error_response(*error);
  const auto& ids = std::get<std::vector<int32_t>>(tokens);
  JsonObject answer;
  answer["count"] = ids.size();
  answer["max_model_len"] = context_tokens();
  answer["tokens"] = JsonArray(ids.begin(), ids.end());
  answer["token_strs"] = nullptr;
  if (texts) {
    const TokenWriter writer(tokenizer_, false);
    JsonArray strings;
    for (const int32_t id : ids) strings.emplace_back(writer.text(id));
    answer["token_strs"] = std::move(strings);
  }
  return json_response(answer);
}

// vLLM's {"prompt": text}, llama-server's {"content": text}.
HttpResponse Gateway::detokenize(const HttpRequest& request) const {
  const auto body = parse_body(request.body);
  if (const auto* error = std::get_if<ApiError>(&body)) return error_response(*error);
  FieldReader in(std::get<JsonObject>(body), "");
  constexpr size_t kTokensMax = size_t{1} << 24;
  if (!in.has("tokens")) in.fail("tokens", "is missing: it must be a list of token ids");
  const std::vector<int32_t> ids = in.tokens("tokens", kTokensMax);
  const std::string model = in.string("model", "");
  if (in.error().has_value()) return error_response(*in.error());
  if (const std::optional<ApiError> error = wrong_model(model)) return error_response(*error);
  const std::string text = tokenizer_.decode(ids, /*skip_special=*/false);
  JsonObject answer;
  answer["prompt"] = text;
  answer["content"] = text;
  return json_response(answer);
}

HttpResponse Gateway::tokenizer_info(const HttpRequest&) const {
  JsonObject info;
  const auto token = [](const std::string& t) { return t.empty() ? Json(nullptr) : Json(t); };
  info["tokenizer_class"] = "trireme";
  info["vocab_size"] = tokenizer_.vocab_size();
  info["bos_token"] = token(options_.bos_token);
  info["eos_token"] = token(options_.eos_token);
  info["pad_token"] = nullptr;
  info["chat_template"] = chat_.source();
  info["model_max_length"] = context_tokens();
  return json_response(info);
}

HttpResponse Gateway::openapi(const HttpRequest&) const {
  HttpResponse response;
  response.body = openapi_;
  return response;
}

HttpResponse Gateway::reset_prefix_cache(const HttpRequest&) const {
  if (const std::optional<ApiError> error = unready()) return error_response(*error);
  EngineClient* const engine = engine_;
  engine->reset_prefix_cache();
  return one_member("status", "ok");
}

}  // namespace trireme

// The endpoints beside the two that generate: models, health, metrics, the tokenizer.
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "runtime/gateway/field_reader.h"
#include "runtime/gateway/gateway.h"
#include "runtime/gateway/logprobs.h"

namespace trireme {

namespace asio = boost::asio;

namespace {

asio::awaitable<void> send_json(HttpExchange& exchange, JsonObject object) {
  HttpResponse response;
  response.body = boost::json::serialize(object);
  (void)(co_await exchange.send(std::move(response))).ok();
}

// (gcc 12 does not keep the initializer list of an object across a co_await.)
JsonObject one_member(std::string_view key, std::string_view value) {
  JsonObject object;
  object[key] = value;
  return object;
}

asio::awaitable<void> send_error(HttpExchange& exchange, ApiError error) {
  (void)(co_await exchange.send(error_response(error))).ok();
}

// What a ping of the engine brings back to a coroutine, whoever comes first.
struct Pong {
  explicit Pong(const asio::any_io_executor& executor) : timer(executor) {}
  asio::steady_timer timer;
  bool answered = false;
  Status status;
};

}  // namespace

asio::awaitable<void> Gateway::models(HttpExchange& exchange) {
  JsonArray list;
  for (const std::string& name : options_.model_names) list.emplace_back(model_object(name));
  JsonObject answer;
  answer["object"] = "list";
  answer["data"] = std::move(list);
  co_await send_json(exchange, std::move(answer));
}

asio::awaitable<void> Gateway::model(HttpExchange& exchange) {
  const std::string& path = exchange.request().path;
  const std::string name = path.substr(path.find("/models/") + 8);
  if (std::optional<ApiError> error = wrong_model(name.empty() ? "/" : name)) {
    co_await send_error(exchange, *error);
  } else {
    co_await send_json(exchange, model_object(name));
  }
}

// The engine itself has to answer: its loop comes by between two steps, and an idle one asks all
// ranks.
asio::awaitable<void> Gateway::health(HttpExchange& exchange) {
  if (std::optional<ApiError> error = unready()) {
    co_await send_error(exchange, *error);
    co_return;
  }
  auto pong = std::make_shared<Pong>(exchange.executor());
  pong->timer.expires_after(options_.health_timeout);
  const asio::any_io_executor strand = exchange.executor();
  EngineClient* const engine = engine_;
  engine->ping([pong, strand](const Status& status) {
    asio::post(strand, [pong, status] {
      pong->answered = true;
      pong->status = status;
      pong->timer.cancel();
    });
  });
  boost::system::error_code cancelled;
  while (!pong->answered && !cancelled)
    co_await pong->timer.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
  if (!pong->answered) {
    co_await send_error(exchange, api_error(503, "engine_error",
                                            fmt::format("the engine has not answered for {} ms",
                                                        options_.health_timeout.count())));
  } else if (!pong->status.ok()) {
    co_await send_error(exchange, api_error(503, "engine_error", pong->status.message()));
  } else {
    co_await send_json(exchange, one_member("status", "ok"));
  }
}

asio::awaitable<void> Gateway::version(HttpExchange& exchange) {
  co_await send_json(exchange, one_member("version", options_.version));
}

asio::awaitable<void> Gateway::metrics_page(HttpExchange& exchange) {
  HttpResponse response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  const EngineClient* engine = engine_;
  response.body =
      engine == nullptr ? metrics_.text({}, {}) : metrics_.text(engine->stats(), engine->info());
  (void)(co_await exchange.send(std::move(response))).ok();
}

// vLLM's {"prompt"} or {"messages"}, llama-server's {"content"}.
asio::awaitable<void> Gateway::tokenize(HttpExchange& exchange) {
  Result<Json> body = parse_json(exchange.request().body);
  if (!body.ok() || !body->is_object()) {
    co_await send_error(
        exchange, api_error(400, "invalid_json",
                            body.ok() ? "the body is not an object" : body.status().message()));
    co_return;
  }
  const JsonObject& object = body->as_object();
  FieldReader in(object, "");
  const std::string model = in.string("model", "");
  const bool llama = in.has("content") && !in.has("prompt");
  const bool chat = in.has("messages");
  Result<std::vector<int32_t>> ids = invalid_argument("no prompt");
  if (chat) {
    ParsedCall parsed = parse_chat_call(object, options_.defaults, options_.limits);
    if (const auto* error = std::get_if<ApiError>(&parsed)) {
      co_await send_error(exchange, *error);
      co_return;
    }
    const ApiCall& call = std::get<ApiCall>(parsed);
    ids = chat_.encode({&call.messages, &call.tools, &call.chat_template_kwargs,
                        call.add_generation_prompt, call.continue_final_message,
                        call.add_special_tokens});
  } else {
    const char* field = llama ? "content" : "prompt";
    if (!in.has(field)) in.fail("prompt", "is missing: it must be a string");
    const std::string text = in.string(field, "");
    const bool special =
        llama ? in.boolean("add_special", false) : in.boolean("add_special_tokens", true);
    const bool parse = llama && in.boolean("parse_special", true);
    ids = tokenizer_.encode(text, {.add_special = special, .parse_special = parse});
  }
  if (in.error().has_value()) {
    co_await send_error(exchange, *in.error());
  } else if (std::optional<ApiError> error = wrong_model(model)) {
    co_await send_error(exchange, *error);
  } else if (!ids.ok()) {
    co_await send_error(exchange, api_error(400, "invalid_value", ids.status().message(),
                                            chat ? "messages" : "prompt"));
  } else {
    JsonObject answer;
    const EngineClient* engine = engine_;
    answer["count"] = ids->size();
    answer["max_model_len"] = engine == nullptr ? Json(nullptr) : Json(engine->info().tokens_max);
    answer["tokens"] = JsonArray(ids->begin(), ids->end());
    if (in.boolean("return_token_strs", false)) {
      const TokenWriter writer(tokenizer_, false);
      JsonArray texts;
      for (const int32_t id : *ids) texts.emplace_back(writer.text(id));
      answer["token_strs"] = std::move(texts);
    } else {
      answer["token_strs"] = nullptr;
    }
    co_await send_json(exchange, std::move(answer));
  }
}

// vLLM's {"prompt": text}, llama-server's {"content": text}.
asio::awaitable<void> Gateway::detokenize(HttpExchange& exchange) {
  Result<Json> body = parse_json(exchange.request().body);
  if (!body.ok() || !body->is_object()) {
    co_await send_error(
        exchange, api_error(400, "invalid_json",
                            body.ok() ? "the body is not an object" : body.status().message()));
    co_return;
  }
  FieldReader in(body->as_object(), "");
  constexpr size_t kTokensMax = size_t{1} << 24;
  if (!in.has("tokens")) in.fail("tokens", "is missing: it must be a list of token ids");
  const std::vector<int32_t> ids = in.tokens("tokens", kTokensMax);
  const std::optional<ApiError> wrong = wrong_model(in.string("model", ""));
  if (in.error().has_value()) {
    co_await send_error(exchange, *in.error());
  } else if (wrong.has_value()) {
    co_await send_error(exchange, *wrong);
  } else {
    const std::string text = tokenizer_.decode(ids, /*skip_special=*/false);
    JsonObject answer = one_member("prompt", text);
    answer["content"] = text;
    co_await send_json(exchange, std::move(answer));
  }
}

asio::awaitable<void> Gateway::tokenizer_info(HttpExchange& exchange) {
  JsonObject info;
  const auto token = [](const std::string& t) { return t.empty() ? Json(nullptr) : Json(t); };
  info["tokenizer_class"] = "trireme";
  info["vocab_size"] = tokenizer_.vocab_size();
  info["bos_token"] = token(options_.bos_token);
  info["eos_token"] = token(options_.eos_token);
  info["pad_token"] = nullptr;
  info["chat_template"] = chat_.source();
  const EngineClient* engine = engine_;
  info["model_max_length"] = engine == nullptr ? Json(nullptr) : Json(engine->info().tokens_max);
  co_await send_json(exchange, std::move(info));
}

asio::awaitable<void> Gateway::openapi(HttpExchange& exchange) {
  HttpResponse response;
  response.body = openapi_;
  (void)(co_await exchange.send(std::move(response))).ok();
}

asio::awaitable<void> Gateway::reset_prefix_cache(HttpExchange& exchange) {
  if (std::optional<ApiError> error = unready()) {
    co_await send_error(exchange, *error);
    co_return;
  }
  EngineClient* const engine = engine_;
  engine->reset_prefix_cache();
  co_await send_json(exchange, one_member("status", "ok"));
}

}  // namespace trireme

#include "runtime/gateway/gateway.h"

#include <random>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "runtime/gateway/openapi.h"

namespace trireme {

namespace asio = boost::asio;

namespace {

int64_t seconds_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::mt19937_64& random_bits() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  return random;
}

std::string event(const JsonObject& object) {
  return "data: " + boost::json::serialize(object) + "\n\n";
}

}  // namespace

Gateway::Gateway(GatewayOptions options, const Tokenizer& tokenizer, const ChatFormatter& chat,
                 GatewayMetrics& metrics)
    : options_(std::move(options)),
      tokenizer_(tokenizer),
      chat_(chat),
      tool_format_(options_.tool_format.has_value() ? options_.tool_format
                                                    : detect_tool_format(chat.tools_source())),
      openapi_(boost::json::serialize(openapi_document(
          {options_.version, options_.model_names, options_.limits, options_.metrics_page}))),
      metrics_(metrics),
      text_pool_(static_cast<size_t>(std::max(options_.text_threads, 1))),
      started_(seconds_now()) {
  CHECK(!options_.model_names.empty());
}

Gateway::~Gateway() { text_pool_.join(); }

HttpHandler Gateway::handler(Handler member) {
  return [this, member](HttpExchange& exchange) { return (this->*member)(exchange); };
}

HttpHandler Gateway::answering(Answer member) {
  return [this, member](HttpExchange& exchange) { return answer(exchange, member); };
}

HttpRoutes Gateway::routes() {
  HttpRoutes routes;
  for (const std::string prefix : {"/v1", ""}) {
    routes.add({"POST", prefix + "/completions", handler(&Gateway::completions), true});
    routes.add({"POST", prefix + "/chat/completions", handler(&Gateway::chat_completions), true});
    routes.add({"GET", prefix + "/models", answering(&Gateway::models)});
    routes.add({"GET", prefix + "/models/*", answering(&Gateway::model)});
  }
  routes.add({"GET", "/health", handler(&Gateway::health)});
  routes.add({"GET", "/version", answering(&Gateway::version)});
  if (options_.metrics_page) routes.add({"GET", "/metrics", answering(&Gateway::metrics_page)});
  routes.add({"POST", "/tokenize", answering(&Gateway::tokenize), true});
  routes.add({"POST", "/detokenize", answering(&Gateway::detokenize), true});
  routes.add({"GET", "/tokenizer_info", answering(&Gateway::tokenizer_info)});
  routes.add({"POST", "/reset_prefix_cache", answering(&Gateway::reset_prefix_cache)});
  routes.add({"GET", "/openapi.json", answering(&Gateway::openapi)});
  return routes;
}

std::optional<ApiError> Gateway::unready() const {
  if (draining_)
    return api_error(503, "draining", "the server is draining: it takes no new requests");
  if (engine_ == nullptr)
    return api_error(503, "loading", "the model is being loaded: try again in a moment");
  return std::nullopt;
}

std::optional<ApiError> Gateway::wrong_model(const std::string& name) const {
  if (name.empty()) return std::nullopt;
  std::string known;
  for (const std::string& served : options_.model_names) {
    if (served == name) return std::nullopt;
    known += (known.empty() ? "" : ", ") + served;
  }
  return api_error(
      404, "model_not_found",
      fmt::format("the model '{}' is not served here: {} is", name.substr(0, 200), known), "model");
}

AnswerHead Gateway::answer_head(const ApiCall& call) const {
  AnswerHead head;
  head.id = call.chat ? "chatcmpl-" : "cmpl-";
  head.id += call.request_id.empty()
                 ? fmt::format("{:016x}{:016x}", random_bits()(), random_bits()())
                 : call.request_id;
  head.created = seconds_now();
  head.model = call.model.empty() ? options_.model_names[0] : call.model;
  head.fingerprint = "trireme-" + options_.version;
  return head;
}

asio::awaitable<void> Gateway::completions(HttpExchange& exchange) {
  return generate(exchange, parse_completion_call);
}

asio::awaitable<void> Gateway::chat_completions(HttpExchange& exchange) {
  return generate(exchange, parse_chat_call);
}

ParsedCall Gateway::read_call(const std::string& body, CallParser parser) const {
  const auto read = parse_body(body);
  if (const auto* error = std::get_if<ApiError>(&read)) return *error;
  return parser(std::get<JsonObject>(read), options_.defaults, options_.limits);
}

// A large body is read where no other exchange waits for it.
asio::awaitable<void> Gateway::generate(HttpExchange& exchange, CallParser parser) {
  const std::string& body = exchange.request().body;
  ParsedCall parsed;
  if (body.size() <= kInlineBytes) {
    parsed = read_call(body, parser);
  } else {
    parsed = co_await asio::co_spawn(
        text_pool_,
        [this, &body, parser]() -> asio::awaitable<ParsedCall> {
          co_return read_call(body, parser);
        },
        asio::use_awaitable);
  }
  co_await serve(exchange, std::move(parsed));
}

asio::awaitable<void> Gateway::serve(HttpExchange& exchange, ParsedCall parsed) {
  std::optional<ApiError> error;
  if (const auto* wrong = std::get_if<ApiError>(&parsed)) {
    error = *wrong;
  } else {
    error = wrong_model(std::get<ApiCall>(parsed).model);
    if (!error.has_value()) error = unready();
  }
  if (error.has_value()) {
    (void)(co_await exchange.send(error_response(*error))).ok();
    co_return;
  }
  ApiCall& call = std::get<ApiCall>(parsed);
  set_tool_format(call, tool_format_);
  if (!call.seeded) call.base.params.seed = random_bits()();
  ApiRun run(
      {*engine_, tokenizer_, chat_, metrics_, text_pool_, options_.request_timeout, constraints_},
      std::move(call), exchange);
  error = co_await run.start();
  if (error.has_value()) {
    (void)(co_await exchange.send(error_response(*error))).ok();
  } else if (run.call().stream) {
    co_await answer_stream(exchange, run);
  } else {
    co_await answer_whole(exchange, run);
  }
}

namespace {

std::unique_ptr<AnswerWriter> make_writer(const ApiRun& run, const AnswerHead& head) {
  return run.call().chat ? make_chat_writer(run, head) : make_completion_writer(run, head);
}

ApiError timeout_error() {
  return api_error(408, "timeout", "the request took longer than the server allows");
}

// The failure of the first choice that failed.
std::optional<ApiError> failure_of(const ApiRun& run) {
  for (size_t i = 0; i < run.choices(); ++i) {
    if (run.text(i).finish_reason() == "error") return api_error_of(run.text(i).failure());
  }
  return std::nullopt;
}

}  // namespace

asio::awaitable<void> Gateway::answer_whole(HttpExchange& exchange, ApiRun& run) {
  const std::unique_ptr<AnswerWriter> writer = make_writer(run, answer_head(run.call()));
  std::vector<ChoiceDelta> deltas;
  while (!run.finished()) {
    if (!co_await run.next(deltas)) {
      if (run.timed_out()) (void)(co_await exchange.send(error_response(timeout_error()))).ok();
      co_return;  // else nobody is there to be answered
    }
    writer->collect(deltas);
  }
  HttpResponse response;
  if (const std::optional<ApiError> failure = failure_of(run)) {
    response = error_response(*failure);
  } else {
    response.body = boost::json::serialize(writer->whole());
  }
  (void)(co_await exchange.send(std::move(response))).ok();
}

// Nothing is sent before the first token, so that until then a failure has a status of its own; and
// all that one step brings goes out in one write.
asio::awaitable<void> Gateway::answer_stream(HttpExchange& exchange, ApiRun& run) {
  const AnswerHead head = answer_head(run.call());
  const std::unique_ptr<AnswerWriter> writer = make_writer(run, head);
  std::vector<ChoiceDelta> deltas;
  bool begun = false;
  for (;;) {
    const bool more = !run.finished();
    std::string piece;
    std::optional<ApiError> failure;
    if (more && !co_await run.next(deltas)) {
      if (!run.timed_out()) co_return;
      failure = timeout_error();
    } else {
      failure = failure_of(run);
      if (!failure.has_value() && more) {
        for (const JsonObject& chunk : writer->chunks(deltas)) piece += event(chunk);
      }
    }
    if (failure.has_value()) run.cancel();  // before the client is told, who may read slowly
    if (failure.has_value() && !begun) {
      (void)(co_await exchange.send(error_response(*failure))).ok();
      co_return;
    }
    const bool last = failure.has_value() || run.finished();
    if (failure.has_value()) {
      piece += event(JsonObject{{"error", error_object(*failure)}});
    } else if (last && run.call().include_usage) {
      piece += event(usage_chunk(run, head));
    }
    if (last) piece += "data: [DONE]\n\n";
    if (!piece.empty()) {
      if (!std::exchange(begun, true)) {
        HttpResponse response;
        response.content_type = "text/event-stream; charset=utf-8";
        exchange.begin_stream(std::move(response));
      }
      if (!(co_await exchange.write(piece)).ok()) co_return;
    }
    if (last) break;
  }
  (void)(co_await exchange.end_stream()).ok();
}

}  // namespace trireme

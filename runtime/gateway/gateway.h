// The OpenAI-compatible API over an engine: the routes that an HttpServer serves, and their
// handlers.
//
// Made before the model is loaded, so that /health can say so; set_engine() makes it serve.
// Handlers run on the server's threads.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/thread_pool.hpp>

#include "runtime/gateway/answer.h"
#include "runtime/gateway/api_run.h"
#include "runtime/gateway/http/routes.h"

namespace trireme {

class FieldReader;

struct GatewayOptions {
  std::vector<std::string> model_names;  // served under these; the first in answers
  std::string model_root;                // the path that it was loaded from
  std::string version;
  SamplingParams defaults;  // of requests that do not say; ranges checked
  ApiLimits limits;
  std::chrono::milliseconds request_timeout{0};  // of one call; 0: none
  std::chrono::milliseconds health_timeout{5000};
  std::string bos_token, eos_token;  // for /tokenizer_info
  int text_threads = 1;
  bool metrics_page = true;               // whether there is a /metrics
  std::optional<ToolFormat> tool_format;  // none: what the chat template tells
};

class Gateway {
 public:
  // `tokenizer`, `chat`, `metrics` outlive it.
  Gateway(GatewayOptions options, const Tokenizer& tokenizer, const ChatFormatter& chat,
          GatewayMetrics& metrics);
  ~Gateway();
  Gateway(const Gateway&) = delete;

  // The engine is there, and outlives the gateway's server; so does what compiles its constraints.
  // With it a bad schema is found, and a big one compiled, where no other exchange waits for it.
  void set_engine(EngineClient& engine, ConstraintCompiler* constraints = nullptr) {
    constraints_ = constraints;
    engine_ = &engine;
  }
  // From now on requests are refused with 503 and /health says why.
  void set_draining() { draining_ = true; }

  // For an HttpServer that ends before this gateway.
  HttpRoutes routes();

 private:
  using Handler = boost::asio::awaitable<void> (Gateway::*)(HttpExchange&);
  using Answer = HttpResponse (Gateway::*)(const HttpRequest&) const;
  HttpHandler handler(Handler member);
  HttpHandler answering(Answer member);
  // Sends what `member` says; a long body is read on the text pool.
  boost::asio::awaitable<void> answer(HttpExchange& exchange, Answer member);

  boost::asio::awaitable<void> completions(HttpExchange& exchange);
  boost::asio::awaitable<void> chat_completions(HttpExchange& exchange);
  boost::asio::awaitable<void> health(HttpExchange& exchange);
  HttpResponse models(const HttpRequest& request) const;
  HttpResponse model(const HttpRequest& request) const;
  HttpResponse version(const HttpRequest& request) const;
  HttpResponse metrics_page(const HttpRequest& request) const;
  HttpResponse tokenize(const HttpRequest& request) const;
  HttpResponse detokenize(const HttpRequest& request) const;
  HttpResponse tokenizer_info(const HttpRequest& request) const;
  HttpResponse reset_prefix_cache(const HttpRequest& request) const;
  HttpResponse openapi(const HttpRequest& request) const;

  using CallParser = ParsedCall (*)(const JsonObject&, const SamplingParams&, const ApiLimits&);
  boost::asio::awaitable<void> generate(HttpExchange& exchange, CallParser parser);
  ParsedCall read_call(const std::string& body, CallParser parser) const;
  boost::asio::awaitable<void> serve(HttpExchange& exchange, ParsedCall parsed);
  boost::asio::awaitable<void> answer_whole(HttpExchange& exchange, ApiRun& run);
  boost::asio::awaitable<void> answer_stream(HttpExchange& exchange, ApiRun& run);
  AnswerHead answer_head(const ApiCall& call) const;
  // Why nothing can be served now.
  std::optional<ApiError> unready() const;
  std::optional<ApiError> wrong_model(const std::string& name) const;
  JsonObject model_object(const std::string& name) const;
  std::variant<std::vector<int32_t>, ApiError> chat_tokens(const JsonObject& body) const;
  std::variant<std::vector<int32_t>, ApiError> text_tokens(FieldReader& in) const;
  Json context_tokens() const;  // null before there is an engine

  const GatewayOptions options_;
  const Tokenizer& tokenizer_;
  const ChatFormatter& chat_;
  const std::optional<ToolFormat> tool_format_;
  const std::string openapi_;  // the document's text
  GatewayMetrics& metrics_;
  std::atomic<ConstraintCompiler*> constraints_ = nullptr;  // set before engine_
  std::atomic<EngineClient*> engine_ = nullptr;
  std::atomic<bool> draining_ = false;
  boost::asio::thread_pool text_pool_;
  const int64_t started_;  // seconds since 1970
};

}  // namespace trireme

// A whole server in this process: engine, gateway and HTTP on a free port, over a demo model.
#pragma once

#include <memory>

#include "runtime/chat/chat_template.h"
#include "runtime/gateway/gateway.h"
#include "runtime/gateway/http/auth.h"
#include "runtime/gateway/http/server.h"
#include "runtime/grammar/grammar_compiler.h"
#include "tests/support/engine_harness.h"
#include "tests/support/http_client.h"

namespace trireme::test {

struct GatewayHarnessOptions {
  std::string model = "gqa";  // of configs/models
  EngineHarnessOptions engine;
  HttpServerOptions http;
  GatewayOptions gateway;
  std::vector<std::string> api_keys;
  std::string chat_template = kPlainChatTemplate;
  bool engine_at_once = true;  // else start_engine()
};

GatewayHarnessOptions gateway_harness();

class GatewayHarness {
 public:
  explicit GatewayHarness(GatewayHarnessOptions options);
  ~GatewayHarness();

  uint16_t port() const { return server_->port(); }
  Engine& engine() { return engine_->engine(); }
  EngineHarness& worker() { return *engine_; }
  Gateway& gateway() { return *gateway_; }
  HttpServer& server() { return *server_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  void start_engine();

  HttpReply post(std::string_view path, std::string_view body) {
    return http(port(), "POST", path, body);
  }
  HttpReply get(std::string_view path) { return http(port(), "GET", path); }

 private:
  GatewayHarnessOptions options_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> chat_;
  std::unique_ptr<GrammarCompiler> grammars_;
  std::unique_ptr<GatewayMetrics> metrics_;
  std::unique_ptr<Gateway> gateway_;
  ApiKeys keys_;
  std::unique_ptr<EngineHarness> engine_;
  std::unique_ptr<HttpServer> server_;
};

}  // namespace trireme::test

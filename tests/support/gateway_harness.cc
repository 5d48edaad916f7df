#include "tests/support/gateway_harness.h"

namespace trireme::test {

GatewayHarnessOptions gateway_harness() {
  GatewayHarnessOptions o;
  o.engine.ranks.rows_max = 256;
  o.engine.ranks.tokens_max = 512;
  o.engine.ranks.block_tokens = 16;
  o.engine.ranks.sequences_max = 32;
  o.engine.ranks.cache_bytes = uint64_t{64} << 20;
  o.engine.ranks.prefixes = {true, 8};
  o.engine.engine.budget.tokens_max = 256;
  o.engine.engine.budget.sequences_max = 32;
  o.engine.engine.budget.prefill_chunk_max = 128;
  o.http.port = 0;
  o.gateway.version = "test";
  o.gateway.model_names = {"demo", "alias"};
  o.gateway.model_root = "configs/models/gqa";
  return o;
}

GatewayHarness::GatewayHarness(GatewayHarnessOptions options) : options_(std::move(options)) {
  const std::string path = TRIREME_SOURCE_DIR "/configs/models/" + options_.model;
  options_.engine.path = path;
  Result<std::unique_ptr<Tokenizer>> tokenizer = load_tokenizer(path);
  CHECK(tokenizer.ok()) << tokenizer.status().message();
  tokenizer_ = tokenizer.take();
  Result<std::unique_ptr<ChatTemplate>> chat =
      ChatTemplate::make({options_.chat_template, {}, "", ""}, *tokenizer_, [] { return 0; });
  CHECK(chat.ok()) << chat.status().message();
  chat_ = chat.take();
  metrics_ = std::make_unique<GatewayMetrics>(GatewayMetricsOptions{"demo", true, true});
  gateway_ = std::make_unique<Gateway>(options_.gateway, *tokenizer_, *chat_, *metrics_);
  keys_ = ApiKeys(options_.api_keys);
  server_ = std::make_unique<HttpServer>(
      options_.http, gateway_->routes(),
      [this](const HttpRequest& request, HttpResponse& refusal) {
        return keys_.admits(request, refusal);
      },
      [this](const HttpRequest&, std::string_view route, int status, std::chrono::nanoseconds) {
        metrics_->answered(route, status);
      });
  const Status started = server_->start();
  CHECK(started.ok()) << started.message();
  if (options_.engine_at_once) start_engine();
}

void GatewayHarness::start_engine() {
  Result<ModelSpec> spec = read_model_spec(options_.engine.path, nullptr);
  CHECK(spec.ok()) << spec.status().message();
  options_.engine.engine.eos_token_ids = spec->eos_token_ids;
  grammars_ = std::make_unique<GrammarCompiler>(*tokenizer_, spec->eos_token_ids,
                                                static_cast<int32_t>(spec->vocab));
  options_.engine.compiler = grammars_.get();
  engine_ = std::make_unique<EngineHarness>(options_.engine);
  gateway_->set_engine(engine_->engine(), grammars_.get());
}

GatewayHarness::~GatewayHarness() {
  if (engine_ != nullptr) (void)engine_->stop().ok();
  server_->stop(std::chrono::seconds(1));
}

}  // namespace trireme::test

// Any bytes as the body of a request: answered with one error that says what is wrong, or taken,
// and then what the engine is asked is in range. The first byte of the input chooses the endpoint.
//
//   build/fuzz/tests/runtime/gateway/openai_request_fuzz NEW_INPUTS seeds/openai_request
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "tests/support/scripted_gateway.h"

namespace {

using namespace trireme;
using namespace trireme::test;

constexpr uint32_t kChoicesMax = 4, kPromptsMax = 16, kContext = 256;

// What the gateway leaves to the engine to check.
bool engines_matter(const Status& status) {
  constexpr std::array<std::string_view, 5> kFields = {"logit_bias", "stop", "stop_token_ids",
                                                       "allowed_token_ids", "bad_words"};
  const std::string_view first =
      std::string_view(status.message()).substr(0, status.message().find(' '));
  return std::find(kFields.begin(), kFields.end(), first) != kFields.end();
}

Script write(const Request& request, int32_t vocab) {
  CHECK(!request.prompt.empty() && request.prompt.size() <= kContext);
  CHECK(request.choices >= 1 && request.choices <= kChoicesMax);
  CHECK(!request.score_only || request.choices == 1);
  CHECK(request.prompt_logprobs >= -1 && request.prompt_logprobs <= kLogprobsMax);
  const SamplingParams& p = request.params;
  CHECK(request.score_only || request.prompt.size() + p.max_tokens <= kContext);
  CHECK(p.min_tokens <= p.max_tokens);
  const Status valid = validate(p, vocab);
  CHECK(valid.ok() || engines_matter(valid)) << valid.message();
  if (!valid.ok()) return {valid, {}};
  for (const int32_t id : request.prompt) {
    CHECK(id >= 0);
    if (id >= vocab) return {invalid_argument("the prompt has an unknown token"), {}};
  }
  Script script;
  script.steps.resize(1);
  for (uint32_t c = 0; c < request.choices; ++c) {
    if (!request.score_only) script.steps[0].push_back(token_event(c, 65));
    script.steps[0].push_back(finished_event(c, FinishReason::kLength));
  }
  return script;
}

std::unique_ptr<ScriptedGateway> make_gateway() {
  ScriptedGatewayOptions options;
  options.gateway.limits = {.choices_max = kChoicesMax, .prompts_max = kPromptsMax};
  options.gateway.tool_format = ToolFormat::kHermes;
  auto gateway = std::make_unique<ScriptedGateway>(options);
  ScriptedEngine& engine = gateway->engine();
  engine.information.tokens_max = kContext;
  engine.write = [vocab = engine.information.vocab](const Request& request) {
    return write(request, vocab);
  };
  return gateway;
}

void check_error(const FakeExchange& exchange) {
  CHECK(exchange.status() == 400 || exchange.status() == 404) << exchange.status();
  const Result<Json> body = parse_json(exchange.body());
  CHECK(body.ok()) << exchange.body();
  const Json& error = body->at("error");
  CHECK(error.at("message").as_string().size() > 8) << exchange.body();
  CHECK(error.at("param").is_null() || !error.at("param").as_string().empty());
  CHECK(!error.at("code").as_string().empty() && !error.at("type").as_string().empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::unique_ptr<ScriptedGateway> gateway = make_gateway();
  if (size == 0) return 0;
  constexpr std::array<const char*, 4> kPaths = {"/v1/chat/completions", "/v1/completions",
                                                 "/tokenize", "/detokenize"};
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  const FakeExchange& exchange = gateway->ask(kPaths[data[0] % kPaths.size()], body);
  gateway->until([&] { return exchange.returned() || gateway->engine().open_choices() > 0; });
  gateway->drive();
  gateway->wait();
  CHECK(exchange.complete());
  if (exchange.status() != 200) check_error(exchange);
  CHECK(gateway->engine().open_choices() == 0);
  gateway->engine().submitted.clear();
  gateway->engine().cancelled.clear();
  gateway->engine().stopped.clear();
  gateway->forget();
  return 0;
}

#include "tests/support/scripted_gateway.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace trireme::test {

namespace asio = boost::asio;

void FakeExchange::leave() {
  left_ = true;
  if (gone_) std::exchange(gone_, {})();
}

std::string FakeExchange::body() const {
  if (!streams_) return head_.body;
  std::string all;
  for (const std::string& piece : pieces_) all += piece;
  return all;
}

Status FakeExchange::taken() const {
  if (left_) return unavailable("the client has gone");
  if (stalled_) return Status(StatusCode::kDeadlineExceeded, "the client does not read");
  return {};
}

asio::awaitable<Status> FakeExchange::send(HttpResponse response) {
  CHECK(!answered_) << "two answers to one request";
  answered_ = true;
  co_await asio::post(executor_, asio::use_awaitable);
  const Status status = taken();
  if (status.ok()) head_ = std::move(response);
  complete_ = status.ok();
  co_return status;
}

void FakeExchange::begin_stream(HttpResponse head) {
  CHECK(!answered_) << "two answers to one request";
  answered_ = streams_ = true;
  head_ = std::move(head);
}

asio::awaitable<Status> FakeExchange::write(std::string_view piece) {
  CHECK(streams_ && !complete_);
  co_await asio::post(executor_, asio::use_awaitable);
  const Status status = taken();
  if (status.ok()) pieces_.emplace_back(piece);
  co_return status;
}

asio::awaitable<Status> FakeExchange::end_stream() {
  CHECK(streams_ && !complete_);
  const Status status = taken();
  complete_ = status.ok();
  co_return status;
}

ScriptedGateway::ScriptedGateway(ScriptedGatewayOptions options) {
  Result<std::unique_ptr<Tokenizer>> tokenizer =
      load_tokenizer(TRIREME_SOURCE_DIR "/configs/models/gqa");
  CHECK(tokenizer.ok()) << tokenizer.status().message();
  tokenizer_ = tokenizer.take();
  Result<std::unique_ptr<ChatTemplate>> chat =
      ChatTemplate::make({options.chat_template, {}, "", ""}, *tokenizer_, [] { return 0; });
  CHECK(chat.ok()) << chat.status().message();
  chat_ = chat.take();
  metrics_ = std::make_unique<GatewayMetrics>(GatewayMetricsOptions{"demo", true, false});
  if (options.gateway.model_names.empty()) options.gateway.model_names = {"demo"};
  options.gateway.version = "test";
  gateway_ = std::make_unique<Gateway>(options.gateway, *tokenizer_, *chat_, *metrics_);
  engine_.information.vocab = static_cast<int32_t>(tokenizer_->vocab_size());
  engine_.information.tokens_max = 512;
  gateway_->set_engine(engine_);
  routes_ = gateway_->routes();
}

ScriptedGateway::~ScriptedGateway() {
  for (const auto& exchange : exchanges_) exchange->leave();
  poll();
  for (const auto& exchange : exchanges_)
    CHECK(exchange->returned()) << "a handler waits for a client that has left";
  engine_.clear();
}

std::vector<int32_t> ScriptedGateway::tokens(std::string_view text) const {
  Result<std::vector<int32_t>> ids = tokenizer_->encode(text, {.add_special = false});
  CHECK(ids.ok()) << ids.status().message();
  return ids.take();
}

FakeExchange& ScriptedGateway::ask(std::string_view path, std::string_view body,
                                   std::string_view method) {
  HttpRequest request;
  request.method = method;
  request.path = path;
  request.headers = {{"content-type", "application/json"}};
  request.body = body;
  request.request_id = "test";
  HttpResponse refusal;
  const HttpRoute* route = routes_.find(request, refusal);
  CHECK(route != nullptr) << refusal.body;
  FakeExchange& exchange = *exchanges_.emplace_back(
      std::make_unique<FakeExchange>(io_.get_executor(), std::move(request)));
  asio::co_spawn(io_, route->handler(exchange), [&exchange](const std::exception_ptr& thrown) {
    if (thrown) std::rethrow_exception(thrown);
    exchange.handler_returned();
  });
  poll();
  return exchange;
}

void ScriptedGateway::poll() {
  io_.restart();
  io_.poll();
}

bool ScriptedGateway::step() {
  const bool any = engine_.step();
  poll();
  return any;
}

void ScriptedGateway::drive() {
  while (step()) {
  }
}

void ScriptedGateway::until(const std::function<bool()>& holds) {
  io_.restart();
  while (!holds()) CHECK(io_.run_one_for(std::chrono::seconds(60)) > 0) << "a handler hangs";
  poll();
}

void ScriptedGateway::wait() {
  until([this] {
    return std::all_of(exchanges_.begin(), exchanges_.end(),
                       [](const auto& exchange) { return exchange->returned(); });
  });
}

void ScriptedGateway::forget() {
  std::erase_if(exchanges_, [](const auto& exchange) { return exchange->returned(); });
}

std::map<std::string, int> ScriptedGateway::ends() const {
  constexpr std::string_view kLabel = "finished_reason=\"";
  std::map<std::string, int> ends;
  std::istringstream page(metrics_->text({}, {}));
  for (std::string line; std::getline(page, line);) {
    const size_t at = line.find(kLabel);
    if (!line.starts_with("vllm:request_success_total{") || at == std::string::npos) continue;
    const size_t begin = at + kLabel.size();
    ends[line.substr(begin, line.find('"', begin) - begin)] =
        std::stoi(line.substr(line.rfind(' ') + 1));
  }
  return ends;
}

double ScriptedGateway::metric(const std::string& name) const {
  std::istringstream page(metrics_->text({}, {}));
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with(name + "{")) return std::stod(line.substr(line.rfind(' ') + 1));
  }
  return std::nan("");
}

}  // namespace trireme::test

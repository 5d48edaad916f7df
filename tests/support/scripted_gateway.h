// A gateway over a ScriptedEngine, and exchanges without sockets: what a handler does with each
// event, byte for byte and in a known order. All of it on the test's own thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "runtime/chat/chat_template.h"
#include "runtime/gateway/gateway.h"
#include "tests/support/scripted_engine.h"

namespace trireme::test {

// A client that keeps what it is sent. Other handlers run while it is written to.
class FakeExchange final : public HttpExchange {
 public:
  FakeExchange(boost::asio::any_io_executor executor, HttpRequest request)
      : executor_(std::move(executor)), request_(std::move(request)) {}

  // The client closes its connection.
  void leave();
  // From now on it does not read: a write ends by its time-out.
  void stall() { stalled_ = true; }
  // The handler has returned: nobody is called any more.
  void handler_returned() {
    returned_ = true;
    gone_ = {};
  }

  bool returned() const { return returned_; }
  bool answered() const { return answered_; }
  // The whole answer has been taken.
  bool complete() const { return complete_; }
  int status() const { return head_.status; }
  const HttpResponse& head() const { return head_; }
  std::string body() const;
  const std::vector<std::string>& pieces() const { return pieces_; }  // of a stream

  const HttpRequest& request() const override { return request_; }
  boost::asio::any_io_executor executor() const override { return executor_; }
  boost::asio::awaitable<Status> send(HttpResponse response) override;
  void begin_stream(HttpResponse head) override;
  boost::asio::awaitable<Status> write(std::string_view piece) override;
  boost::asio::awaitable<Status> end_stream() override;
  void on_client_gone(std::function<void()> gone) override { gone_ = std::move(gone); }

 private:
  Status taken() const;  // whether the client takes what is sent

  const boost::asio::any_io_executor executor_;
  const HttpRequest request_;
  HttpResponse head_;
  std::vector<std::string> pieces_;
  std::function<void()> gone_;
  bool answered_ = false, streams_ = false, complete_ = false, returned_ = false;
  bool left_ = false, stalled_ = false;
};

struct ScriptedGatewayOptions {
  GatewayOptions gateway;  // model_names: "demo" where there are none
  std::string chat_template = kPlainChatTemplate;
};

class ScriptedGateway {
 public:
  explicit ScriptedGateway(ScriptedGatewayOptions options = {});
  // CHECKs that every handler returns once its client has left.
  ~ScriptedGateway();
  ScriptedGateway(const ScriptedGateway&) = delete;

  ScriptedEngine& engine() { return engine_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  std::vector<int32_t> tokens(std::string_view text) const;

  // Begins an exchange and runs its handler until that waits.
  FakeExchange& ask(std::string_view path, std::string_view body, std::string_view method = "POST");
  // Runs the handlers until all of them wait.
  void poll();
  // One step of the engine, and what it brings about. False: no request had one.
  bool step();
  // All steps.
  void drive();
  // Runs the handlers until `holds` does, what they do on other threads and time-outs included.
  void until(const std::function<bool()>& holds);
  // Until all of them have returned.
  void wait();
  // Forgets the exchanges whose handlers have returned.
  void forget();

  // Choices that have ended, by reason, as /metrics tells.
  std::map<std::string, int> ends() const;
  // A sample of /metrics whose name is this, labels aside.
  double metric(const std::string& name) const;

 private:
  boost::asio::io_context io_;
  ScriptedEngine engine_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> chat_;
  std::unique_ptr<GatewayMetrics> metrics_;
  std::unique_ptr<Gateway> gateway_;
  HttpRoutes routes_;
  std::vector<std::unique_ptr<FakeExchange>> exchanges_;
};

}  // namespace trireme::test

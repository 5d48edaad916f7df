// An exchange over a socket: one request of a connection, and its answer as HTTP/1. On the
// connection's strand.
#pragma once

#include <memory>
#include <optional>

#include "runtime/gateway/http/core.h"

namespace trireme {

class SocketExchange final : public HttpExchange {
 public:
  // `version`: 10 or 11. `core` and `stream` outlive it.
  SocketExchange(HttpServer::Core& core, HttpStream& stream, HttpRequest request, unsigned version,
                 bool keep_alive);
  ~SocketExchange() override;

  const HttpRequest& request() const override { return request_; }
  boost::asio::any_io_executor executor() const override { return stream_.get_executor(); }
  boost::asio::awaitable<Status> send(HttpResponse response) override;
  void begin_stream(HttpResponse head) override;
  boost::asio::awaitable<Status> write(std::string_view piece) override;
  boost::asio::awaitable<Status> end_stream() override;
  void on_client_gone(std::function<void()> gone) override;

  bool answered() const { return answered_; }
  bool complete() const { return complete_; }
  bool keep_alive() const { return keep_alive_ && complete_; }
  int status() const { return status_; }
  // The client has left without an answer: 499, as nginx has it.
  bool give_up_if_left();
  // The handler has returned: nobody is called any more.
  void stop_watching();

 private:
  struct Watch;
  void watch();
  void look();
  void tell_gone();

  std::string head_of(const HttpResponse& response, std::optional<size_t> length);
  void add_cors(std::string& head) const;
  boost::asio::awaitable<Status> write_all(std::string bytes);

  HttpServer::Core& core_;
  HttpStream& stream_;
  const HttpRequest request_;
  const unsigned version_;
  bool keep_alive_;
  bool answered_ = false, complete_ = false, chunked_ = false, left_ = false;
  int status_ = 0;
  std::string pending_;  // the head of a stream, until its first piece
  std::function<void()> gone_;
  std::shared_ptr<Watch> watch_;
};

}  // namespace trireme

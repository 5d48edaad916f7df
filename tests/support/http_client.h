// A plain HTTP client for tests: blocking sockets, so that a test sees every byte and decides when
// to read, when to wait and when to go away.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace trireme::test {

struct HttpReply {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // chunks put together
  std::vector<std::string> chunks;             // where it came in chunks
};

class HttpConnection {
 public:
  explicit HttpConnection(uint16_t port);
  ~HttpConnection() { close(); }
  HttpConnection(const HttpConnection&) = delete;

  void send(std::string_view bytes);
  // A request with a body, or without one where it is empty.
  void request(std::string_view method, std::string_view path, std::string_view body = "",
               const std::vector<std::string>& headers = {});
  // The next reply; status 0 where the connection ended before it did. `head`: it has no body.
  HttpReply reply(bool head = false);
  // Bytes until the connection ends, or `enough` is among them.
  std::string read_until(std::string_view enough);
  void close();
  void small_receive_buffer();

 private:
  bool fill();  // false at the end of the connection
  std::string line();
  std::string take(size_t bytes);
  int socket_ = -1;
  std::string buffer_;
};

// One request on a connection of its own.
HttpReply http(uint16_t port, std::string_view method, std::string_view path,
               std::string_view body = "", const std::vector<std::string>& headers = {});

// The data of each event of a text/event-stream.
std::vector<std::string> sse_events(std::string_view body);

}  // namespace trireme::test

// HTTP to a server for who waits: one request, and the thread is blocked until its answer is there.
// (Without Asio's headers; http_client.h has coroutines.) Any thread.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>

#include "kernels/base/status.h"
#include "launcher/client/server_url.h"

namespace trireme {

struct HttpOptions {
  std::string api_key;  // "" = none: sent as a bearer token
  std::chrono::milliseconds connect_timeout{10'000};
  std::chrono::milliseconds idle_timeout{600'000};  // the longest silence that is waited for
  size_t body_bytes_max = size_t{256} << 20;        // of an answer that is no stream
};

struct HttpAnswer {
  int status = 0;
  bool streamed = false;  // it was text/event-stream and went to on_event
  std::string body;       // where it was not
};

struct StreamOptions {
  std::function<bool(std::string_view data)> on_event;  // false: drop the connection (kCancelled)
  bool drop_after_send = false;                         // drop it before anything is read
  std::chrono::milliseconds read_pause{0};              // after each read: a slow reader
};

// One request on a connection of its own, and the calling thread waits for it. With
// `stop_on_interrupt` a SIGINT ends it with kCancelled instead of ending the process.
Result<HttpAnswer> fetch(const ServerUrl& url, const HttpOptions& options, std::string method,
                         std::string path, std::string body = "", StreamOptions stream = {},
                         bool stop_on_interrupt = false);

// The value of OPENAI_API_KEY where `given` is empty, else `given`.
std::string api_key_or_environment(const std::string& given);

// The sentence in an error's body ({"error": {"message"}}), or a piece of the body.
std::string error_message(const HttpAnswer& answer);

}  // namespace trireme

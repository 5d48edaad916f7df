// What the streams of /v1/completions and /v1/chat/completions say, event by event, and the bodies
// that ask for them. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/json.h"

namespace trireme {

enum class ApiKind : uint8_t { kCompletions, kChat };

// "/v1/completions" or "/v1/chat/completions".
std::string_view api_path(ApiKind kind);

struct StreamUsage {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;  // of the prompt, where the server says so
};

struct StreamDelta {
  std::string text;       // of choice 0; "" = no token in this event
  std::string reasoning;  // a chat's reasoning_content or reasoning
  std::string finish_reason;
  std::optional<StreamUsage> usage;
  bool done = false;  // [DONE]
};

// One event's data. The error is what the server says in it, or that it is no event of this API.
Result<StreamDelta> read_stream_event(std::string_view data);

// {"role", "content"}
struct ChatTurn {
  std::string role;
  std::string content;
};

// A prompt as ids, as text, or as turns.
struct BenchPrompt {
  std::vector<int32_t> ids;
  std::string text;
  std::vector<ChatTurn> turns;
};

struct CallOptions {
  std::string model;
  int64_t max_tokens = 0;   // 0 = the server's default
  double temperature = -1;  // negative = the server's default
  double top_p = -1;
  std::optional<int64_t> seed;
  bool ignore_eos = false;
  std::vector<std::string> stop;
};

// The body of a streamed request with usage at its end. A chat needs turns; a completion takes ids
// where there are some, else text.
std::string stream_body(ApiKind kind, const BenchPrompt& prompt, const CallOptions& options);

}  // namespace trireme

// One call of the API while it runs: prompts to tokens, requests to the engine, events to the text
// of each choice. What its answer looks like is the renderers' matter.
//
// Lives on the exchange's strand.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include <boost/asio/thread_pool.hpp>

#include "runtime/chat/chat_formatter.h"
#include "runtime/engine/engine_client.h"
#include "runtime/gateway/api_call.h"
#include "runtime/gateway/choice_text.h"
#include "runtime/gateway/http/exchange.h"
#include "runtime/gateway/mailbox.h"
#include "runtime/gateway/metrics.h"

namespace trireme {

// So many bytes are read, or made tokens of, in well under a millisecond: on the exchange's own
// strand; more than that on the text pool.
inline constexpr size_t kInlineBytes = 8 << 10;

// What a run needs of the server. All outlive it.
struct ApiContext {
  EngineClient& engine;
  const Tokenizer& tokenizer;
  const ChatFormatter& chat;
  GatewayMetrics& metrics;
  boost::asio::thread_pool& text_pool;          // for what takes long before a call can run
  std::chrono::milliseconds request_timeout{};  // 0: none
  ConstraintCompiler* constraints = nullptr;    // none: the engine alone checks constraints
};

// Where the time of a call went, all prompts and choices together.
struct RunTimings {
  uint64_t prompt_tokens = 0;  // computed: without those from the cache
  double prompt_ms = 0;        // from the first step to the first token
  uint64_t predicted_tokens = 0;
  double predicted_ms = 0;  // from the first token to the last
};

class ApiRun {
 public:
  ApiRun(ApiContext context, ApiCall call, HttpExchange& exchange);
  // Cancels what still runs.
  ~ApiRun();
  ApiRun(const ApiRun&) = delete;

  // Tokenises and submits; an error is to be answered.
  boost::asio::awaitable<std::optional<ApiError>> start();

  // What the next events add, by choice of the answer; `deltas` has choices() entries. False: the
  // client has gone, or the call took too long (timed_out()): nothing more comes.
  boost::asio::awaitable<bool> next(std::vector<ChoiceDelta>& deltas);

  const ApiCall& call() const { return call_; }
  const Tokenizer& tokenizer() const { return context_.tokenizer; }
  size_t choices() const { return texts_.size(); }
  const ChoiceText& text(size_t choice) const { return texts_[choice]; }
  bool finished() const { return unfinished_ == 0; }
  // Ends what still runs, here and in the engine; next() is not called again.
  void cancel();
  bool timed_out() const { return timed_out_; }

  // Of the prompt that a choice belongs to.
  std::span<const int32_t> prompt(size_t choice) const {
    return prompts_[choice / call_.base.choices].tokens;
  }
  const std::vector<SampledToken>& prompt_scores(size_t choice) const {
    return prompts_[choice / call_.base.choices].scores;
  }
  uint64_t prompt_tokens() const;
  uint64_t cached_tokens() const;
  uint64_t completion_tokens() const;
  RunTimings timings() const;

 private:
  struct Prompt {
    std::vector<int32_t> tokens;
    std::vector<SampledToken> scores;
    uint32_t cached = 0;
    RequestId id = 0;
    uint32_t left = 0;  // choices that have not ended, of a prompt that the engine has accepted
    RequestTimes times;
  };
  Result<std::vector<int32_t>> tokenise(const PromptInput& input) const;
  Status tokenise_all();
  Status tokenise_bad_words();
  // What takes a while: on a thread of the text pool where it is much.
  std::optional<ApiError> prepare();
  // Whether the engine's context holds a prompt.
  std::optional<ApiError> check_length(const Prompt& prompt) const;
  std::optional<ApiError> submit(size_t index);
  // Of the prompt, as the client knows it.
  const char* prompt_field() const { return call_.chat ? "messages" : "prompt"; }
  void start_deadline();
  void handle(const TaggedEvent& tagged, std::vector<ChoiceDelta>& deltas);

  ApiContext context_;
  ApiCall call_;
  HttpExchange& exchange_;
  std::shared_ptr<Mailbox> mailbox_;
  const int64_t received_ns_;
  std::vector<Prompt> prompts_;
  std::vector<ChoiceText> texts_;
  size_t unfinished_ = 0;
  bool timed_out_ = false;
  std::shared_ptr<boost::asio::steady_timer> deadline_;
};

// The error object for a Status of the engine.
ApiError api_error_of(const Status& status);

}  // namespace trireme

#include "launcher/client/load_run.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "kernels/base/check.h"
#include "launcher/client/http_client.h"

namespace trireme {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

namespace {

constexpr std::chrono::milliseconds kSlowPause{50};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// One request's stream as it comes.
class Reception {
 public:
  // `events_max`: drop the connection once so many events with text have come; negative = never.
  Reception(RequestRecord& record, Clock::time_point start, double events_max)
      : record_(record), start_(start), events_max_(events_max) {
    record_.start_s = seconds_since(start_);
  }

  bool on_event(std::string_view data) {
    const double now = seconds_since(start_) - record_.start_s;
    Result<StreamDelta> delta = read_stream_event(data);
    if (!delta.ok()) {
      broken_ = delta.status();
      return false;
    }
    if (delta->done) {
      ended_ = true;
      return true;
    }
    if (delta->usage.has_value()) usage_ = delta->usage;
    ended_ = ended_ || !delta->finish_reason.empty();
    if (delta->text.empty() && delta->reasoning.empty()) return true;
    if (events_++ == 0) {
      record_.ttft_s = now;
    } else {
      record_.itl_s.push_back(now - last_);
    }
    last_ = now;
    record_.text += delta->reasoning;
    record_.text += delta->text;
    return events_max_ < 0 || static_cast<double>(events_) < events_max_;
  }

  // Once, when the request is over whatever the reason.
  void end(const Result<HttpAnswer>& answer) {
    using End = RequestRecord::End;
    CHECK(record_.end == End::kNone) << "a request ended twice";
    record_.e2e_s = seconds_since(start_) - record_.start_s;
    record_.output_tokens =
        usage_.has_value() ? usage_->completion_tokens : static_cast<int64_t>(events_);
    if (usage_.has_value()) {
      record_.prompt_tokens = usage_->prompt_tokens;
      record_.cached_tokens = usage_->cached_tokens;
    }
    if (answer.ok() && answer->streamed && ended_) {
      record_.end = End::kCompleted;
    } else if (!answer.ok() && broken_.ok() && answer.status().code() == StatusCode::kCancelled) {
      record_.end = End::kCancelled;
    } else {
      record_.end = End::kFailed;
      record_.error = !broken_.ok()       ? broken_.message()
                      : !answer.ok()      ? answer.status().message()
                      : !answer->streamed ? error_message(*answer)
                                          : "the stream ended without a finish_reason or [DONE]";
    }
  }

 private:
  RequestRecord& record_;
  const Clock::time_point start_;
  const double events_max_;
  Status broken_;
  bool ended_ = false;
  size_t events_ = 0;
  double last_ = 0;
  std::optional<StreamUsage> usage_;
};

class Load {
 public:
  Load(const ServerUrl& url, const HttpOptions& http, const LoadOptions& options,
       std::vector<PlannedConversation> plan)
      : url_(url), http_(http), options_(options), plan_(std::move(plan)), slot_(io_) {
    size_t count = 0;
    for (const PlannedConversation& conversation : plan_) {
      first_.push_back(count);
      count += conversation.turns.size();
    }
    run_.records.resize(count);
    if (options_.keep_bodies) run_.bodies.resize(count);
  }

  LoadRun run() {
    const double cpu = cpu_seconds();
    start_ = Clock::now();
    asio::co_spawn(io_, dispatch(), rethrow);
    io_.run();
    run_.duration_s = seconds_since(start_);
    run_.client_cpu_s = cpu_seconds() - cpu;
    return std::move(run_);
  }

 private:
  static void rethrow(std::exception_ptr thrown) { CHECK(thrown == nullptr); }

  asio::awaitable<void> dispatch() {
    asio::steady_timer timer(io_);
    boost::system::error_code woken;
    for (size_t i = 0; i < plan_.size(); ++i) {
      const auto at = start_ + std::chrono::duration_cast<Clock::duration>(
                                   std::chrono::duration<double>(plan_[i].arrival_s));
      if (at > Clock::now()) {
        timer.expires_at(at);
        co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, woken));
      }
      while (options_.max_concurrency > 0 && active_ >= options_.max_concurrency) {
        slot_.expires_at(Clock::time_point::max());
        co_await slot_.async_wait(asio::redirect_error(asio::use_awaitable, woken));
      }
      ++active_;
      asio::co_spawn(io_, converse(i), rethrow);
    }
  }

  asio::awaitable<void> converse(size_t index) {
    PlannedConversation& conversation = plan_[index];
    BenchPrompt said;
    for (size_t t = 0; t < conversation.turns.size(); ++t) {
      PlannedConversation::Turn& turn = conversation.turns[t];
      RequestRecord& record = run_.records[first_[index] + t];
      if (conversation.turns.size() == 1) {
        said = std::move(turn.prompt);
      } else {
        said.text += turn.prompt.text;
        said.turns.insert(said.turns.end(), turn.prompt.turns.begin(), turn.prompt.turns.end());
      }
      co_await one(first_[index] + t, said, turn);
      if (options_.endpoint == ApiKind::kChat) {
        said.turns.push_back({"assistant", record.text});
      } else {
        said.text += record.text;
        said.text += '\n';
      }
    }
    --active_;
    slot_.cancel();
  }

  asio::awaitable<void> one(size_t index, const BenchPrompt& prompt,
                            const PlannedConversation::Turn& turn) {
    CallOptions call = options_.call;
    call.max_tokens = turn.max_tokens;
    if (call.temperature > 0) call.seed = static_cast<int64_t>((options_.seed + index) & INT64_MAX);
    std::string body = stream_body(options_.endpoint, prompt, call);
    if (options_.keep_bodies) run_.bodies[index] = body;
    RequestRecord& record = run_.records[index];
    record.slow = turn.slow;
    StreamOptions stream;
    double events_max = -1;
    if (turn.cancel_at >= 0) {
      events_max = turn.cancel_at * static_cast<double>(turn.max_tokens);
      stream.drop_after_send = events_max < 1;
    }
    if (turn.slow) stream.read_pause = kSlowPause;
    // A slow reader has a small receive buffer, which others shall not inherit.
    HttpConnection connection =
        turn.slow || idle_.empty() ? HttpConnection(io_.get_executor(), url_, http_) : take_idle();
    Reception reception(record, start_, events_max);
    stream.on_event = [&reception](std::string_view data) { return reception.on_event(data); };
    std::string path(api_path(options_.endpoint));
    const Result<HttpAnswer> answer =
        co_await connection.request("POST", std::move(path), std::move(body), std::move(stream));
    reception.end(answer);
    if (connection.reusable() && !turn.slow) idle_.push_back(std::move(connection));
  }

  HttpConnection take_idle() {
    HttpConnection connection = std::move(idle_.back());
    idle_.pop_back();
    return connection;
  }

  const ServerUrl& url_;
  const HttpOptions& http_;
  const LoadOptions& options_;
  std::vector<PlannedConversation> plan_;
  std::vector<size_t> first_;  // of each conversation: its first record
  asio::io_context io_{1};
  asio::steady_timer slot_;  // cancelled when a conversation ends
  std::vector<HttpConnection> idle_;
  int64_t active_ = 0;
  Clock::time_point start_;
  LoadRun run_;
};

}  // namespace

LoadRun run_load(const ServerUrl& url, const HttpOptions& http, const LoadOptions& options,
                 std::vector<PlannedConversation> plan) {
  return Load(url, http, options, std::move(plan)).run();
}

RequestRecord run_once(const ServerUrl& url, const HttpOptions& http, ApiKind endpoint,
                       const std::string& body) {
  RequestRecord record;
  Reception reception(record, Clock::now(), -1);
  StreamOptions stream;
  stream.on_event = [&reception](std::string_view data) { return reception.on_event(data); };
  reception.end(fetch(url, http, "POST", std::string(api_path(endpoint)), body, stream));
  return record;
}

}  // namespace trireme

#include "runtime/gateway/api_run.h"

#include <algorithm>
#include <array>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>

#include "runtime/engine/trace_ring.h"

namespace trireme {

namespace asio = boost::asio;

namespace {

size_t text_bytes(const ApiCall& call) {
  size_t bytes = 0;
  for (const PromptInput& input : call.prompts) {
    if (const auto* text = std::get_if<std::string>(&input)) bytes += text->size();
  }
  for (const Json& message : call.messages) {
    const Json* content = find(message, "content");
    if (content != nullptr && content->is_string()) bytes += content->get_string().size();
    if (content != nullptr && content->is_array()) bytes += kInlineBytes + 1;
  }
  for (const std::string& word : call.bad_words) bytes += word.size();
  // A tool stands in the prompt as text, and a constraint has to be compiled.
  if (!call.tools.empty() || call.base.constraint.kind != ConstraintSpec::Kind::kNone)
    bytes += kInlineBytes + 1;
  return bytes;
}

// The engine's sentences begin with the field that is wrong, where it is one of the request's.
std::string field_of(std::string_view message) {
  constexpr std::array<std::string_view, 10> kFields = {
      "logit_bias", "stop", "stop_token_ids",  "allowed_token_ids", "bad_words", "min_tokens",
      "max_tokens", "n",    "prompt_logprobs", "logprobs"};
  const std::string_view first = message.substr(0, message.find(' '));
  return std::find(kFields.begin(), kFields.end(), first) == kFields.end() ? ""
                                                                           : std::string(first);
}

}  // namespace

ApiError api_error_of(const Status& status) {
  switch (status.code()) {
    case StatusCode::kInvalidArgument:
      return api_error(400, "invalid_value", status.message(), field_of(status.message()));
    case StatusCode::kResourceExhausted:
      return api_error(429, "queue_full", status.message());
    case StatusCode::kUnavailable:
      return api_error(503, "unavailable", status.message());
    case StatusCode::kDeadlineExceeded:
      return api_error(408, "timeout", status.message());
    default:
      return api_error(500, "engine_error", status.message());
  }
}

ApiRun::ApiRun(ApiContext context, ApiCall call, HttpExchange& exchange)
    : context_(context),
      call_(std::move(call)),
      exchange_(exchange),
      mailbox_(std::make_shared<Mailbox>(exchange.executor())),
      received_ns_(trace_now()) {}

ApiRun::~ApiRun() {
  if (deadline_ != nullptr) deadline_->cancel();
  cancel();
  mailbox_->interrupt();
}

void ApiRun::cancel() {
  for (size_t i = 0; i < prompts_.size(); ++i) {
    Prompt& prompt = prompts_[i];
    if (std::exchange(prompt.left, 0) == 0) continue;
    context_.engine.cancel(prompt.id);
    for (uint32_t c = 0; c < call_.base.choices; ++c) {
      if (!texts_[i * call_.base.choices + c].finished())
        context_.metrics.finished(prompt.times, c, "abort");
    }
  }
}

Result<std::vector<int32_t>> ApiRun::tokenise(const PromptInput& input) const {
  if (const auto* ids = std::get_if<std::vector<int32_t>>(&input)) return *ids;
  return context_.tokenizer.encode(std::get<std::string>(input),
                                   {.add_special = call_.add_special_tokens});
}

// A word is forbidden where it begins a text and where it follows a space.
Status ApiRun::tokenise_bad_words() {
  auto& out = call_.base.params.bad_words;
  for (const std::string& word : call_.bad_words) {
    for (const std::string& text : {word, word.starts_with(' ') ? word.substr(1) : " " + word}) {
      if (text.empty()) continue;
      Result<std::vector<int32_t>> ids = context_.tokenizer.encode(text, {.add_special = false});
      if (!ids.ok()) return ids.status();
      if (!ids->empty() && (out.empty() || out.back() != *ids)) out.push_back(ids.take());
    }
  }
  return {};
}

Status ApiRun::tokenise_all() {
  if (Status s = tokenise_bad_words(); !s.ok()) return s;
  const auto take = [&](Result<std::vector<int32_t>> tokens) -> Status {
    if (!tokens.ok()) return tokens.status();
    Prompt prompt;
    prompt.tokens = tokens.take();
    const uint32_t room = context_.engine.info().tokens_max - 1;
    const uint32_t keep = std::min(call_.truncate_prompt_tokens.value_or(UINT32_MAX), room);
    if (call_.truncate_prompt_tokens.has_value() && prompt.tokens.size() > keep)
      prompt.tokens.erase(prompt.tokens.begin(), prompt.tokens.end() - keep);
    prompts_.push_back(std::move(prompt));
    return {};
  };
  if (call_.chat) {
    return take(context_.chat.encode({&call_.messages, &call_.tools, &call_.chat_template_kwargs,
                                      call_.add_generation_prompt, call_.continue_final_message,
                                      call_.add_special_tokens}));
  }
  for (const PromptInput& input : call_.prompts) {
    if (Status s = take(tokenise(input)); !s.ok()) return s;
  }
  return {};
}

std::optional<ApiError> ApiRun::prepare() {
  if (Status s = tokenise_all(); !s.ok())
    return api_error(400, "invalid_value", fmt::format("{}: {}", prompt_field(), s.message()),
                     prompt_field());
  for (const Prompt& prompt : prompts_) {
    if (std::optional<ApiError> error = check_length(prompt)) return error;
  }
  const ConstraintSpec& constraint = call_.base.constraint;
  if (context_.constraints == nullptr || constraint.kind == ConstraintSpec::Kind::kNone)
    return std::nullopt;
  // Kept by the compiler: the engine finds it there.
  const Status compiled = context_.constraints->compile(constraint).status();
  if (compiled.ok()) return std::nullopt;
  if (compiled.code() != StatusCode::kInvalidArgument) return api_error_of(compiled);
  const bool schema = constraint.kind == ConstraintSpec::Kind::kJsonSchema;
  return api_error(400, schema ? "invalid_json_schema" : "invalid_value",
                   fmt::format("{}: {}", call_.constraint_field, compiled.message()),
                   call_.constraint_field);
}

asio::awaitable<std::optional<ApiError>> ApiRun::start() {
  std::optional<ApiError> wrong;
  if (text_bytes(call_) <= kInlineBytes) {
    wrong = prepare();
  } else {
    wrong = co_await asio::co_spawn(
        context_.text_pool,
        [this]() -> asio::awaitable<std::optional<ApiError>> { co_return prepare(); },
        asio::use_awaitable);
  }
  if (wrong.has_value()) co_return wrong;
  for (size_t i = 0; i < prompts_.size(); ++i) {
    for (uint32_t c = 0; c < call_.base.choices; ++c)
      texts_.emplace_back(context_.tokenizer, call_.base.params, call_.skip_special_tokens);
  }
  unfinished_ = texts_.size();
  exchange_.on_client_gone([mailbox = mailbox_] { mailbox->interrupt(); });
  for (size_t i = 0; i < prompts_.size(); ++i) {
    std::optional<ApiError> error = submit(i);
    if (!error.has_value()) continue;
    cancel();
    co_return error;
  }
  start_deadline();
  co_return std::nullopt;
}

void ApiRun::start_deadline() {
  if (context_.request_timeout.count() <= 0) return;
  deadline_ = std::make_shared<asio::steady_timer>(exchange_.executor(), context_.request_timeout);
  deadline_->async_wait(
      [this, keep = deadline_, mailbox = mailbox_](const boost::system::error_code& cancelled) {
        if (cancelled || mailbox->interrupted()) return;  // a run that has ended interrupts it
        timed_out_ = true;
        mailbox->interrupt();
      });
}

std::optional<ApiError> ApiRun::check_length(const Prompt& prompt) const {
  const uint32_t context = context_.engine.info().tokens_max;
  const uint32_t room = call_.base.score_only ? 0 : 1;
  if (prompt.tokens.empty())
    return api_error(400, "invalid_value", fmt::format("{} has no token", prompt_field()),
                     prompt_field());
  if (prompt.tokens.size() + room <= context) return std::nullopt;
  ApiError error = api_error(
      400, "context_length_exceeded",
      fmt::format("the prompt has {} tokens, and the model's context holds {}, output included: "
                  "shorten it",
                  prompt.tokens.size(), context),
      prompt_field());
  error.extra["n_prompt_tokens"] = prompt.tokens.size();
  error.extra["max_model_len"] = context;
  return error;
}

std::optional<ApiError> ApiRun::submit(size_t index) {
  Prompt& prompt = prompts_[index];
  const uint32_t context = context_.engine.info().tokens_max;
  const auto size = static_cast<uint32_t>(prompt.tokens.size());
  Request request = call_.base;
  request.prompt = prompt.tokens;
  request.label = exchange_.request().request_id;
  request.received_ns = received_ns_;
  const uint32_t rest = std::max(context - std::min(context, size), 1u);
  request.params.max_tokens =
      call_.base.score_only ? 1 : std::min(call_.max_tokens.value_or(rest), rest);
  request.params.min_tokens = std::min(request.params.min_tokens, request.params.max_tokens);
  prompt.times.arrived(request);
  Result<RequestId> id = context_.engine.submit(std::move(request), mailbox_->sink(index));
  if (!id.ok()) return api_error_of(id.status());
  prompt.id = *id;
  prompt.left = call_.base.choices;
  context_.metrics.accepted(prompt.times);
  return std::nullopt;
}

asio::awaitable<bool> ApiRun::next(std::vector<ChoiceDelta>& deltas) {
  deltas.assign(choices(), {});
  const std::vector<TaggedEvent> events = co_await mailbox_->next();
  if (events.empty()) {
    cancel();
    co_return false;
  }
  for (const TaggedEvent& tagged : events) handle(tagged, deltas);
  co_return true;
}

void ApiRun::handle(const TaggedEvent& tagged, std::vector<ChoiceDelta>& deltas) {
  Prompt& prompt = prompts_[tagged.tag];
  const Event& event = tagged.event;
  const size_t index = tagged.tag * call_.base.choices + event.choice;
  ChoiceText& text = texts_[index];
  switch (event.kind) {
    case Event::Kind::kScheduled:
      prompt.cached = event.cached_tokens;
      prompt.times.scheduled();
      return;
    case Event::Kind::kPromptScored:
      prompt.scores = event.prompt_scores;
      return;
    case Event::Kind::kToken:
      if (text.finished()) return;  // was under way when a stop string ended the text
      context_.metrics.token(prompt.times, event.choice);
      if (!text.push(event.sampled, deltas[index])) return;
      context_.engine.finish_choice(prompt.id, event.choice);
      break;
    case Event::Kind::kFinished:
      if (text.finished()) return;
      text.finish(event, deltas[index]);
      break;
  }
  --prompt.left;
  --unfinished_;
  context_.metrics.finished(prompt.times, event.choice, text.finish_reason());
}

uint64_t ApiRun::prompt_tokens() const {
  uint64_t sum = 0;
  for (const Prompt& p : prompts_) sum += p.tokens.size();
  return sum;
}
uint64_t ApiRun::cached_tokens() const {
  uint64_t sum = 0;
  for (const Prompt& p : prompts_) sum += p.cached;
  return sum;
}
uint64_t ApiRun::completion_tokens() const {
  uint64_t sum = 0;
  for (const ChoiceText& t : texts_) sum += t.tokens();
  return sum;
}

RunTimings ApiRun::timings() const {
  using Clock = RequestTimes::Clock;
  const Clock::time_point unset{};
  Clock::time_point scheduled, first, last;
  for (const Prompt& p : prompts_) {
    const auto earlier = [&](Clock::time_point a, Clock::time_point b) {
      return a == unset ? b : b == unset ? a : std::min(a, b);
    };
    scheduled = earlier(scheduled, p.times.scheduled_at);
    for (const RequestTimes::Choice& c : p.times.choices) {
      first = earlier(first, c.first_token);
      last = std::max(last, c.last_token);
    }
  }
  const auto ms = [&](Clock::time_point from, Clock::time_point to) {
    if (from == unset || to < from) return 0.0;
    return std::chrono::duration<double, std::milli>(to - from).count();
  };
  return {prompt_tokens() - cached_tokens(), ms(scheduled, first), completion_tokens(),
          ms(first, last)};
}

}  // namespace trireme

#include "launcher/client/chat.h"

#include <chrono>

#include <fmt/format.h>

#include "launcher/client/bench_serve.h"
#include "launcher/client/http_fetch.h"

namespace trireme {
namespace {

using Clock = std::chrono::steady_clock;

// Control characters of an answer do not reach a terminal.
std::string printable(std::string_view text, bool terminal) {
  if (!terminal) return std::string(text);
  std::string out;
  for (const char c : text) {
    const unsigned char byte = static_cast<unsigned char>(c);
    if ((byte >= ' ' && byte != 0x7f) || c == '\n' || c == '\t') out += c;
  }
  return out;
}

// The transcript that a server without a chat template continues.
std::string transcript(const std::vector<ChatTurn>& turns) {
  std::string text;
  for (const ChatTurn& turn : turns) {
    if (turn.role == "system") text += turn.content + "\n\n";
    if (turn.role == "user") text += "User: " + turn.content + "\n";
    if (turn.role == "assistant") text += "Assistant: " + turn.content + "\n";
  }
  return text + "Assistant:";
}

class Chat {
 public:
  Chat(const ChatOptions& options, const ClientConsole& console, ServerUrl url, bool terminal)
      : options_(options), console_(console), url_(std::move(url)), terminal_(terminal) {
    http_.api_key = options.api_key;
    http_.idle_timeout = std::chrono::seconds(options.timeout_s);
    reset(options.system);
  }

  Status begin() {
    if (!options_.call.model.empty()) return {};
    Result<std::string> model = first_model(url_, http_);
    if (!model.ok()) return model.status();
    options_.call.model = model.take();
    return {};
  }

  Result<int> run(std::istream& in) {
    if (terminal_)
      console_.message(
          fmt::format("chat with {} at {}; /help, Ctrl-D ends", options_.call.model, url_.text()));
    std::string line;
    for (;;) {
      if (terminal_) {
        if (Status s = console_.result("> "); !s.ok()) return s;
      }
      if (!std::getline(in, line)) break;
      if (!line.empty() && line.back() == '\r') line.pop_back();
      if (line.empty()) continue;
      if (terminal_ && line[0] == '/') {
        if (!command(line)) break;
        continue;
      }
      const Status said = turn(line);
      if (said.ok()) continue;
      if (!terminal_) return said;
      console_.message(said.message());
    }
    if (terminal_) (void)console_.result("\n").ok();
    return kClientOk;
  }

 private:
  void reset(const std::string& system) {
    turns_.clear();
    if (!system.empty()) turns_.push_back({"system", system});
  }

  // Whether the chat goes on.
  bool command(const std::string& line) {
    if (line == "/exit" || line == "/quit") return false;
    if (line == "/reset") {
      reset(options_.system);
      console_.message("the chat begins anew");
    } else if (line.starts_with("/system")) {
      options_.system = line.size() > 8 ? line.substr(8) : "";
      reset(options_.system);
      console_.message(options_.system.empty() ? "no system message; the chat begins anew"
                                               : "the chat begins anew with this system message");
    } else if (line == "/params") {
      const CallOptions& c = options_.call;
      const auto number = [](double v) { return v < 0 ? "the server's" : fmt::format("{:g}", v); };
      console_.message(
          fmt::format("model {}, temperature {}, top_p {}, seed {}, max_tokens {}", c.model,
                      number(c.temperature), number(c.top_p),
                      c.seed.has_value() ? std::to_string(*c.seed) : "the server's",
                      c.max_tokens > 0 ? std::to_string(c.max_tokens) : "the server's"));
    } else {
      console_.message(
          "/reset forgets the chat, /system TEXT sets the system message, /params shows the "
          "sampling parameters, /exit or Ctrl-D ends; Ctrl-C stops an answer");
    }
    return true;
  }

  // One question and its answer. History grows only by answers that came, whole or stopped.
  Status turn(const std::string& question) {
    turns_.push_back({"user", question});
    std::string answer;
    Status asked = ask(answer);
    if (asked.code() == StatusCode::kNotFound && kind_ == ApiKind::kChat) {
      kind_ = ApiKind::kCompletions;
      console_.message("this server has no chat endpoint: the transcript goes to /v1/completions");
      asked = ask(answer);
    }
    if (!asked.ok() && answer.empty()) {
      turns_.pop_back();
      return asked;
    }
    turns_.push_back({"assistant", answer});
    return asked;
  }

  Status ask(std::string& answer) {
    BenchPrompt prompt;
    CallOptions call = options_.call;
    if (kind_ == ApiKind::kChat) {
      prompt.turns = turns_;
    } else {
      prompt.text = transcript(turns_);
      call.stop = {"\nUser:"};
    }
    const auto start = Clock::now();
    Clock::time_point first{}, last{};
    size_t events = 0;
    std::optional<StreamUsage> usage;
    Status wrong;
    StreamOptions stream;
    stream.on_event = [&](std::string_view data) {
      const Result<StreamDelta> delta = read_stream_event(data);
      if (!delta.ok()) {
        wrong = delta.status();
        return false;
      }
      if (delta->usage.has_value()) usage = delta->usage;
      const std::string text = delta->reasoning + delta->text;
      if (text.empty()) return true;
      last = Clock::now();
      if (events++ == 0) first = last;
      answer += delta->text;
      wrong = console_.result(printable(text, terminal_));
      return wrong.ok();
    };
    const Result<HttpAnswer> got = fetch(url_, http_, "POST", std::string(api_path(kind_)),
                                         stream_body(kind_, prompt, call), stream, terminal_);
    if (events > 0) {
      if (Status s = console_.result("\n"); !s.ok()) return s;
    }
    if (!wrong.ok()) return wrong;
    if (!got.ok()) {
      if (got.status().code() != StatusCode::kCancelled) return got.status();
      console_.message("stopped");
      return answer.empty() ? got.status() : Status();
    }
    if (!got->streamed) {
      const std::string message =
          fmt::format("{}{}: {}", url_.text(), api_path(kind_), error_message(*got));
      const bool absent = got->status == 404 || got->status == 405 || got->status == 501;
      return absent ? not_found(message) : unavailable(message);
    }
    if (options_.stats) say_stats(start, first, last, usage, events);
    return {};
  }

  void say_stats(Clock::time_point start, Clock::time_point first, Clock::time_point last,
                 const std::optional<StreamUsage>& usage, size_t events) const {
    if (events == 0) return;
    const auto seconds = [](auto d) { return std::chrono::duration<double>(d).count(); };
    const double tokens = usage.has_value() ? static_cast<double>(usage->completion_tokens)
                                            : static_cast<double>(events);
    const double decode = seconds(last - first);
    console_.message(fmt::format(
        "TTFT {:.0f} ms, {:.0f} tokens, {} tok/s{}", seconds(first - start) * 1000, tokens,
        tokens > 1 && decode > 0 ? fmt::format("{:.1f}", (tokens - 1) / decode) : "-",
        usage.has_value() ? fmt::format(", prompt {} tokens ({} cached)", usage->prompt_tokens,
                                        usage->cached_tokens)
                          : ""));
  }

  ChatOptions options_;
  const ClientConsole& console_;
  const ServerUrl url_;
  const bool terminal_;
  HttpOptions http_;
  ApiKind kind_ = ApiKind::kChat;
  std::vector<ChatTurn> turns_;
};

}  // namespace

Result<int> run_chat(const ChatOptions& options, const ClientConsole& console, std::istream& in,
                     bool terminal) {
  Result<ServerUrl> url = parse_server_url(options.url);
  if (!url.ok()) return url.status();
  Chat chat(options, console, url.take(), terminal);
  if (Status s = chat.begin(); !s.ok()) return s;
  return chat.run(in);
}

}  // namespace trireme

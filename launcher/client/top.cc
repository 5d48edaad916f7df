#include "launcher/client/top.h"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <deque>

#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "launcher/client/http_fetch.h"
#include "launcher/client/top_view.h"

namespace trireme {
namespace {

using Clock = std::chrono::steady_clock;
constexpr size_t kHistory = 64;

// Signals that end the program, as something to wait for. While it lives they do nothing else.
class EndSignals {
 public:
  EndSignals() {
    sigemptyset(&set_);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP}) sigaddset(&set_, signal);
    pthread_sigmask(SIG_BLOCK, &set_, &before_);
    fd_ = signalfd(-1, &set_, SFD_CLOEXEC | SFD_NONBLOCK);
  }
  ~EndSignals() {
    signalfd_siginfo one;
    while (::read(fd_, &one, sizeof(one)) == sizeof(one)) {
    }
    ::close(fd_);
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  EndSignals(const EndSignals&) = delete;
  int fd() const { return fd_; }

 private:
  sigset_t set_{}, before_{};
  int fd_ = -1;
};

// The alternate screen and single keys, until it goes.
class Screen {
 public:
  Screen() {
    keys_ = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &before_) == 0;
    if (keys_) {
      termios raw = before_;
      raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
      tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    write_out("\x1b[?1049h\x1b[?25l");
  }
  ~Screen() {
    write_out("\x1b[?25h\x1b[?1049l");
    if (keys_) tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  Screen(const Screen&) = delete;

  bool keys() const { return keys_; }
  // Every line is cleared to its end, so that nothing flickers and nothing old is left.
  static void show(const std::string& text) {
    std::string out = "\x1b[H";
    for (const char c : text) {
      if (c == '\n') out += "\x1b[K";
      out += c;
    }
    write_out(out + "\x1b[J");
  }

 private:
  static void write_out(std::string_view text) {
    while (!text.empty()) {
      const ssize_t n = ::write(STDOUT_FILENO, text.data(), text.size());
      if (n <= 0) return;  // no terminal left to restore
      text.remove_prefix(static_cast<size_t>(n));
    }
  }
  termios before_{};
  bool keys_ = false;
};

// Whether to end, after at most `seconds`.
bool ends_within(double seconds, const EndSignals& signals, bool keys) {
  const auto until = Clock::now() + std::chrono::duration<double>(seconds);
  for (;;) {
    const double left = std::chrono::duration<double>(until - Clock::now()).count();
    if (left <= 0) return false;
    pollfd fds[] = {{signals.fd(), POLLIN, 0}, {keys ? STDIN_FILENO : -1, POLLIN, 0}};
    if (poll(fds, 2, static_cast<int>(left * 1000) + 1) <= 0) continue;
    if (fds[0].revents != 0) return true;
    char key = 'q';
    if (fds[1].revents != 0 && (::read(STDIN_FILENO, &key, 1) <= 0 || key == 'q')) return true;
  }
}

int columns() {
  winsize size{};
  constexpr int kUsual = 80;
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kUsual;
}

class Top {
 public:
  Top(const TopOptions& options, ServerUrl url) : options_(options), url_(std::move(url)) {
    http_.api_key = options.api_key;
    http_.connect_timeout = http_.idle_timeout = std::chrono::seconds(3);
  }

  Status scrape() {
    const Result<HttpAnswer> answer = fetch(url_, http_, "GET", "/metrics");
    if (!answer.ok()) return answer.status();
    if (answer->status != 200)
      return unavailable(fmt::format("{}/metrics: {}", url_.text(), error_message(*answer)));
    Result<PrometheusPage> page = parse_prometheus(answer->body);
    if (!page.ok()) return page.status().at(url_.text() + "/metrics");
    const auto now = Clock::now();
    view = top_view(page_, *page, std::chrono::duration<double>(now - at_).count());
    page_ = page.take();
    at_ = now;
    remember(prompt_rates, view.prompt_rate);
    remember(generation_rates, view.generation_rate);
    return {};
  }

  std::string screen(bool color, int width) const {
    return top_screen(view, url_.text(), {color, width}, prompt_rates, generation_rates);
  }

  TopView view;
  std::deque<double> prompt_rates, generation_rates;

 private:
  static void remember(std::deque<double>& rates, const std::optional<double>& rate) {
    if (rate.has_value()) rates.push_back(*rate);
    if (rates.size() > kHistory) rates.pop_front();
  }
  const TopOptions& options_;
  const ServerUrl url_;
  HttpOptions http_;
  PrometheusPage page_;
  Clock::time_point at_ = Clock::now();
};

}  // namespace

Result<int> run_top(const TopOptions& options, const ClientConsole& console) {
  if (!(options.interval_s >= 0.1 && options.interval_s <= 3600))
    return invalid_argument("--interval is from 0.1 to 3600 seconds");
  Result<ServerUrl> url = parse_server_url(options.url);
  if (!url.ok()) return url.status();
  Top top(options, url.take());
  if (Status s = top.scrape(); !s.ok()) return s;
  EndSignals signals;
  const bool plain = options.plain || !isatty(STDOUT_FILENO);
  if (options.once || plain) {
    while (!ends_within(options.interval_s, signals, false)) {
      if (Status s = top.scrape(); !s.ok()) {
        if (options.once) return s;
        console.message(s.message());
        continue;
      }
      if (options.once) {
        if (Status s = console.result(options.plain ? top_line(top.view) : top.screen(false, 80));
            !s.ok())
          return s;
        return kClientOk;
      }
      if (Status s = console.result(top_line(top.view)); !s.ok()) return s;
    }
    return kClientOk;
  }
  const char* const no_color = std::getenv("NO_COLOR");
  const bool color = no_color == nullptr || *no_color == '\0';
  Screen screen;
  Status scraped;
  do {
    std::string text = top.screen(color, columns());
    if (!scraped.ok()) text += "\n" + scraped.message() + "\n";
    Screen::show(text + "\nq or Ctrl-C leaves\n");
    if (ends_within(options.interval_s, signals, screen.keys())) break;
    scraped = top.scrape();
  } while (true);
  return kClientOk;
}

}  // namespace trireme

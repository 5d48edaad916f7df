#include "launcher/signals.h"

#include <atomic>
#include <cerrno>
#include <csignal>

#include <unistd.h>

#include "kernels/base/check.h"

namespace trireme {
namespace {

// A handler has nothing but globals: where it writes. Signals may come to any thread, also to those
// of MPI, which were there before; so they are not blocked and waited for.
std::atomic<int> write_end = -1;

constexpr int kStops[] = {SIGTERM, SIGINT, SIGUSR1, SIGHUP};
constexpr unsigned char kEnd = 0;  // no signal

void handle(int signal) {
  const int saved = errno;
  const auto byte = static_cast<unsigned char>(signal);
  const int fd = write_end.load(std::memory_order_relaxed);
  if (fd >= 0 && write(fd, &byte, 1) < 0) {
    // A full pipe holds more requests to stop than anybody needs.
  }
  errno = saved;
}

}  // namespace

StopSignals::StopSignals(std::function<void(int, int)> asked) : asked_(std::move(asked)) {
  CHECK(pipe(pipe_) == 0 && write_end.exchange(pipe_[1]) == -1);
  struct sigaction action {};
  action.sa_handler = handle;
  action.sa_flags = SA_RESTART;
  for (const int signal : kStops) {
    struct sigaction now {};
    sigaction(signal, nullptr, &now);
    if (signal != SIGHUP || now.sa_handler != SIG_IGN) sigaction(signal, &action, nullptr);
  }
  thread_ = std::thread([this] { watch(); });
}

StopSignals::~StopSignals() {
  for (const int signal : kStops) {
    struct sigaction now {};
    sigaction(signal, nullptr, &now);
    if (now.sa_handler == handle) std::signal(signal, SIG_DFL);
  }
  write_end = -1;
  CHECK(write(pipe_[1], &kEnd, 1) == 1);
  thread_.join();
  close(pipe_[0]);
  close(pipe_[1]);
}

void StopSignals::ignore() {
  std::signal(SIGINT, SIG_IGN);
  std::signal(SIGHUP, SIG_IGN);
  std::signal(SIGUSR1, SIG_IGN);
}

void StopSignals::watch() {
  for (int count = 1;;) {
    unsigned char byte = kEnd;
    const ssize_t n = read(pipe_[0], &byte, 1);
    if (n < 0 && errno == EINTR) continue;
    if (n != 1 || byte == kEnd) return;
    asked_(count++, byte);
  }
}

}  // namespace trireme

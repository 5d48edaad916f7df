#include "launcher/output.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include <fmt/format.h>
#include <unistd.h>

namespace trireme {
namespace {

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    text.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

}  // namespace

void print_message(std::string_view message) {
  const std::string line = fmt::format("trireme: {}\n", message);
  (void)write_all(STDERR_FILENO, line);  // nowhere left to say that it failed
}

void print_error(const Status& status, std::string_view who) {
  print_message(who.empty() ? status.message() : fmt::format("{}: {}", who, status.message()));
}

Status write_result(std::string_view text) {
  std::fflush(stdout);
  if (write_all(STDOUT_FILENO, text)) return {};
  return data_loss(fmt::format("cannot write to stdout: {}", std::strerror(errno)));
}

}  // namespace trireme

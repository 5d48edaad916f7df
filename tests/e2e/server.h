// `trireme serve` as a process of its own, which runs until it is told to end.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <sys/types.h>

namespace trireme::test {

class Server {
 public:
  // On a free port of 127.0.0.1. Returns when it serves, or has ended: then port() is 0.
  explicit Server(std::vector<std::string> args, const std::string& program = TRIREME_PROGRAM);
  // Ends it and its ranks at once, if they run.
  ~Server();
  Server(const Server&) = delete;

  uint16_t port() const { return port_; }
  // What has been read of its stderr.
  const std::string& said() const { return said_; }
  int pid() const { return child_; }
  // The processes of its ranks, where it has started mpirun for them.
  std::vector<int> ranks() const;
  void signal(int number);
  // Reads what it says until `text` is there or it has ended.
  void wait_for(const std::string& text);
  // Waits until it and its ranks have ended.
  int exit_code();

 private:
  pid_t child_ = 0;
  int stderr_[2] = {-1, -1};
  uint16_t port_ = 0;
  std::string said_;
};

}  // namespace trireme::test

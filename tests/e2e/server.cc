#include "tests/e2e/server.h"

#include <csignal>
#include <cstdlib>
#include <fstream>

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/base/check.h"

namespace trireme::test {
namespace {

std::vector<int> children_of(int pid) {
  std::ifstream list(fmt::format("/proc/{0}/task/{0}/children", pid));
  std::vector<int> children;
  for (int child = 0; list >> child;) children.push_back(child);
  return children;
}

}  // namespace

Server::Server(std::vector<std::string> args, const std::string& program) {
  args.insert(args.begin(), {program, "serve"});
  args.insert(args.end(), {"--port", "0"});
  CHECK(pipe(stderr_) == 0);
  child_ = fork();
  if (child_ == 0) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that crashes leaves nothing behind
    dup2(stderr_[1], STDERR_FILENO);
    close(stderr_[0]);
    std::vector<char*> argv;
    for (const std::string& a : args) argv.push_back(const_cast<char*>(a.c_str()));
    argv.push_back(nullptr);
    execv(argv[0], argv.data());
    _exit(127);
  }
  close(stderr_[1]);
  const std::string serving = "serving   http://127.0.0.1:";
  wait_for(serving);
  const size_t at = said_.find(serving);
  if (at != std::string::npos)
    port_ = static_cast<uint16_t>(std::atoi(said_.c_str() + at + serving.size()));
}

Server::~Server() {
  if (child_ > 0) {
    kill(-child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  close(stderr_[0]);
}

std::vector<int> Server::ranks() const {
  const std::vector<int> mpirun = children_of(child_);
  return mpirun.empty() ? mpirun : children_of(mpirun[0]);
}

void Server::signal(int number) { kill(child_, number); }

void Server::wait_for(const std::string& text) {
  char bytes[4096];
  while (said_.find(text) == std::string::npos) {
    const ssize_t n = read(stderr_[0], bytes, sizeof(bytes));
    if (n <= 0) return;
    said_.append(bytes, static_cast<size_t>(n));
  }
}

int Server::exit_code() {
  wait_for("\n<never>");  // to the end of its stderr
  int status = 0;
  waitpid(child_, &status, 0);
  child_ = 0;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace trireme::test

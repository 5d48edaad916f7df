#include "tests/e2e/program.h"

#include <cstdlib>
#include <fstream>
#include <sstream>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/base/check.h"
#include "tests/support/edited_model.h"

namespace trireme::test {
namespace {

std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace

std::vector<std::string> Ended::messages() const {
  std::vector<std::string> lines;
  std::istringstream in(error);
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("trireme:")) lines.push_back(line);
  }
  return lines;
}

Ended run_program(const std::vector<std::string>& argv) {
  setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
  setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  setenv("ASAN_OPTIONS", "detect_leaks=0", 1);  // Open MPI leaks by design
  setenv("CUDA_VISIBLE_DEVICES", "", 1);        // what is tested here is the CPU, wherever it runs
  const TempFolder folder;
  const std::string out = folder.path() + "/out", error = folder.path() + "/error";
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT, 0600);
  posix_spawn_file_actions_addopen(&actions, 2, error.c_str(), O_WRONLY | O_CREAT, 0600);
  std::vector<char*> arguments;
  for (const std::string& a : argv) arguments.push_back(const_cast<char*>(a.c_str()));
  arguments.push_back(nullptr);
  pid_t child = 0;
  const int failed =
      posix_spawn(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  CHECK(failed == 0) << "cannot start " << argv[0];
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  Ended ended;
  ended.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  ended.out = contents(out);
  ended.error = contents(error);
  return ended;
}

Ended run_trireme(std::vector<std::string> args) {
  args.insert(args.begin(), TRIREME_PROGRAM);
  return run_program(args);
}

}  // namespace trireme::test

#include "launcher/spawn.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launcher/exit_code.h"
#include "launcher/output.h"

namespace trireme {
namespace {

// Between fork and exec; returns only if exec failed.
void become(char* const* argv, const sigset_t& old_mask, pid_t parent, Stopping stopping) {
  if (stopping == Stopping::kDrain) {
    // A group of its own: the terminal's Ctrl-C comes to us alone. Out of the terminal's foreground
    // it could not read from it either.
    setpgid(0, 0);
    const int nothing = open("/dev/null", O_RDONLY);
    if (nothing >= 0) dup2(nothing, STDIN_FILENO);
  }
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) return;  // the parent died before it was asked for
  sigprocmask(SIG_SETMASK, &old_mask, nullptr);
  if (geteuid() == 0) {  // else Open MPI refuses; in a container root is the usual user
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  }
  // The libevent in mpirun warns on stderr of a harmless race of its epoll with ranks that end.
  setenv("EVENT_NOEPOLL", "1", 1);
  execv(argv[0], argv);
}

// A signal that the terminal sends goes to the whole foreground group, mpirun included; sent twice,
// mpirun takes it for an impatient user.
bool sent_by_a_process(const siginfo_t& info) { return info.si_code <= 0; }

// The signals that came so far.
struct Asked {
  int first = 0;
  int ended = 0;  // the one that the job was told to end by
};

// Whether the job ended, without a word of its own, because its ranks or mpirun did not know yet
// how to drain: they were starting, or loading the model, and had nothing to bring to an end.
bool ended_before_it_served(int signal, const Asked& asked) {
  return asked.first != 0 && (signal == SIGUSR1 || signal == asked.first);
}

int exit_code_of_job(int wait_status, const Asked& asked) {
  // A rank's signal comes as mpirun's exit code 128 + signal.
  const int code =
      WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : kExitSignal + WTERMSIG(wait_status);
  if (code != 0 && asked.ended != 0) return kExitSignal + asked.ended;
  if (code <= kExitSignal) return code;
  const int signal = code - kExitSignal;
  if (ended_before_it_served(signal, asked)) return kExitSignal + asked.first;
  const std::string_view hint =
      signal == SIGKILL ? " (the kernel does so when memory runs out)" : "";
  print_message(fmt::format("{} ended by signal {}, {}{}: the job is over",
                            WIFEXITED(wait_status) ? "a rank was" : "mpirun was", signal,
                            strsignal(signal), hint));
  return kExitRankLost;
}

int wait_for(pid_t child, const sigset_t& signals, Stopping stopping) {
  Asked asked;
  for (;;) {
    siginfo_t info{};
    const int signal = sigwaitinfo(&signals, &info);
    if (signal < 0) continue;  // EINTR: stopped and continued
    if (signal == SIGCHLD) {
      int status = 0;
      if (waitpid(child, &status, WNOHANG) == child) return exit_code_of_job(status, asked);
      continue;
    }
    const bool drain = stopping == Stopping::kDrain;
    if (drain && asked.first == 0) {
      asked.first = signal;
      kill(child, SIGUSR1);
      continue;
    }
    asked.ended = signal;
    // In a group of its own it has not heard of the terminal's signal.
    if (drain) kill(child, SIGTERM);
    if (!drain && sent_by_a_process(info)) kill(child, signal);
  }
}

}  // namespace

Result<std::string> find_mpirun(std::string_view path) {
  for (const std::string_view name : {"mpirun.openmpi", "mpirun"}) {
    for (size_t begin = 0; begin <= path.size();) {
      const size_t end = std::min(path.find(':', begin), path.size());
      const std::string file = fmt::format("{}/{}", path.substr(begin, end - begin), name);
      if (end > begin && access(file.c_str(), X_OK) == 0) return file;
      begin = end + 1;
    }
  }
  return not_found(
      "more than one rank needs mpirun, which is not on the PATH: install Open MPI (Debian: "
      "openmpi-bin), or set tensor_parallel_size and pipeline_parallel_size to 1");
}

std::vector<std::string> mpirun_command(const std::string& mpirun, int ranks, int cores,
                                        const std::string& program,
                                        std::span<const std::string> args) {
  std::vector<std::string> command = {
      mpirun,
      "-q",  // the ranks say what went wrong; mpirun would add ten lines
      "-n", fmt::format("{}", ranks), "--bind-to",
      "none",  // the default, one core per rank, ruins ranks with threads
      "--oversubscribe",
      // End the other ranks at once, not after a second, when one has died.
      "--mca", "odls_base_sigkill_timeout", "0"};
  if (ranks > cores) command.insert(command.end(), {"--mca", "mpi_yield_when_idle", "1"});
  command.push_back(program);
  command.insert(command.end(), args.begin(), args.end());
  return command;
}

Result<int> run_job(std::span<const std::string> command, Stopping stopping) {
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);

  // Blocked and then waited for: no handler, nothing to race with.
  sigset_t signals, old_mask;
  sigemptyset(&signals);
  std::signal(SIGCHLD, SIG_DFL);  // where it is ignored, nobody would hear of the child's end
  sigaddset(&signals, SIGCHLD);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction now {};
    sigaction(signal, nullptr, &now);
    if (now.sa_handler != SIG_IGN) sigaddset(&signals, signal);  // nohup, or `&` in a script
  }
  sigprocmask(SIG_BLOCK, &signals, &old_mask);
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child == 0) {
    become(argv.data(), old_mask, parent, stopping);
    print_message(fmt::format("cannot run {}: {}", argv[0], std::strerror(errno)));
    _exit(kExitRuntime);
  }
  const int why = errno;
  const int code = child > 0 ? wait_for(child, signals, stopping) : 0;
  sigprocmask(SIG_SETMASK, &old_mask, nullptr);
  if (child < 0) return unavailable(fmt::format("cannot start mpirun: {}", std::strerror(why)));
  return code;
}

}  // namespace trireme

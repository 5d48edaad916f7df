// Real jobs of two ranks under mpirun: exit codes and stdout come through untouched, whatever goes
// wrong the user reads one message, and no process stays behind. Where there is no Open MPI the
// jobs are skipped.
#include "launcher/spawn.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace trireme {
namespace {

std::string search_path() {
  const char* path = std::getenv("PATH");
  return path == nullptr ? "" : path;
}

// A child process whose stdout and stderr are read here.
class Child {
 public:
  explicit Child(const std::vector<std::string>& words) {
    int out[2], err[2];
    EXPECT_EQ(pipe(out), 0);
    EXPECT_EQ(pipe(err), 0);
    std::vector<char*> argv;
    for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      setpgid(0, 0);
      dup2(out[1], STDOUT_FILENO);
      dup2(err[1], STDERR_FILENO);
      for (const int fd : {out[0], out[1], err[0], err[1]}) close(fd);
      execv(argv[0], argv.data());
      _exit(127);
    }
    close(out[1]);
    close(err[1]);
    out_ = out[0];
    err_ = err[0];
  }
  ~Child() {
    close(out_);
    close(err_);
  }

  void send(int signal) { ASSERT_EQ(kill(pid_, signal), 0); }
  // As a terminal does at Ctrl-C: to everybody in the foreground.
  void send_to_group(int signal) { ASSERT_EQ(kill(-pid_, signal), 0); }

  // Reads stdout up to the end of a line.
  std::string read_line() {
    std::string line;
    char c = 0;
    while (read(out_, &c, 1) == 1 && c != '\n') line += c;
    return line;
  }
  // Reads a pipe until all its writers, ranks included, are gone.
  static std::string read_all(int fd) {
    std::string text;
    char piece[4096];
    ssize_t n = 0;
    while ((n = read(fd, piece, sizeof piece)) > 0) text.append(piece, static_cast<size_t>(n));
    return text;
  }
  std::string rest_of_stdout() { return read_all(out_); }
  std::string rest_of_stderr() { return read_all(err_); }
  // The exit code; -signal where one ended it.
  int wait() {
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  pid_t pid_ = -1;
  int out_ = -1;
  int err_ = -1;
};

class SpawnJob : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!find_mpirun(search_path()).ok()) GTEST_SKIP() << "no mpirun on the PATH";
    if (std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr) GTEST_SKIP() << "runs under mpirun itself";
  }
  struct Outcome {
    int code;
    std::string out, err;
  };
  static Outcome run(const std::string& mode) {
    Child child({SPAWN_PROGRAM, mode, "2"});
    Outcome outcome;
    outcome.out = child.rest_of_stdout();
    outcome.err = child.rest_of_stderr();
    outcome.code = child.wait();
    return outcome;
  }
};

TEST_F(SpawnJob, ResultsComeThrough) {
  const Outcome o = run("hello");
  EXPECT_EQ(o.code, 0);
  EXPECT_EQ(o.out, "result line\n");
  EXPECT_EQ(o.err, "");
}

TEST_F(SpawnJob, WhatAllRanksSeeIsSaidOnce) {
  const Outcome o = run("all-bad");
  EXPECT_EQ(o.code, 5);
  EXPECT_EQ(o.err, "trireme: m: no model here\n");
}

TEST_F(SpawnJob, ARankThatFailsNamesItself) {
  const Outcome o = run("one-bad");
  EXPECT_EQ(o.code, 5);
  EXPECT_EQ(o.err, "trireme: rank 1 (stage 0, shard 1): its shard is damaged\n");
}

TEST_F(SpawnJob, ARankThatCannotGoOnEndsTheOthers) {
  const Outcome o = run("fail");
  EXPECT_EQ(o.code, 6);
  EXPECT_EQ(o.err, "trireme: rank 1 (stage 0, shard 1): a peer is gone\n");
}

TEST_F(SpawnJob, AnExitCodeComesThrough) {
  const Outcome o = run("exit");
  EXPECT_EQ(o.code, 5);
  EXPECT_EQ(o.err, "");
}

TEST_F(SpawnJob, AKilledRankEndsTheJobWithOneMessage) {
  const Outcome o = run("kill");
  EXPECT_EQ(o.code, 6);
  EXPECT_EQ(o.err,
            "trireme: a rank was ended by signal 9, Killed (the kernel does so when memory runs "
            "out): the job is over\n");
}

TEST_F(SpawnJob, SignalsArePassedOn) {
  for (const auto& [signal, code] : {std::pair(SIGTERM, 143), std::pair(SIGINT, 130)}) {
    Child child({SPAWN_PROGRAM, "wait", "2"});
    ASSERT_EQ(child.read_line(), "waiting");
    child.send(signal);
    EXPECT_EQ(child.rest_of_stdout(), "");  // returns once every rank is gone
    EXPECT_EQ(child.rest_of_stderr(), "");
    EXPECT_EQ(child.wait(), code);
  }
}

// launcher --SIGUSR1--> mpirun --SIGUSR1--> ranks, which end by themselves.
TEST_F(SpawnJob, TheFirstSignalDrainsAJobThatServes) {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    Child child({SPAWN_PROGRAM, "drain", "2"});
    ASSERT_EQ(child.read_line(), "waiting");
    child.send(signal);
    EXPECT_EQ(child.rest_of_stdout(), "draining\n");
    EXPECT_EQ(child.rest_of_stderr(), "");
    EXPECT_EQ(child.wait(), 0);
  }
}

TEST_F(SpawnJob, ATerminalsSignalDrainsOnceToo) {
  Child child({SPAWN_PROGRAM, "drain", "2"});
  ASSERT_EQ(child.read_line(), "waiting");
  child.send_to_group(SIGINT);
  EXPECT_EQ(child.rest_of_stdout(), "draining\n");
  EXPECT_EQ(child.rest_of_stderr(), "");
  EXPECT_EQ(child.wait(), 0);
}

TEST_F(SpawnJob, TheSecondSignalEndsIt) {
  for (const auto& [signal, code] : {std::pair(SIGTERM, 143), std::pair(SIGINT, 130)}) {
    Child child({SPAWN_PROGRAM, "drain-long", "2"});
    ASSERT_EQ(child.read_line(), "waiting");
    child.send_to_group(SIGINT);
    ASSERT_EQ(child.read_line(), "draining");
    child.send(signal);
    child.rest_of_stdout();  // returns once every rank is gone
    EXPECT_EQ(child.rest_of_stderr(), "");
    EXPECT_EQ(child.wait(), code);
  }
}

// Ranks that load the model do not know the signal yet: it ends them, which is all that there is to
// drain.
TEST_F(SpawnJob, ASignalBeforeTheJobServesEndsItQuietly) {
  for (const auto& [signal, code] : {std::pair(SIGTERM, 143), std::pair(SIGINT, 130)}) {
    Child child({SPAWN_PROGRAM, "drain-loading", "2"});
    ASSERT_EQ(child.read_line(), "waiting");
    child.send(signal);
    EXPECT_EQ(child.rest_of_stdout(), "");
    EXPECT_EQ(child.rest_of_stderr(), "");
    EXPECT_EQ(child.wait(), code);
  }
}

TEST_F(SpawnJob, TheJobEndsWithItsParent) {
  Child child({SPAWN_PROGRAM, "wait", "2"});
  ASSERT_EQ(child.read_line(), "waiting");
  child.send(SIGKILL);
  child.rest_of_stdout();  // hangs, and the test with it, if a rank outlives the parent
  EXPECT_EQ(child.wait(), -SIGKILL);
}

TEST(Spawn, FindsMpirunOnThePathAndPrefersOpenMpis) {
  const std::filesystem::path folder =
      std::filesystem::path(::testing::TempDir()) / "trireme_spawn_test";
  for (const char* file : {"a/mpirun", "b/mpirun.openmpi", "c/mpirun.openmpi"}) {
    std::filesystem::create_directories((folder / file).parent_path());
    std::ofstream(folder / file) << "#!/bin/sh\n";
    if (std::string(file) != "b/mpirun.openmpi")
      std::filesystem::permissions(folder / file, std::filesystem::perms::owner_all);
  }
  const std::string a = (folder / "a").string(), b = (folder / "b").string(),
                    c = (folder / "c").string();
  EXPECT_EQ(*find_mpirun(a + ":" + c), c + "/mpirun.openmpi");
  EXPECT_EQ(*find_mpirun("::" + a + ":"), a + "/mpirun");
  EXPECT_EQ(*find_mpirun(b + ":" + a), a + "/mpirun");  // b's may not be run
  for (const std::string& path : {std::string(), folder.string()}) {
    const Result<std::string> none = find_mpirun(path);
    ASSERT_FALSE(none.ok());
    EXPECT_NE(none.status().message().find("openmpi-bin"), std::string::npos);
  }
  std::filesystem::remove_all(folder);
}

TEST(Spawn, TheCommandYieldsOnlyWhereRanksShareCores) {
  const std::vector<std::string> args = {"generate", "-p", "a b"};
  const std::vector<std::string> expected = {"/m",
                                             "-q",
                                             "-n",
                                             "2",
                                             "--bind-to",
                                             "none",
                                             "--oversubscribe",
                                             "--mca",
                                             "odls_base_sigkill_timeout",
                                             "0",
                                             "/trireme",
                                             "generate",
                                             "-p",
                                             "a b"};
  EXPECT_EQ(mpirun_command("/m", 2, 2, "/trireme", args), expected);
  const std::vector<std::string> shared = mpirun_command("/m", 4, 2, "/trireme", args);
  EXPECT_NE(std::find(shared.begin(), shared.end(), "mpi_yield_when_idle"), shared.end());
}

TEST(Spawn, ACommandThatCannotRun) {
  ::testing::internal::CaptureStderr();
  const Result<int> code = run_job(std::vector<std::string>{"/no/such/program"});
  const std::string printed = ::testing::internal::GetCapturedStderr();
  ASSERT_TRUE(code.ok());
  EXPECT_EQ(*code, 1);
  EXPECT_EQ(printed, "trireme: cannot run /no/such/program: No such file or directory\n");
}

}  // namespace
}  // namespace trireme

// Spawns itself as ranks, as trireme does, and lets them end in the way that its first argument
// names: spawn_program MODE RANKS. spawn_test reads what comes of it.
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <string>
#include <string_view>
#include <vector>

#include <unistd.h>

#include "launcher/output.h"
#include "launcher/signals.h"
#include "launcher/spawn.h"
#include "launcher/world.h"

namespace trireme {
namespace {

// A job that serves until it is told to stop. "drain": the first signal ends it well. "drain-long":
// what it has to bring to an end never does.
int serve(RankWorld& world, bool ends) {
  if (world.rank != 0) {
    StopSignals::ignore();
    if (Status met = world.world->barrier(); !met.ok()) return fail(world, met, Doing::kRunning);
    return settle(world, world.world->barrier(), Doing::kRunning);
  }
  std::promise<void> first;
  StopSignals signals([&](int count, int) {
    (void)write_result(count == 1 ? "draining\n" : "asked again\n").ok();
    if (count == 1 && ends) first.set_value();
  });
  // Says that it serves once the others do.
  if (Status met = world.world->barrier(); !met.ok()) return fail(world, met, Doing::kRunning);
  if (!write_result("waiting\n").ok()) return kExitRuntime;
  first.get_future().wait();
  return settle(world, world.world->barrier(), Doing::kRunning);
}

int rank_main(std::string_view mode, const LaunchedAs& launched) {
  Result<RankWorld> made = make_world(launched);
  if (!made.ok()) {
    print_error(made.status());
    return kExitRuntime;
  }
  RankWorld& world = *made;
  world.mesh = {.stages = 1, .shards = world.size};
  if (mode == "hello") {
    if (world.rank == 0 && !write_result("result line\n").ok()) return kExitRuntime;
    return settle(world, Status{}, Doing::kRunning);
  }
  if (mode == "drain" || mode == "drain-long") return serve(world, mode == "drain");
  int code = kExitOk;
  if (mode == "all-bad") {
    code = settle(world, not_found("m: no model here"), Doing::kLoadingModel);
  } else if (mode == "one-bad") {
    const Status mine = world.rank == 1 ? data_loss("its shard is damaged") : Status{};
    code = settle(world, mine, Doing::kLoadingModel);
  } else if (world.rank == 1) {
    if (mode == "fail") return fail(world, unavailable("a peer is gone"), Doing::kRunning);
    if (mode == "kill") raise(SIGKILL);
    if (mode == "exit") _exit(kExitModelInvalid);
  }
  if (code != kExitOk) world.mpi->abort(code);
  if (world.rank == 0 && !write_result("waiting\n").ok()) return kExitRuntime;
  // Until somebody ends the job: rank 0 never comes.
  for (;;) {
    if (world.rank == 0) pause();
    const Status met = world.world->barrier();
    if (!met.ok()) return fail(world, met, Doing::kRunning);
  }
}

int spawn_main(const std::vector<std::string>& args) {
  const char* path = std::getenv("PATH");
  const Result<std::string> mpirun = find_mpirun(path == nullptr ? "" : path);
  if (!mpirun.ok()) {
    print_error(mpirun.status());
    return kExitUsage;
  }
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  const Stopping stopping = args[0].starts_with("drain") ? Stopping::kDrain : Stopping::kEnd;
  const Result<int> code =
      run_job(mpirun_command(*mpirun, std::atoi(args[1].c_str()), 1, program, args), stopping);
  if (!code.ok()) print_error(code.status());
  return code.ok() ? *code : kExitRuntime;
}

}  // namespace
}  // namespace trireme

int main(int argc, char** argv) {
  const std::vector<std::string> args(argv + 1, argv + argc);
  if (args.size() != 2) return trireme::kExitUsage;
  const trireme::Result<trireme::LaunchedAs> launched = trireme::launched_as();
  if (!launched.ok()) return trireme::kExitUsage;
  return launched->by_mpi ? trireme::rank_main(args[0], *launched) : trireme::spawn_main(args);
}

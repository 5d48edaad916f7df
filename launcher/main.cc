// trireme: the composition root. Reads the command line, becomes a job of several ranks where the
// mesh needs them, and runs one subcommand.
#include <cstdlib>
#include <filesystem>
#include <new>
#include <string>
#include <system_error>
#include <vector>

#include "kernels/cpu/features.h"
#include "launcher/cli.h"
#include "launcher/commands/commands.h"
#include "launcher/output.h"
#include "launcher/spawn.h"
#include "launcher/version.h"
#include "launcher/world.h"

namespace trireme {
namespace {

int spawn(int ranks, const std::vector<std::string>& args, Stopping stopping) {
  std::error_code error;
  const std::string program = std::filesystem::read_symlink("/proc/self/exe", error).string();
  const char* path = std::getenv("PATH");
  RankWorld alone;
  const Result<std::string> mpirun = find_mpirun(path == nullptr ? "/usr/bin:/bin" : path);
  if (!mpirun.ok()) return fail(alone, mpirun.status(), Doing::kConfiguring);
  const Result<int> code =
      run_job(mpirun_command(*mpirun, ranks, allowed_cores(), program, args), stopping);
  return code.ok() ? *code : fail(alone, code.status(), Doing::kRunning);
}

// generate, score and serve: on every rank.
int run_on_ranks(const CommandLine& line, const LaunchedAs& launched) {
  Result<RankWorld> made = make_world(launched);
  if (!made.ok()) {
    if (launched.rank == 0) print_error(made.status());
    return exit_code(made.status(), Doing::kRunning);
  }
  RankWorld& world = *made;
  const Status meshed = choose_mesh(line.deployment.engine, world.size, world.mesh);
  if (const int code = settle(world, meshed, Doing::kConfiguring); code != kExitOk) return code;
  int code = kExitOk;
  if (line.command == Command::kGenerate) {
    code = run_generate(line.deployment, line.generate, world);
  } else if (line.command == Command::kServe) {
    code = run_serve(line.deployment, world);
  } else {
    code = run_score(line.deployment, line.score, world);
  }
  // To finalize MPI all ranks must come there, and one that failed alone is not waited for.
  if (code != kExitOk && world.mpi != nullptr) world.mpi->abort(code);
  return code;
}

int run_alone(const CommandLine& line) {
  switch (line.command) {
    case Command::kPrint: {
      const Status written = write_result(line.text);
      if (!written.ok()) print_error(written);
      return written.ok() ? kExitOk : kExitRuntime;
    }
    case Command::kTokenize:
      return run_tokenize(line.deployment, line.tokenize);
    case Command::kConvert:
      return run_convert(line.convert);
    case Command::kDoctor:
      return run_doctor(line.doctor);
    case Command::kClient:
      return run_client(line.client);
    default: {
      Result<RankWorld> world = make_world({});
      return run_inspect(line.deployment, line.inspect, *world);
    }
  }
}

int run(const std::vector<std::string>& args) {
  const Result<LaunchedAs> launched = launched_as();
  const Result<CommandLine> line = parse_command_line(args, version_text);
  const Status& wrong = launched.ok() ? line.status() : launched.status();
  if (!wrong.ok()) {
    if (!launched.ok() || launched->rank == 0) print_error(wrong);
    return exit_code(wrong, Doing::kConfiguring);
  }
  const bool on_ranks = line->command == Command::kGenerate || line->command == Command::kScore ||
                        line->command == Command::kServe;
  if (!on_ranks) return launched->rank == 0 ? run_alone(*line) : kExitOk;
  const int ranks = line->deployment.engine.mesh_size();
  if (!launched->by_mpi && ranks > 1)
    return spawn(ranks, args, line->command == Command::kServe ? Stopping::kDrain : Stopping::kEnd);
  return run_on_ranks(*line, *launched);
}

}  // namespace
}  // namespace trireme

int main(int argc, char** argv) {
  try {
    return trireme::run(std::vector<std::string>(argv + std::min(argc, 1), argv + argc));
  } catch (const std::bad_alloc&) {
    trireme::print_message("out of memory");
    return trireme::kExitDoesNotFit;
  }
}

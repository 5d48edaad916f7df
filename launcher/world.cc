#include "launcher/world.h"

#include <chrono>
#include <cstdlib>
#include <functional>
#include <string_view>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "comm/in_process/in_process.h"
#include "launcher/output.h"

namespace trireme {
namespace {

// How long a rank that lost a peer holds its tongue: the peer, or mpirun, ends the job meanwhile,
// and its message is the one that says why.
constexpr auto kLetTheCauseSpeak = std::chrono::milliseconds(500);

// The first of the variables that is a number, or -1.
int number_of(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const char* text = std::getenv(name);
    if (text != nullptr && *text >= '0' && *text <= '9') return std::atoi(text);
  }
  return -1;
}

std::string who(const RankWorld& world) {
  if (world.size == 1) return {};
  if (world.mesh.size() != world.size) return fmt::format("rank {}", world.rank);
  const Coordinate at = world.mesh.coordinate(world.rank);
  return fmt::format("rank {} (stage {}, shard {})", world.rank, at.stage, at.shard);
}

// What a rank tells the others about its outcome.
struct Outcome {
  int32_t code = 0;
  int32_t message_hash = 0;
};

}  // namespace

Result<LaunchedAs> launched_as() {
  LaunchedAs launched;
  const int rank = number_of({"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"});
  launched.by_mpi = rank >= 0;
  if (launched.by_mpi) {
    launched.rank = rank;
    launched.size =
        std::max(number_of({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}), 0);
    return launched;
  }
  if (number_of({"SLURM_STEP_NUM_TASKS"}) > 1)
    return invalid_argument(
        "started by srun as several processes that know nothing of one another: use srun "
        "--mpi=pmix");
  return launched;
}

Result<RankWorld> make_world(const LaunchedAs& launched) {
  RankWorld made;
  if (!launched.by_mpi || launched.size == 1) {
    made.world = std::move(make_in_process_world(1).front());
    return made;
  }
  Result<std::unique_ptr<MpiWorld>> mpi = MpiWorld::init();
  if (!mpi.ok()) return mpi.status();
  made.mpi = mpi.take();
  made.rank = made.mpi->rank();
  made.size = made.mpi->size();
  made.host_rank = made.mpi->host_rank();
  made.host_size = made.mpi->host_size();
  if (launched.size > 1 && made.size == 1)
    return unavailable(fmt::format(
        "started as one of {} ranks, but MPI sees one: this mpirun belongs to another MPI library; "
        "use mpirun.openmpi",
        launched.size));
  Result<std::unique_ptr<Communicator>> world = made.mpi->communicator();
  if (!world.ok()) return world.status();
  made.world = world.take();
  return made;
}

Status choose_mesh(const EngineOptions& engine, int world_size, Mesh& mesh) {
  const auto& shards = engine.tensor_parallel_size;
  const auto& stages = engine.pipeline_parallel_size;
  mesh = {stages.value_or(1), shards.value_or(!stages.has_value() ? world_size : 1)};
  if (mesh.size() == world_size) return {};
  return invalid_argument(fmt::format(
      "the world has {} rank{}, but tensor_parallel_size {} x pipeline_parallel_size {} needs {}: "
      "start it with mpirun -n {}, or without mpirun",
      world_size, world_size == 1 ? "" : "s", mesh.shards, mesh.stages, mesh.size(), mesh.size()));
}

int settle(RankWorld& world, const Status& mine, Doing doing) {
  if (world.size == 1) {
    if (!mine.ok()) print_error(mine);
    return mine.ok() ? kExitOk : exit_code(mine, doing);
  }
  Outcome outcome;
  if (!mine.ok()) {
    outcome.code = exit_code(mine, doing);
    outcome.message_hash = static_cast<int32_t>(std::hash<std::string>()(mine.message()));
  }
  std::vector<Outcome> all(static_cast<size_t>(world.size));
  const Status gathered = world.world->all_gather(tensor(&outcome, 1, 2, DType::kI32),
                                                  tensor(all.data(), world.size, 2, DType::kI32));
  if (!gathered.ok()) return fail(world, mine.ok() ? gathered : mine, doing);
  int first = -1;
  bool same = true;
  for (int rank = 0; rank < world.size; ++rank) {
    const Outcome& o = all[static_cast<size_t>(rank)];
    if (o.code != 0 && first < 0) first = rank;
    same = same && o.code == all[0].code && o.message_hash == all[0].message_hash;
  }
  if (first < 0) return kExitOk;
  if (first == world.rank) print_error(mine, same ? std::string() : who(world));
  // A rank that ends the job before the message is out would take the message with it.
  (void)world.world->barrier().ok();  // if it fails, somebody has ended the job: so be it
  return all[static_cast<size_t>(first)].code;
}

int fail(RankWorld& world, const Status& status, Doing doing) {
  const int code = exit_code(status, doing);
  if (world.size > 1 && status.code() == StatusCode::kUnavailable)
    std::this_thread::sleep_for(kLetTheCauseSpeak);
  print_error(status, who(world));
  if (world.mpi != nullptr && world.size > 1) world.mpi->abort(code);
  return code;
}

}  // namespace trireme

// The world a process finds itself in: alone, or one rank of an MPI job. Made once by main, handed
// to the command that runs; also how a rank says that something went wrong, so that the user reads
// one message and the shell sees one exit code, however many ranks there are.
//
// A world of one never initialises MPI: that would cost 0.3 s at each start.
#pragma once

#include <memory>
#include <string>

#include "comm/communicator.h"
#include "comm/mpi/mpi_world.h"
#include "kernels/base/status.h"
#include "launcher/exit_code.h"
#include "parallel/mesh.h"
#include "runtime/config/deployment.h"

namespace trireme {

struct RankWorld {
  std::unique_ptr<MpiWorld> mpi;        // null in a world of one
  std::unique_ptr<Communicator> world;  // all ranks; destroyed before mpi
  int rank = 0;
  int size = 1;
  int host_rank = 0;  // among the ranks of this host
  int host_size = 1;
  Mesh mesh;  // set by choose_mesh
};

// What mpirun or srun tell a process before MPI_Init, from the environment.
struct LaunchedAs {
  bool by_mpi = false;  // this process is a rank that somebody started
  int rank = 0;
  int size = 0;  // 0 = not told
};
// REQUIRES: no other thread changes the environment.
Result<LaunchedAs> launched_as();

// The world of this process. kUnavailable: MPI does not start, or is not the one of the mpirun that
// started us.
Result<RankWorld> make_world(const LaunchedAs& launched);

// Settles the mesh: what `engine` says, or all ranks as shards of one stage where it says nothing.
// kInvalidArgument says how to start the job where the world has another size.
Status choose_mesh(const EngineOptions& engine, int world_size, Mesh& mesh);

// Every rank calls it after something that each did alone, as loading its part of the weights, with
// its own outcome. 0 where all are well; else one rank has printed one message (without naming a
// rank where all say the same), and every rank gets the same exit code to return.
int settle(RankWorld& world, const Status& mine, Doing doing);

// For one rank that cannot go on: prints "trireme: rank 2 (stage 1, shard 0): <message>" and ends
// the whole job with the exit code; in a world of one prints and returns the code.
int fail(RankWorld& world, const Status& status, Doing doing);

}  // namespace trireme

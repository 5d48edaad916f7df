#include "comm/mpi/mpi_world.h"

#include <cstdlib>

#include <mpi.h>

#include "comm/mpi/mpi_call.h"
#include "comm/mpi/mpi_communicator.h"

namespace trireme {
namespace {

class World final : public MpiWorld {
 public:
  explicit World(const MpiOptions& options) : options_(options) {}

  Status find_ranks() {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    MPI_Comm host = MPI_COMM_NULL;
    Status status = mpi_status(
        MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &host),
        "finding the ranks of this host");
    if (!status.ok()) return status;
    MPI_Comm_rank(host, &host_rank_);
    MPI_Comm_size(host, &host_size_);
    return mpi_status(MPI_Comm_free(&host), "finding the ranks of this host");
  }

  // The body runs before the members go: what is under way stays in memory until MPI is done.
  ~World() override { MPI_Finalize(); }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int host_rank() const override { return host_rank_; }
  int host_size() const override { return host_size_; }

  Result<std::unique_ptr<Communicator>> communicator() override {
    MPI_Comm comm = MPI_COMM_NULL;
    Status status =
        mpi_status(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "making a communicator of all ranks");
    if (!status.ok()) return status;
    return make_mpi_communicator(comm, options_, &outboxes_);
  }

  [[noreturn]] void abort(int exit_code) override {
    MPI_Abort(MPI_COMM_WORLD, exit_code);
    std::_Exit(exit_code);
  }

 private:
  const MpiOptions options_;
  int rank_ = 0, size_ = 1, host_rank_ = 0, host_size_ = 1;
  Outboxes outboxes_;
};

}  // namespace

Result<std::unique_ptr<MpiWorld>> MpiWorld::init(const MpiOptions& options) {
  int provided = MPI_THREAD_SINGLE;
  Status status = mpi_status(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided),
                             "starting MPI");
  if (!status.ok()) return status;
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  auto world = std::make_unique<World>(options);  // from here on somebody finalizes
  if (provided < MPI_THREAD_SERIALIZED) {
    return unavailable(
        "this MPI library does not let a second thread make calls (MPI_THREAD_SERIALIZED): use one "
        "that was built with threads");
  }
  if (status = world->find_ranks(); !status.ok()) return status;
  return std::unique_ptr<MpiWorld>(std::move(world));
}

}  // namespace trireme

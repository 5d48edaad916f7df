// What becomes of a job when something goes wrong in one rank. Started by mpirun; the test looks at
// the exit code and at the time it took (mpi_failures.cmake).
//
//   abort          rank 1 ends the job with code 6 while the others wait in a collective
//   abort-thread   the same, called by a second thread while the first waits in a collective too
//   die            rank 1 is killed while the others wait in a collective: no code of ours runs
//   exit           rank 1 leaves main without a word, MPI not finalized
//   leave          rank 1 drops its communicator: the collectives of the others say so, code 0
//   unreceived     messages that nobody receives do not keep the job from ending, with code 0
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>
#include <vector>

#include "comm/mpi/mpi_world.h"

namespace trireme {
namespace {

// The exit code of this rank.
int run(MpiWorld& world, std::string_view what) {
  auto made = world.communicator();
  if (!made.ok()) return 2;
  std::unique_ptr<Communicator> all = made.take();
  std::vector<float> x(10000, 1.0f);
  const TensorView view = tensor(x.data(), 1, int64_t(x.size()));
  if (!all->all_reduce_sum(view).ok()) return 2;

  if (what == "unreceived") {
    std::vector<std::byte> large(size_t{8} << 20);
    const int next = (all->rank() + 1) % all->size();
    const TensorView bytes = tensor(large.data(), 1, int64_t(large.size()), DType::kI8);
    const bool sent = all->send(view, next).ok() && all->send(bytes, next).ok();
    return sent && all->barrier().ok() ? 0 : 2;
  }
  if (all->rank() == 1) {
    if (what == "abort") world.abort(6);
    if (what == "abort-thread") {
      std::thread([&world] { world.abort(6); }).detach();
      (void)all->receive(view, 0);  // never sent
      return 2;
    }
    if (what == "die") std::raise(SIGKILL);
    if (what == "exit") std::_Exit(0);
    if (what == "leave") {
      all.reset();
      return 0;
    }
    return 2;
  }
  const Status status = all->all_reduce_sum(view);
  const bool named = status.code() == StatusCode::kUnavailable &&
                     status.message().find("rank 1 of") != std::string::npos;
  if (!named) std::fprintf(stderr, "rank %d: %s\n", all->rank(), status.message().c_str());
  return what == "leave" && named ? 0 : 2;
}

}  // namespace
}  // namespace trireme

int main(int argc, char** argv) {
  auto world = trireme::MpiWorld::init();
  if (!world.ok() || argc != 2) return 2;
  const int code = trireme::run(**world, argv[1]);
  if (code != 0) (*world)->abort(code);
  return 0;
}

#include "comm/mpi/mpi_call.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include <fmt/format.h>
#include <sched.h>

namespace trireme {
namespace {

// Calls test(&done), which returns an MPI error code, until it is done.
template <class Test>
int wait_until_done(Test test) {
  using Clock = std::chrono::steady_clock;
  using std::chrono::microseconds;
  constexpr int kTests = 200;
  constexpr auto kYield = microseconds(500), kSleepMin = microseconds(5);
  constexpr auto kSleepMax = microseconds(500);

  int done = 0;
  for (int i = 0; i < kTests; ++i) {
    const int code = test(&done);
    if (done != 0 || code != MPI_SUCCESS) return code;
  }
  for (const Clock::time_point start = Clock::now();;) {
    const auto waited = std::chrono::duration_cast<microseconds>(Clock::now() - start);
    if (waited < kYield) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(std::clamp(waited / 100, kSleepMin, kSleepMax));
    }
    const int code = test(&done);
    if (done != 0 || code != MPI_SUCCESS) return code;
  }
}

}  // namespace

Status mpi_status(int code, std::string_view what) {
  if (code == MPI_SUCCESS) return {};
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  return unavailable(fmt::format("{}: {}", what, std::string_view(text, size_t(length))));
}

Status mpi_wait(MPI_Request* request, std::string_view what) {
  const int code =
      wait_until_done([request](int* done) { return MPI_Test(request, done, MPI_STATUS_IGNORE); });
  return mpi_status(code, what);
}

Status mpi_next_message(MPI_Comm comm, int from, int tag, MPI_Message* message, int* bytes) {
  MPI_Status probed;
  int code = wait_until_done(
      [&](int* found) { return MPI_Improbe(from, tag, comm, found, message, &probed); });
  if (code == MPI_SUCCESS) code = MPI_Get_count(&probed, MPI_BYTE, bytes);
  return mpi_status(code, "waiting for a message");
}

}  // namespace trireme

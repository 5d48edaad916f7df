// How a rank's NCCL communicators behave. Filled by who makes the device's communicator.
#pragma once

#include <chrono>
#include <functional>

#include "kernels/base/status.h"

namespace trireme {

struct NcclOptions {
  int ordinal = 0;  // of the GPU, as the CUDA runtime counts; the device's own

  // How long ranks may take to find one another when a communicator is made or first used.
  std::chrono::milliseconds connect_deadline{120'000};
  // How long queued work of NCCL may stand at the head of its stream without ending: the slowest
  // rank's longest step, and then some.
  std::chrono::milliseconds work_deadline{60'000};
  // How long a communicator that is dropped waits for its work and its sends to end.
  std::chrono::milliseconds finish_deadline{5'000};
  // How often the watchdog looks. While sends wait for their turn it looks every millisecond.
  std::chrono::milliseconds poll_interval{10};

  // What deadlines are measured by; asked from the rank's thread and from the watchdog's.
  std::function<std::chrono::steady_clock::time_point()> now = std::chrono::steady_clock::now;

  // Each message is preceded by its length over the control communicator, so that one of the wrong
  // length is a Status at once and not a deadline. The receiver then waits for the sender's call.
  bool check_messages = false;

  // Called once, when the rank's NCCL has failed, from the thread that found out: the watchdog's or
  // the rank's own. The communicators answer with the same Status from then on. It is called before
  // NCCL is aborted, since that may take long or for ever; it may end the process, and it may not
  // wait for the rank's thread.
  std::function<void(const Status&)> on_failure;
};

}  // namespace trireme

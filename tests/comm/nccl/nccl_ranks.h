// Ranks as threads, each with an emulated GPU of its own whose streams run by themselves, and a
// communicator over a FakeNccl.
#pragma once

#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "comm/nccl/nccl_communicator.h"
#include "kernels/device.h"
#include "tests/comm/nccl/fake_nccl.h"

namespace trireme {

// One rank as its thread sees it.
struct NcclTestRank {
  NcclCommunicator& world;
  Device& device;
};

// Runs `body` on each of `size` ranks; the answers, by rank. All has been given back when it
// returns. Meanwhile `meanwhile(over)` runs here, until it returns; `over` becomes true when all
// ranks have ended.
std::vector<Status> run_nccl_ranks(
    int size, const FakeNccl& nccl, const std::function<NcclOptions(int rank)>& options,
    const std::function<Status(NcclTestRank&)>& body,
    const std::function<void(const std::atomic<bool>& over)>& meanwhile = {});

// The failures that hide in a test that went well: broken rules of NCCL, communicators that were
// never given back. Empty: none.
std::string complaints(const FakeNccl& nccl);

// Floats on the device.
class DeviceFloats {
 public:
  DeviceFloats(Device& device, int64_t rows, int64_t cols, int64_t gap = 0);
  TensorView view() const;
  // Queued: float i of a row becomes first + i, rows follow one another.
  void set(float first);
  // Waits for the device; the floats, row after row.
  Result<std::vector<float>> get();

 private:
  Device& device_;
  int64_t rows_, cols_, gap_;
  std::list<std::vector<float>> sources_;  // of copies that are queued
  Buffer memory_;                          // let go of first: that waits for the device
};

}  // namespace trireme

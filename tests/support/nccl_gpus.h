// GPUs of one host with NCCL between them, for ranks that are threads: the machine's own, by way of
// libtrireme_cuda.so and libnccl.so.2, or emulated ones and a NCCL of threads. Whatever runs on the
// one kind runs on the other, so that on a machine with GPUs nothing but these libraries is new.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/nccl/options.h"
#include "kernels/device.h"

namespace trireme::test {

class NcclGpus {
 public:
  virtual ~NcclGpus() = default;
  virtual int count() const = 0;

  // Both are called by the thread of the rank that uses what they give. The world goes over NCCL
  // where it has two ranks or more, or it is an error that says why not. `options.ordinal` is the
  // device's.
  virtual Result<std::unique_ptr<Device>> make_device(int ordinal) = 0;
  virtual Result<std::unique_ptr<Communicator>> make_world(std::unique_ptr<Communicator> control,
                                                           Device& device,
                                                           const NcclOptions& options) = 0;

  // Failures that hide in a run that went well, as far as they are seen: broken rules of NCCL,
  // communicators that were never given back. Empty: none.
  virtual std::string complaints() const { return ""; }
};

// The machine's. kUnavailable: one sentence that says why there are not two GPUs with NCCL.
Result<std::unique_ptr<NcclGpus>> find_nccl_gpus();

// Eight emulated ones. One such object exists at a time.
std::unique_ptr<NcclGpus> emulate_nccl_gpus();

// One rank as its thread sees it.
struct GpuRank {
  Communicator& world;
  Device& device;
};

// Runs `body` on `size` ranks, each with a GPU of its own; the answers, by rank. REQUIRES: size <=
// gpus.count().
std::vector<Status> run_gpu_ranks(NcclGpus& gpus, int size, const NcclOptions& options,
                                  const std::function<Status(GpuRank&)>& body);

}  // namespace trireme::test

// A communicator for the tensors of one GPU, over NCCL, beside one for those of the host.
//
// Host tensors, barriers and splits go to the `control` communicator (MPI, or ranks of one
// process); so does the unique id of each NCCL communicator. Device tensors go over NCCL on the
// device's queue. Which NCCL communicators there are follows from the calls: one for a group that
// does collectives on device tensors, made by its first one; one for each way of a pair that sends
// device tensors, made by its first send and receive. So there is one for each tensor-parallel
// group and one for each pipeline edge, and none for the world. A first call is never recorded into
// a graph.
//
// All NCCL communicators of a rank fail together. After a failure every call answers with the same
// Status; what the device computed meanwhile may be garbage, so ask a communicator (or status())
// after Device::synchronize() before results leave the rank.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "comm/nccl/nccl_api.h"
#include "comm/nccl/options.h"
#include "kernels/device.h"

namespace trireme {

// The world's communicator, with what concerns all groups of the rank.
class NcclCommunicator : public Communicator {
 public:
  // Ok, or why NCCL has failed on this rank. From any thread.
  virtual Status status() const = 0;

  // Collectives of this group that read and write inside [data, data + bytes) need no copy through
  // NCCL's own buffers. Helps tensors of about a megabyte and more that are not recorded: between
  // GPUs of one NVLink switch (NVLS), and between hosts. NCCL registers the memory of recorded
  // calls by itself. Local; makes the group's communicator if there is none, so all ranks call it
  // for a first time together. The memory outlives the registration; unregistering it, and the
  // communicator's end, end that.
  virtual Status register_buffer(void* data, size_t bytes) = 0;
  virtual void unregister_buffer(void* data) = 0;

  // Watches all that is on the device's queue now, as `what` (a string that lives for ever): called
  // after a graph was launched, whose collectives the watchdog has not seen queued.
  virtual Status watch_queue(const char* what) = 0;
};

// Every rank calls it, on the thread that will use it, with `control` for the same ranks. `api` and
// `device` outlive the communicator and all that are split from it; graphs in which its calls were
// recorded do not. Does not wait for the other ranks. kUnavailable: the GPU does not answer.
Result<std::unique_ptr<NcclCommunicator>> make_nccl_communicator(
    std::unique_ptr<Communicator> control, Device& device, const NcclApi& api,
    const NcclOptions& options);

}  // namespace trireme

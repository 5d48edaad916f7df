// The communicator of a rank with a GPU: all ranks agree on the way, and each wraps its own.
//
//   control (MPI, or ranks of one process)  ->  NCCL beside it, or staged over it
#pragma once

#include <memory>

#include "comm/nccl/nccl_communicator.h"
#include "comm/nccl/way.h"

namespace trireme {

struct DeviceCommunicator {
  std::unique_ptr<Communicator> world;  // takes tensors of the host and of the device
  NcclCommunicator* nccl = nullptr;     // the same, where it goes over NCCL
  DeviceWayChoice choice;
};

// This host and GPU, as choose_device_way compares them; `api` is null where there is no NCCL.
// kUnavailable: the GPU does not answer.
Result<RankGpu> describe_rank_gpu(int ordinal, const NcclApi* api);

// Every rank of `control` calls it, on the thread that will use the communicator. `device`, and
// `api` unless it is null, outlive the communicator and all that are split from it.
Result<DeviceCommunicator> make_device_communicator(std::unique_ptr<Communicator> control,
                                                    Device& device, const NcclApi* api,
                                                    const NcclOptions& options);

}  // namespace trireme

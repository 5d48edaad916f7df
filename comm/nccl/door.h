// What libtrireme_cuda.so offers the main program besides devices: communicators for their tensors.
// See kernels/cuda/plugin/plugin.h for the library as a whole, whose `abi` covers this too.
#pragma once

#include <memory>
#include <string>

#include "comm/communicator.h"
#include "comm/nccl/device_communicator.h"
#include "comm/nccl/options.h"

namespace trireme {

inline constexpr const char* kNcclDoorName = "trireme_nccl_door";

class NcclDoor {
 public:
  virtual ~NcclDoor() = default;

  // "NCCL 2.28.9". Looks for the library the first time. kUnavailable: why there is none, one
  // sentence.
  virtual Result<std::string> version() const = 0;

  // As make_device_communicator() says, with whatever NCCL this host has. One NCCL for a process.
  virtual Result<DeviceCommunicator> make(std::unique_ptr<Communicator> control, Device& device,
                                          const NcclOptions& options) const = 0;
};

// The type of the exported function.
using NcclDoorFunction = const NcclDoor*();

}  // namespace trireme

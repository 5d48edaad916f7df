// Tensors of any device, moved by a communicator that moves host memory: copied to the host, handed
// on, copied back. The way for ranks that share one GPU, which NCCL refuses, and for hosts without
// NCCL. Host tensors go straight through.
//
// Every call on a device's tensor waits for the device, so none may be recorded into a graph. Sums
// keep rank order: the inner communicator adds.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "kernels/device.h"

namespace trireme {

// `device` outlives the communicator and all that are split from it. REQUIRES: device.place() is
// not the host.
std::unique_ptr<Communicator> make_staged_communicator(std::unique_ptr<Communicator> inner,
                                                       Device& device);

}  // namespace trireme

// Messages of any length between two ranks of a communicator. A short one travels in a single
// frame.
//
// INVARIANT: messages from one rank to another arrive in the order in which they were sent.
#pragma once

#include <span>
#include <vector>

#include "comm/communicator.h"

namespace trireme {

inline constexpr size_t kMessageBytesMax = size_t{256} << 20;

// May return before the message has arrived. Errors: the communicator's.
Status send_message(Communicator& ranks, int to, std::span<const std::byte> message);

// Errors: the communicator's; kDataLoss where what arrives is no message.
Result<std::vector<std::byte>> receive_message(Communicator& ranks, int from);

}  // namespace trireme

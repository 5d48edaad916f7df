#include "comm/wire/messenger.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

namespace trireme {
namespace {

constexpr uint32_t kMagic = 0x3147534d;  // "MSG1"

// The first thing that is sent: the length, and as much of the message as fits.
struct Frame {
  uint32_t magic = kMagic;
  uint32_t bytes = 0;
  std::byte start[2040] = {};
};
static_assert(sizeof(Frame) % sizeof(int32_t) == 0);

TensorView words(void* data, size_t bytes) {
  return tensor(data, 1, static_cast<int64_t>(bytes / sizeof(int32_t)), DType::kI32);
}

size_t padded(size_t bytes) { return (bytes + sizeof(int32_t) - 1) / sizeof(int32_t) * 4; }

}  // namespace

Status send_message(Communicator& ranks, int to, std::span<const std::byte> message) {
  CHECK(message.size() <= kMessageBytesMax) << "a message of " << message.size() << " bytes";
  Frame frame;
  frame.bytes = static_cast<uint32_t>(message.size());
  const size_t inside = std::min(message.size(), sizeof(frame.start));
  std::memcpy(frame.start, message.data(), inside);
  if (Status s = ranks.send(words(&frame, sizeof(frame)), to); !s.ok()) return s;
  if (inside == message.size()) return {};
  std::vector<std::byte> rest(padded(message.size() - inside));
  std::memcpy(rest.data(), message.data() + inside, message.size() - inside);
  return ranks.send(words(rest.data(), rest.size()), to);
}

Result<std::vector<std::byte>> receive_message(Communicator& ranks, int from) {
  Frame frame;
  if (Status s = ranks.receive(words(&frame, sizeof(frame)), from); !s.ok()) return s;
  if (frame.magic != kMagic || frame.bytes > kMessageBytesMax)
    return data_loss(fmt::format("what rank {} sent is no message", from));
  std::vector<std::byte> message(frame.bytes);
  const size_t inside = std::min(message.size(), sizeof(frame.start));
  std::memcpy(message.data(), frame.start, inside);
  if (inside == message.size()) return message;
  std::vector<std::byte> rest(padded(message.size() - inside));
  if (Status s = ranks.receive(words(rest.data(), rest.size()), from); !s.ok()) return s;
  std::memcpy(message.data() + inside, rest.data(), message.size() - inside);
  return message;
}

}  // namespace trireme

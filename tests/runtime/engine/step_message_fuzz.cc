// Any bytes as a step message: refused, or read as a message that is written as the same bytes.
#include <algorithm>

#include "kernels/base/check.h"
#include "runtime/engine/step_message.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  const trireme::Result<trireme::StepMessage> message = trireme::read_step_message(bytes);
  if (message.ok()) CHECK(std::ranges::equal(trireme::write_step_message(*message), bytes));
  return 0;
}

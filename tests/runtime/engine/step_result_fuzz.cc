// Any bytes as a step result: refused, or read as a result that is written as the same bytes.
#include <algorithm>

#include "kernels/base/check.h"
#include "runtime/engine/step_result.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  const trireme::Result<trireme::StepResult> result = trireme::read_step_result(bytes);
  if (result.ok()) CHECK(std::ranges::equal(trireme::write_step_result(*result), bytes));
  return 0;
}

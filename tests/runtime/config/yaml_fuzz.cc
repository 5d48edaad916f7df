// Any bytes are a Deployment or one error that begins with the file's name; nothing throws, hangs
// or reads out of bounds. What was read obeys the invariants of deployment.h, and reading it twice
// gives the same.
#include <cstdlib>
#include <string_view>

#include "runtime/config/config_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  trireme::Deployment deployment;
  const trireme::Status status = trireme::read_config(text, "f.yaml", "", deployment);
  if (!status.ok()) {
    if (!status.message().starts_with("f.yaml")) std::abort();
    if (!(deployment == trireme::Deployment{})) std::abort();
    return 0;
  }
  trireme::Deployment again;
  if (!trireme::read_config(text, "f.yaml", "", again).ok() || !(again == deployment)) std::abort();
  if (!deployment.generate.prompts.empty() && !deployment.generate.prompt_file.empty())
    std::abort();
  (void)trireme::validate(deployment).ok();
  return 0;
}

// How large a step may be, where the deployment leaves that to the device.
#pragma once

#include <cstdint>

#include "runtime/config/deployment.h"

namespace trireme {

struct StepLimits {
  uint32_t rows = 0;       // tokens that are computed
  uint32_t sequences = 0;  // may be more than rows
};

// A GPU is at its best with steps that would keep a CPU from its next tokens for seconds. REQUIRES:
// not kAuto.
inline StepLimits step_limits(const EngineOptions& engine, DeviceKind device) {
  const bool gpu = device == DeviceKind::kCuda;
  return {static_cast<uint32_t>(engine.max_num_batched_tokens.value_or(gpu ? 2048 : 512)),
          static_cast<uint32_t>(engine.max_num_seqs.value_or(gpu ? 256 : 64))};
}

}  // namespace trireme

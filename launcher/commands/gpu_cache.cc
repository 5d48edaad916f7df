#include "launcher/commands/gpu_cache.h"

#include <cmath>

#include <fmt/format.h>

#include "runtime/config/units.h"

namespace trireme {

Result<uint64_t> gpu_cache_bytes(DeviceMemory memory, float utilization, int ranks,
                                 uint64_t executor_bytes) {
  CHECK(memory.bytes_total > 0 && memory.bytes_free <= memory.bytes_total);
  CHECK(utilization > 0 && utilization <= 1 && ranks >= 1);
  // 0.9 as it was written, not the float's 0.899999976.
  const double share = std::round(static_cast<double>(utilization) * 1e6) / 1e6;
  const auto allowed =
      static_cast<uint64_t>(std::floor(static_cast<double>(memory.bytes_total) * share));
  const uint64_t used = memory.bytes_total - memory.bytes_free;
  const uint64_t left = allowed > used ? (allowed - used) / static_cast<uint64_t>(ranks) : 0;
  if (left > executor_bytes) return left - executor_bytes;
  return resource_exhausted(fmt::format(
      "no memory of the GPU is left for the cache: of {} gpu_memory_utilization {} allows {}, and "
      "weights, workspaces and other programs use {}: lower max_num_batched_tokens or raise "
      "gpu_memory_utilization",
      format_size(memory.bytes_total), share, format_size(allowed),
      format_size(used + executor_bytes)));
}

}  // namespace trireme

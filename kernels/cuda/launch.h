// Queues a kernel on a context's stream. The only place where kernels are launched.
#pragma once

#include <cstdint>
#include <utility>

#include <cuda_runtime.h>

#include "kernels/cuda/context.h"

namespace trireme::cuda {

// More shared memory than this must be asked for by kernel.
inline constexpr size_t kSharedBytesAlways = size_t{48} << 10;

// What a block may have on every GPU (sm_86, sm_89, sm_120). More is for those whose
// Context::shared_bytes_max() says so.
inline constexpr size_t kSharedBytesLeast = size_t{99} << 10;

struct Grid {
  dim3 blocks;
  dim3 threads;
  size_t shared_bytes = 0;
  // The kernel may begin while the one before it ends: it calls previous_done() before it touches
  // anything that kernels write (device/overlap.cuh).
  bool overlaps = false;
};

// A grid without blocks is nothing to do. `name` is what an error is called by.
template <class... P, class... A>
void launch(Context& context, const char* name, const Grid& grid, void (*kernel)(P...),
            A&&... args) {
  if (grid.blocks.x == 0 || grid.blocks.y == 0 || grid.blocks.z == 0) return;
  context.leave({});
  if (grid.shared_bytes > kSharedBytesAlways) {
    context.note(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(grid.shared_bytes)),
                 name);
  }
  // What is left of a multiprocessor's memory is its L1 cache, and blocks that want another
  // division wait until it is idle. Left to itself the driver may divide it by each kernel's own
  // needs (132 KB for one block that streams weights, 228 for two of decode attention): kernels
  // that begin before others have ended all ask for the same. Read about, not measured.
  if (grid.overlaps) {
    context.note(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                      cudaSharedmemCarveoutMaxShared),
                 name);
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid.blocks;
  config.blockDim = grid.threads;
  config.dynamicSmemBytes = grid.shared_bytes;
  config.stream = context.stream();
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  if (grid.overlaps && context.capability() >= 90) {
    config.attrs = &overlap;
    config.numAttrs = 1;
  }
  context.note(cudaLaunchKernelEx(&config, kernel, static_cast<P>(std::forward<A>(args))...), name);
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace trireme::cuda

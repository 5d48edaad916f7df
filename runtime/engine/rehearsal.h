// Steps as large as they will ever be, before the cache is sized: what they make a device allocate
// (scratch memory of kernels, the sampler's, buffers of communicators, recordings) is there then,
// and the cache gets what is really left.
#pragma once

#include <cstdint>

#include "runtime/engine/executor.h"

namespace trireme {

// Runs a prefill of all rows that a step may have, and decodes of some sizes, recorded where steps
// are, over an executor with a cache of its own, which is gone when this returns. `options` are
// those of the executor to come, but `cache_bytes`: the most that its cache may have.
//
// Returns the bytes that the executor to come will take beside its cache and beside what is in use
// now: its buffers, and recordings of all sizes of steps. The first sizes that are recorded show
// what one takes.
//
// Every rank of `world` calls it. kResourceExhausted: not even this fits, or not one sequence.
// REQUIRES: the device has memory of its own.
Result<uint64_t> rehearse(Device& device, Communicator& world, const Groups& groups, Model& model,
                          const ExecutorOptions& options);

}  // namespace trireme

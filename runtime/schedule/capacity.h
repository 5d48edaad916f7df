// Whether a request can ever run in this worker's cache.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/base/status.h"
#include "runtime/cache/layout.h"

namespace trireme {

// Ok, or kInvalidArgument where a request needs at some time more blocks of a class (`peak`) than
// there are (`total`): with the class, both numbers in blocks, tokens and bytes of this rank, and
// what to lower. Of several classes the one that is exceeded most.
Status can_ever_fit(const CacheLayout& layout, std::span<const uint32_t> total,
                    std::span<const uint32_t> peak);

}  // namespace trireme

// What a sublayer remembers about a sequence, said in bytes. Cache, planner and pool move and count
// these bytes; only the sublayer that declared them knows what they mean.
#pragma once

#include <cstdint>

namespace trireme {

struct StateSpec {
  enum class Growth : uint8_t {
    kNone,      // SwiGLU
    kFixed,     // one state for the whole sequence: RWKV, retention
    kPerToken,  // one row for each token: keys and values
  };
  Growth growth = Growth::kNone;
  uint64_t bytes = 0;          // of the whole state, or of one token's row, on this shard; 0 for a
                               // sublayer of another pipeline stage
  uint32_t window_tokens = 0;  // kPerToken: a row at p reads rows (p - window, p]; 0: all of [0, p]
};

}  // namespace trireme

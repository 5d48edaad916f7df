// A paged cache of keys and values for tests: blocks in shuffled order, all bytes NaN before they
// are written, gaps between blocks, and tables that hold only what a window can still see.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tests/contract/ops_support.h"

namespace trireme::contract {

struct CacheSpec {
  int32_t kv_heads = 1;
  int32_t head_dim = 16;
  int32_t block_tokens = 16;
  int32_t window_tokens = 0;
  DType dtype = DType::kF32;
};

class Cache {
 public:
  // Room for sequences of the given lengths. `shuffle` decides which blocks they get.
  Cache(Device& device, const CacheSpec& spec, const std::vector<int32_t>& lengths,
        uint64_t shuffle);

  // The view of some of the sequences, in this order, with the blocks that rows at positions from
  // first_positions[i] on may see. Valid until the next call.
  KvView view(const std::vector<int32_t>& sequences, const std::vector<int32_t>& first_positions);

 private:
  Device* device_;
  CacheSpec spec_;
  int64_t block_stride_;
  Buffer buffer_;
  std::vector<std::vector<int32_t>> blocks_;  // [sequence][block of the sequence]
  std::unique_ptr<Array<int32_t>> table_, first_block_;
};

// Keys, values and queries of whole sequences, on the host; values are rounded to the dtype of the
// cache, as it stores them.
struct Sequences {
  Sequences(Random& random, const CacheSpec& spec, int32_t heads,
            const std::vector<int32_t>& lengths);
  std::vector<std::vector<std::vector<float>>> q, k, v;  // [sequence][position][column]

  // Rows of a batch, on the device, as given by its sequences and positions.
  static Mat rows(Device& device, const std::vector<std::vector<std::vector<float>>>& of,
                  const std::vector<int32_t>& sequences, const Batch& batch, int64_t pad);
};

// What attend() promises for one row, in f64: [heads * head_dim].
std::vector<double> attention_of(const Sequences& all, const CacheSpec& spec, int32_t sequence,
                                 int32_t position, double scale);

}  // namespace trireme::contract

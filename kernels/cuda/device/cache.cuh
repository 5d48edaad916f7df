// How keys and values lie in a block of the cache of a CUDA device: all keys, then all values, each
// [kv head][token][element]. A token's key of one head is one run of memory, and those of the
// following tokens come after it: what both decode (a lane for 16 bytes) and tensor cores read.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/cuda/device/block.cuh"
#include "kernels/ops.h"

namespace trireme::cuda {

// The cache of one sequence of a step.
struct SequenceCache {
  std::byte* blocks;
  int64_t block_stride;
  const int32_t* table;  // table[i]: the block of the positions from (first_block + i) * tokens on
  int32_t first_block;
  int32_t block_tokens, kv_heads, head_dim;

  // The key of `head` at `position`; the value lies value_offset() elements after it.
  template <class T>
  __device__ T* key(int32_t position, int32_t head) const {
    const int32_t block = quotient(position, block_tokens);
    std::byte* bytes = blocks + table[block - first_block] * block_stride;
    return reinterpret_cast<T*>(bytes) +
           (int64_t{head} * block_tokens + (position - block * block_tokens)) * head_dim;
  }
  __device__ int64_t value_offset() const { return int64_t{kv_heads} * block_tokens * head_dim; }
};

__device__ __forceinline__ SequenceCache sequence_cache(const KvView& cache, int sequence) {
  return {cache.blocks,
          cache.block_stride,
          cache.block_table + int64_t{sequence} * cache.table_stride,
          cache.first_block[sequence],
          cache.block_tokens,
          cache.kv_heads,
          cache.head_dim};
}

}  // namespace trireme::cuda

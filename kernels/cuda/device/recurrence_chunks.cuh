// What the chunked kernels of matrix states have in common (ops/wkv7_chunks.cuh,
// ops/retention_chunks.cuh).
//
// A block takes one head, or some of its values, through a whole run, in chunks of 8 rows. Some of
// its warps keep the state in registers; the others work ahead of them, on what does not depend on
// the state. The phases of a chunk are steps of one loop with one barrier at its end:
//
//   step n:    preparing warps    chunk n from registers to shared memory, loads of chunk n + 1
//                                 products of the rows of chunk n - 1 with each other, ...
//              state warps        chunk n - kAhead: outputs, and the state after it
//
// Each kind has this loop for itself, with as many barriers: a barrier counts the warps that reach
// it, wherever in the program they wait (PTX ISA, barrier.sync), and one loop for both would keep
// the registers of both alive.
//
// The state is never read from shared memory. In retention a thread of the state warps has some
// keys of some values and the lanes of a warp share out the keys, so that each number that is read
// goes into as many products as a thread has values, and sums over keys are folds over lanes;
// RWKV-7's lies as tensor cores have it.
//
// Chunks lie on multiples of 8 positions: a run that is cut there gives the same bits as the whole.
// Rows of a chunk that are not of the run are rows that change nothing.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/cuda/device/runs.cuh"

namespace trireme::cuda {

inline constexpr int kChunk = 8;
inline constexpr int kStateWarps = 4, kPrepareWarps = kChunk / 2;  // retention
inline constexpr int kChunkThreads = (kStateWarps + kPrepareWarps) * 32;
inline constexpr int32_t kChunkRowsLeast = 16;  // shorter runs are walked row by row

struct ChunkGrid {
  int32_t first_row, rows;
  int32_t lead;  // rows of the first chunk that lie before the run

  __device__ ChunkGrid(const Run& run, const Ragged& all)
      : first_row(run.first_row), rows(run.rows), lead(all.positions[run.first_row] % kChunk) {}
  __device__ int32_t chunks() const { return (lead + rows + kChunk - 1) / kChunk; }
  __device__ bool has(int32_t chunk, int i) const {
    const int32_t r = chunk * kChunk + i - lead;
    return r >= 0 && r < rows;
  }
  __device__ int64_t row(int32_t chunk, int i) const {
    return int64_t{first_row} + chunk * kChunk + i - lead;
  }
};

}  // namespace trireme::cuda

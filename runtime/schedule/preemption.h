// How a sequence that has to yield its blocks gets its state back: by computing it again, or from
// host memory where its bytes were put. Pure.
#pragma once

#include <cstdint>

namespace trireme {

enum class PreemptionPolicy : uint8_t { kAuto, kSpill, kRecompute };

// What this worker was seen to do, in smoothed figures.
struct CostRates {
  double rows_per_second = 0;     // of steps with many rows; 0: not known yet
  double bytes_per_second = 4e9;  // of copies between the cache and host memory

  // A step of so many rows took so long. Few rows say nothing about prefill.
  void note_step(uint32_t rows, double seconds) {
    constexpr uint32_t kRowsMin = 32;
    if (rows < kRowsMin || seconds <= 0) return;
    const double seen = rows / seconds;
    rows_per_second = rows_per_second == 0 ? seen : 0.8 * rows_per_second + 0.2 * seen;
  }
  void note_copy(uint64_t bytes, double seconds) {
    if (bytes == 0 || seconds <= 0) return;
    bytes_per_second = 0.8 * bytes_per_second + 0.2 * static_cast<double>(bytes) / seconds;
  }
};

struct SpillQuestion {
  uint32_t rows = 0;   // that would be computed again: less what the prefix cache would still give
  uint64_t bytes = 0;  // of the sequence's blocks
  uint64_t host_bytes_free = 0;
};

// Whether copying out and in again is cheaper than computing again, and there is room. Where the
// rate of computing is not known yet, copying counts as cheaper: it is, for any model whose rows
// cost more than their bytes.
inline bool should_spill(const SpillQuestion& q, const CostRates& rates) {
  if (q.bytes == 0 || q.bytes > q.host_bytes_free) return false;
  if (rates.rows_per_second <= 0) return true;
  const double copy_seconds = 2.0 * static_cast<double>(q.bytes) / rates.bytes_per_second;
  return copy_seconds < q.rows / rates.rows_per_second;
}

}  // namespace trireme

// How far from its formula in f64 an op may be: |got - want| <= tolerance * max(1, |want|).
//
// 4e-6, some thirty units in the last place of f32, holds for whatever computes in f32. The table
// below lists what does not: attention on the tensor cores of a CUDA device, which multiply numbers
// of the cache's format. q and the softmax's weights are rounded to it:
//   decode   to two numbers each, 2^-17 (bf16) or 2^-22 (f16) of them together;
//   prefill  to one, 2^-9 or 2^-12.
// A weight is as wrong as itself, by its own rounding, and as the rounding of q, summed over a
// head, makes its score wrong: by less than that of one product of q and k, some 4 units, since
// signs differ. Two equally large weights that err in opposite directions move the mean of two
// values 5 apart by four times the rounding: 3e-5 and 1e-6, or 8e-3 and 1e-3.
//
// A real tensor core also cuts off, rather than rounds, what lies below the last place of the
// largest of its terms, 2^-24 of a sum on average at each of the hundred products of a warp's share
// of a context: up to 1e-5, always towards zero. The emulator rounds.
#pragma once

#include <cstdint>

#include "tests/contract/ops_cache.h"

namespace trireme::contract {

inline constexpr double kTolerance = 4e-6;

struct AttendTolerance {
  DType cache;
  double decode, prefill;
};
inline constexpr AttendTolerance kAttendTolerances[] = {
    {DType::kF32, kTolerance, kTolerance},
    {DType::kBF16, 4e-5, 1.2e-2},
    {DType::kF16, 1.5e-5, 1.5e-3},
};

// Of the rows of one run of a step.
struct AttendRun {
  int32_t rows = 0;       // of the run
  int32_t step_rows = 0;  // of all runs
  int32_t sequences = 0;
  int32_t heads = 0;
};
double attend_tolerance(const DeviceCase& device, const CacheSpec& cache, const AttendRun& run);

}  // namespace trireme::contract

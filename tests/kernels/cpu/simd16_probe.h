// Every function of simd16.h behind one signature, once per instruction set, so that simd16_test.cc
// can compare them. Only declarations (see kernels/cpu/isa/simd16.h).
#pragma once

#include <stdint.h>

namespace trireme {

enum class Simd16Op {
  kBroadcast,
  kZero,
  kLoadN,
  kLoadBF16N,
  kLoadF16N,
  kLoadBF16,
  kLoadF16,
  kLoadBF16Pairs,
  kLoadE4M3LowBytes,  // a: no code of NaN
  kLoadE4M3HighBytes,
  kLoadGroupScales,
  kByteAt,       // n % 4
  kShiftRight4,  // bits
  kNibbleAt0,
  kNibbleAt16Plus128,
  kStoreN,
  kStoreBF16N,
  kStoreF16N,
  kStoreBF16,
  kStoreF16,
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFma,
  kSqrt,
  kNeg,
  kAbs,
  kMin,
  kMax,
  kFloor,
  kRoundEven,
  kScaleByPowerOfTwo,  // b: integers
  kLess,
  kLessEqual,
  kEqual,
  kFirstLanes,
  kMaskAnd,
  kMaskOr,
  kSum,
  kMaxLane,
  kCount,
};

// out[0..32) = op(a, b, c) with n lanes where the op takes n; words that the op does not write keep
// what they held. Masks give 1.0 or 2.0 per lane.
using Simd16Probe = void (*)(Simd16Op op, const float* a, const float* b, const float* c, int n,
                             float* out);
extern const Simd16Probe kSimd16Scalar;
#ifdef TRIREME_X86
extern const Simd16Probe kSimd16Avx2;
extern const Simd16Probe kSimd16Avx512;
#endif

}  // namespace trireme

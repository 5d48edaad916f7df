// What this machine can do at best: the loops that measure the two ceilings which kernels are
// compared with, once per instruction set. Only declarations (see kernels/cpu/isa/simd16.h).
//
// Who calls it: kernels_bench.cc, in every worker of a pool at once.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace trireme {

struct CeilingsTable {
  // Reads count floats with plain vector loads and adds them up. REQUIRES: count % 256 == 0.
  float (*read)(const float* p, int64_t count);
  // kFmaChains independent chains of `steps` fused multiply-adds on sixteen lanes.
  float (*fma_chains)(int64_t steps, float seed);
};
constexpr int64_t kFmaChains = 12;

extern const CeilingsTable kCeilingsScalar;
#ifdef TRIREME_X86
extern const CeilingsTable kCeilingsAvx2;
extern const CeilingsTable kCeilingsAvx512;
#endif

}  // namespace trireme

// What this machine can do at best: the loops that measure the two ceilings which kernels are
// compared with, once per instruction set. Only declarations (see kernels/cpu/isa/simd16.h).
//
// Who calls it: kernels_bench.cc, in every worker of a pool at once.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace trireme {

struct CeilingsTable {
  // Reads count floats with vector loads and adds them up: plainly, and with a prefetch ahead of
  // each load. REQUIRES: count % 128 == 0.
  float (*read)(const float* p, int64_t count);
  float (*read_prefetched)(const float* p, int64_t count);
  // `chains` independent chains of `steps` fused multiply-adds on sixteen lanes, in registers.
  float (*fma)(int64_t steps, float seed);
  int chains;
};

extern const CeilingsTable kCeilingsScalar;
#ifdef TRIREME_X86
extern const CeilingsTable kCeilingsAvx2;
extern const CeilingsTable kCeilingsAvx512;
#endif

}  // namespace trireme

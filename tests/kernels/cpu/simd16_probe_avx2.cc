#define TRIREME_ISA_AVX2
#include "tests/kernels/cpu/simd16_probe.inc"

namespace trireme {
const Simd16Probe kSimd16Avx2 = probe;
}  // namespace trireme

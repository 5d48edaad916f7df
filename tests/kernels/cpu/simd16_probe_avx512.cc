#define TRIREME_ISA_AVX512
#include "tests/kernels/cpu/simd16_probe.inc"

namespace trireme {
const Simd16Probe kSimd16Avx512 = probe;
}  // namespace trireme

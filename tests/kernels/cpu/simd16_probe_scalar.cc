#define TRIREME_ISA_SCALAR
#include "tests/kernels/cpu/simd16_probe.inc"

namespace trireme {
const Simd16Probe kSimd16Scalar = probe;
}  // namespace trireme

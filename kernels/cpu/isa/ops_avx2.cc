// The inner loops of the ops for AVX2, FMA, F16C.
#define TRIREME_ISA_AVX2
#include "kernels/cpu/isa/ops.inc"

namespace trireme {
const OpLoops kOpLoopsAvx2 = kTable;
}  // namespace trireme

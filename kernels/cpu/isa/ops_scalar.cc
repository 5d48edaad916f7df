// The inner loops of the ops without vector instructions.
#define TRIREME_ISA_SCALAR
#include "kernels/cpu/isa/ops.inc"

namespace trireme {
const OpLoops kOpLoopsScalar = kTable;
}  // namespace trireme

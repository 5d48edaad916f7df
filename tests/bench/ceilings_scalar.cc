#define TRIREME_ISA_SCALAR
#include "tests/bench/ceilings.inc"

namespace trireme {
const CeilingsTable kCeilingsScalar = kTable;
}  // namespace trireme

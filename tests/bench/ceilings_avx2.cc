#define TRIREME_ISA_AVX2
#include "tests/bench/ceilings.inc"

namespace trireme {
const CeilingsTable kCeilingsAvx2 = kTable;
}  // namespace trireme

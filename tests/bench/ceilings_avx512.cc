#define TRIREME_ISA_AVX512
#include "tests/bench/ceilings.inc"

namespace trireme {
const CeilingsTable kCeilingsAvx512 = kTable;
}  // namespace trireme

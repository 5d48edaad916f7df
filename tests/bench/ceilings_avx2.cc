#define TRIREME_ISA_AVX2
namespace trireme {
namespace {
constexpr int kChains = 6;
}  // namespace
}  // namespace trireme

#include "tests/bench/ceilings.inc"

namespace trireme {
const CeilingsTable kCeilingsAvx2 = kTable;
}  // namespace trireme

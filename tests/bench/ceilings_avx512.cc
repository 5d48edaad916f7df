#define TRIREME_ISA_AVX512
namespace trireme {
namespace {
constexpr int kChains = 12;
}  // namespace
}  // namespace trireme

#include "tests/bench/ceilings.inc"

namespace trireme {
const CeilingsTable kCeilingsAvx512 = kTable;
}  // namespace trireme

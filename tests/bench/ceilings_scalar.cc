#define TRIREME_ISA_SCALAR
namespace trireme {
namespace {
constexpr int kChains = 1;
}  // namespace
}  // namespace trireme

#include "tests/bench/ceilings.inc"

namespace trireme {
const CeilingsTable kCeilingsScalar = kTable;
}  // namespace trireme

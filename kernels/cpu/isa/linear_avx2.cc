// The inner loops of linear() for AVX2.
#define TRIREME_ISA_AVX2

namespace trireme {
namespace {
constexpr int kTileRows = 6;  // 12 sums, 2 weights, 1 input in 16 registers
constexpr int kWideRows = 2;
constexpr bool kTwoPanels = false;
}  // namespace
}  // namespace trireme

#include "kernels/cpu/isa/linear.inc"

namespace trireme {
const LinearTable kLinearAvx2 = kTable;
}  // namespace trireme

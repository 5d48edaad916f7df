// The inner loops of linear() for AVX-512.
#define TRIREME_ISA_AVX512

namespace trireme {
namespace {
constexpr int kTileRows = 12;  // 24 sums, 2 weights, 1 input in 32 registers
constexpr int kWideRows = 12;
constexpr bool kTwoPanels = true;
}  // namespace
}  // namespace trireme

#include "kernels/cpu/isa/linear.inc"

namespace trireme {
const LinearTable kLinearAvx512 = kTable;
}  // namespace trireme

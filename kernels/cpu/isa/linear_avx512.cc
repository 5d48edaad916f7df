// The inner loops of linear() for AVX-512.
#define TRIREME_ISA_AVX512

namespace trireme {
namespace {
constexpr int kTileRows = 4;
}  // namespace
}  // namespace trireme

#include "kernels/cpu/isa/linear.inc"

namespace trireme {
const LinearTable kLinearAvx512 = kTable;
}  // namespace trireme

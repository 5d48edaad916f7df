// The inner loops of linear() for C++ alone.
#define TRIREME_ISA_SCALAR

namespace trireme {
namespace {
constexpr int kTileRows = 4;
constexpr int kWideRows = 4;
constexpr bool kTwoPanels = false;
}  // namespace
}  // namespace trireme

#include "kernels/cpu/isa/linear.inc"

namespace trireme {
const LinearTable kLinearScalar = kTable;
}  // namespace trireme

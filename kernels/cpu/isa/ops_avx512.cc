// The inner loops of the ops for AVX-512.
//
// gcc 12 takes its own _mm512_undefined_ps() for a mistake of ours (its bug 105593).
#ifdef __GNUC__
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#define TRIREME_ISA_AVX512
#include "kernels/cpu/isa/ops.inc"

namespace trireme {
const OpLoops kOpLoopsAvx512 = kTable;
}  // namespace trireme

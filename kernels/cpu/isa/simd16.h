// F16v: sixteen f32 lanes, in three versions with the same meaning bit for bit: C++ alone, AVX2
// (two registers), AVX-512 (one). A loop written once over F16v gives the same bits on every
// machine, which is what the Row law's "whatever the instruction set" rests on.
//
// Who includes it: the .inc files of kernels/cpu/isa, through a .cc file that first defines one of
// TRIREME_ISA_SCALAR, TRIREME_ISA_AVX2, TRIREME_ISA_AVX512 and is compiled with that set's options
// (kernels/cpu/CMakeLists.txt). Nothing else.
//
// INVARIANT: everything here has internal linkage, and the files that include it include no header
// whose inline functions emit code (no C++ standard library, no other header of the project but
// those that only declare). Otherwise the linker might keep, of two copies of such a function, the
// one compiled for AVX-512, and a machine without it would die in generic code.
//
// The vocabulary; a, b, c: F16v; p: pointer of any alignment; n in [0, 16]: how many lanes.
//   broadcast(s)  zero()               all lanes s, all lanes +0
//   load(p)  load_n(p, n)              float; lanes from n on are +0, and their memory is not read
//   load_bf16 load_bf16_n load_f16 load_f16_n      const uint16_t*, converted (exact)
//   load_bf16_pairs(p, low, high)      32 bf16: even ones into low, odd ones into high
//   load_e4m3_pairs(p, first, second)  32 pairs of fp8 e4m3, none of them NaN, times 2^-8 (exact,
//   signs
//                                      of zeros too): F16v first[2] of the low bytes of uint16_t
//                                      p[0..32), second[2] of the high ones
//   load_group_scales(p, scale, zero)  16 words of GroupScale (weight_format.h), taken apart
//   store(p, a)  store_n(p, a, n)      and store_bf16, store_f16 (_n): round to nearest even, NaN
//                                      stays NaN; memory of lanes from n on is not written
//   a + b, a - b, a * b, a / b, sqrt(a), neg(a), abs(a)    correctly rounded, of course
//   fma(a, b, c)                       a * b + c, rounded once
//   min(a, b): a < b ? a : b           max(a, b): a > b ? a : b    (so b where one is NaN)
//   floor(a)  round_even(a)
//   scale_by_power_of_two(a, n)        (a * 2^floor(n/2)) * 2^(n - floor(n/2)); n: F16v of integers
//                                      in [-252, 254]
//   less(a, b)  less_equal(a, b)  equal(a, b) -> Mask16     false where one is NaN
//   first_lanes(n) -> Mask16           m1 & m2, m1 | m2
//   select(m, a, b)                    a where m, else b
//   load_words(p) -> Words16           uint32_t
//   byte_at<i>(w)                      byte i of each word, 0 the lowest, as F16v
//   shift_right_4(w)                   each word
//   nibble_at_0(w)                     bits 0 to 3 of each word, as F16v
//   nibble_at_16_plus_128(w)           128 + bits 16 to 19: a nibble in the last places of 128.0f
//   sum(a)  max_lane(a)                one tree: i with i + 8, i + 4, i + 2, i + 1
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(TRIREME_ISA_AVX512)
#include "kernels/cpu/isa/simd16_avx512.h"  // IWYU pragma: export
#elif defined(TRIREME_ISA_AVX2)
#include "kernels/cpu/isa/simd16_avx2.h"  // IWYU pragma: export
#elif defined(TRIREME_ISA_SCALAR)
#include "kernels/cpu/isa/simd16_scalar.h"  // IWYU pragma: export
#else
#error "simd16.h is for the files of kernels/cpu/isa, which name their instruction set first"
#endif

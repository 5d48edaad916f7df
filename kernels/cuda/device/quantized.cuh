// Codes of quantized weights as exact f16 numbers, two in a register, as tensor cores take them.
//
//   int4   0x6400 | code is 1024 + code, and 0x6400 | code << 4 is 1024 + 16 code (Marlin, arXiv
//          2408.11743; after arXiv 2211.10017): less 1024 + zero, or a sixteenth less 64 + zero,
//          either is code - zero
//   int8   0x6400 | code + 128 is 1152 + code, less 1152 + zero
//   fp8    its bits, moved to where f16 has sign, exponent and fraction, are the number times 2^-8;
//          those below the normal ones too
// No step rounds. What is left of an element is to be multiplied by scale * kUnit, in f32.
#pragma once

#include <bit>
#include <cstdint>

#include <cuda_runtime.h>

#ifdef __CUDACC__
#include <cuda_fp8.h>
#endif

#include "kernels/base/weight_format.h"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/quantized_layout.h"

namespace trireme::cuda {

struct Int8 {
  static constexpr int kUnits = 1;  // of 64 inputs in a chunk of codes
  static constexpr float kUnit = 1.0f;
};
struct Int4 {
  static constexpr int kUnits = 2;
  static constexpr float kUnit = 1.0f;
};
struct Fp8 {
  static constexpr int kUnits = 1;
  static constexpr float kUnit = 256.0f;
};

// f(a value of the type that stands for a quantized `type`).
template <class F>
void dispatch_quantized(WeightType type, F f) {
  switch (type) {
    case WeightType::kInt8:
      return f(Int8{});
    case WeightType::kInt4:
      return f(Int4{});
    case WeightType::kFp8:
      return f(Fp8{});
    default:
      CHECK(false) << "not a quantized type";
  }
}

// log2 of a format's group; of whole rows one that all inputs are below.
inline int group_shift(WeightFormat format) {
  return format.group == 0 ? 31 : std::countr_zero(static_cast<unsigned>(format.group));
}

// The scale of a GroupScale word.
__device__ __forceinline__ float scale_of_word(unsigned word) {
  return __uint_as_float(word & ~0xffu);
}

#ifdef __CUDACC__

// a & b | c, in one instruction.
__device__ __forceinline__ unsigned and_or(unsigned a, unsigned b, unsigned c) {
  unsigned bits;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(bits) : "r"(a), "r"(b), "r"(c));
  return bits;
}
// Two f16 numbers at a time.
__device__ __forceinline__ unsigned subtract_f16x2(unsigned a, unsigned b) {
  unsigned both;
  asm("sub.f16x2 %0, %1, %2;" : "=r"(both) : "r"(a), "r"(b));
  return both;
}
// a / 16 + b
__device__ __forceinline__ unsigned sixteenth_plus_f16x2(unsigned a, unsigned b) {
  unsigned both;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(both) : "r"(a), "r"(0x2c002c00u), "r"(b));
  return both;
}

#else

inline unsigned and_or(unsigned a, unsigned b, unsigned c) { return (a & b) | c; }
template <class F>
unsigned each_f16(unsigned a, unsigned b, F f) {
  const auto one = [&](unsigned x, unsigned y) {
    return unsigned{from_float<F16>(f(to_float(F16{static_cast<uint16_t>(x)}),
                                      to_float(F16{static_cast<uint16_t>(y)})))
                        .bits};
  };
  return one(a & 0xffffu, b & 0xffffu) | one(a >> 16, b >> 16) << 16;
}
inline unsigned subtract_f16x2(unsigned a, unsigned b) {
  return each_f16(a, b, [](float x, float y) { return x - y; });
}
inline unsigned sixteenth_plus_f16x2(unsigned a, unsigned b) {
  return each_f16(a, b, [](float x, float y) { return x / 16 + y; });
}

#endif

// What is subtracted from the codes of a group, in f16 and twice: in the lower half of a byte, and
// in the upper one.
struct Zeros {
  unsigned low, high;
};
template <class Q>
__device__ __forceinline__ Zeros zeros_of(unsigned word);
template <>
__device__ __forceinline__ Zeros zeros_of<Int8>(unsigned word) {
  const auto zero = static_cast<unsigned>(static_cast<int8_t>(word & 0xffu));
  return {0x64806480u + zero * 0x00010001u, 0};
}
template <>
__device__ __forceinline__ Zeros zeros_of<Int4>(unsigned word) {
  const unsigned zero = word & 0xffu;
  return {0x64006400u + zero * 0x00010001u, 0xd400d400u + zero * 0x00100010u};
}
template <>
__device__ __forceinline__ Zeros zeros_of<Fp8>(unsigned) {
  return {0, 0};
}

// Four inputs that follow each other.
struct Four {
  unsigned first, last;  // two f16 numbers each, the lower first
};

// Of word j of a thread's 16 bytes, inputs 16 j + 4 t + {0, 1, 2, 3} of unit `u` of the chunk.
template <class Q>
__device__ __forceinline__ Four four_of(unsigned word, int u, const Zeros& zeros);
template <>
__device__ __forceinline__ Four four_of<Int8>(unsigned word, int, const Zeros& zeros) {
#ifdef __CUDACC__
  const unsigned even = __byte_perm(word, 0x64646464u, 0x4240);
  const unsigned odd = __byte_perm(word, 0x64646464u, 0x4341);
#else
  const unsigned even = (word & 0x00ff00ffu) | 0x64006400u;
  const unsigned odd = (word >> 8 & 0x00ff00ffu) | 0x64006400u;
#endif
  return {subtract_f16x2(even, zeros.low), subtract_f16x2(odd, zeros.low)};
}
template <>
__device__ __forceinline__ Four four_of<Int4>(unsigned word, int u, const Zeros& zeros) {
  constexpr unsigned k1024 = 0x64006400u;
  if (u == 0) {
    return {subtract_f16x2(and_or(word, 0x000f000fu, k1024), zeros.low),
            subtract_f16x2(and_or(word >> 8, 0x000f000fu, k1024), zeros.low)};
  }
  return {sixteenth_plus_f16x2(and_or(word, 0x00f000f0u, k1024), zeros.high),
          sixteenth_plus_f16x2(and_or(word >> 8, 0x00f000f0u, k1024), zeros.high)};
}
template <>
__device__ __forceinline__ Four four_of<Fp8>(unsigned word, int, const Zeros&) {
  const auto two = [](unsigned bytes) {  // the upper byte of either half
    return and_or(bytes, 0x80008000u, bytes >> 1 & 0x3f803f80u);
  };
  return {two(word << 8), two(word)};
}

// Four inputs that follow each other as a word of fp8 codes: rounded, beyond 448 to it.
__device__ __forceinline__ unsigned fp8_word(const Pack<float, 4>& x) {
#ifdef __CUDACC__
  const auto two = [](float low, float high) {
    return static_cast<unsigned>(
        __nv_cvt_float2_to_fp8x2(make_float2(low, high), __NV_SATFINITE, __NV_E4M3));
  };
#else
  const auto two = [](float low, float high) {
    return unsigned{f32_to_f8(low)} | unsigned{f32_to_f8(high)} << 8;
  };
#endif
  return two(x.at[0], x.at[2]) | two(x.at[1], x.at[3]) << 16;
}

// Element `col` of a row of codes, for what reads few of them.
template <class Q>
__device__ __forceinline__ float element_of(const uint8_t* codes, int64_t col, unsigned word) {
  const int64_t unit = col / kUnitInputs;
  const auto i = static_cast<unsigned>(col % kUnitInputs);  // 16 j + 4 t + the place in the word
  const unsigned t = i / 4 % 4, j = i / 16;
  const Four four = four_of<Q>(
      load<1>(reinterpret_cast<const unsigned*>(codes + unit / Q::kUnits * kChunkBytes) + 4 * t + j)
          .at[0],
      static_cast<int>(unit % Q::kUnits), zeros_of<Q>(word));
  const unsigned pair = i % 4 < 2 ? four.first : four.last;
  const F16 number{static_cast<uint16_t>(i % 2 == 0 ? pair : pair >> 16)};
  return scale_of_word(word) * (to_float(number) * Q::kUnit);
}

}  // namespace trireme::cuda

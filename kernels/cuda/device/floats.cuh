// Conversions between the formats of formats.h, and loads of several numbers at once.
#pragma once

#include <cstdint>
#include <cstring>

#include <cuda_runtime.h>

#ifdef __CUDACC__
#include <cuda_fp16.h>
#endif

#include "kernels/cuda/formats.h"
#include "kernels/cuda/left_rows.h"

namespace trireme::cuda {

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(Bf16 x) {
  return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
}
__device__ __forceinline__ float to_float(F16 x) {
#ifdef __CUDACC__
  return __half2float(__ushort_as_half(x.bits));
#else
  _Float16 h;
  std::memcpy(&h, &x.bits, sizeof h);
  return static_cast<float>(h);
#endif
}

// N numbers that are loaded and stored as one word of at most 16 bytes.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T at[N];
};

// All of them, an instruction each.
template <class T, int N>
__device__ __forceinline__ void to_floats(const Pack<T, N>& pack, float (&to)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) to[i] = to_float(pack.at[i]);
}
template <int N>
__device__ __forceinline__ void to_floats(const Pack<Bf16, N>& pack, float (&to)[N]) {
  static_assert(N % 2 == 0);
#pragma unroll
  for (int i = 0; i < N; i += 2) {
    unsigned both;
    std::memcpy(&both, &pack.at[i], sizeof both);
    to[i] = __uint_as_float(both << 16);
    to[i + 1] = __uint_as_float(both & 0xffff0000u);
  }
}

// Rounds to nearest, ties to even, as kernels/base/dtype.h does.
template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ Bf16 from_float<Bf16>(float x) {
  const unsigned bits = __float_as_uint(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u)  // NaN stays one, and quiet
    return {static_cast<uint16_t>(bits >> 16 | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}
template <>
__device__ __forceinline__ F16 from_float<F16>(float x) {
#ifdef __CUDACC__
  return {__half_as_ushort(__float2half_rn(x))};
#else
  const auto h = static_cast<_Float16>(x);
  F16 result;
  std::memcpy(&result.bits, &h, sizeof h);
  return result;
#endif
}

template <int N, class T>
__device__ __forceinline__ Pack<T, N> load(const T* address) {
#ifndef __CUDACC__
  // A GPU faults; so does this.
  CHECK(reinterpret_cast<uintptr_t>(address) % (sizeof(T) * N) == 0)
      << "a load of " << N << " numbers is not aligned";
#endif
  return *reinterpret_cast<const Pack<T, N>*>(address);
}
// The same for what is read once and never written by a kernel: it goes past the L1 cache, which
// keeps what is read again. REQUIRES: 16 bytes.
template <int N, class T>
__device__ __forceinline__ Pack<T, N> load_once(const T* address) {
  static_assert(sizeof(T) * N == 16);
#ifdef __CUDA_ARCH__
  union {
    uint4 words;
    Pack<T, N> pack;
  } value;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.words.x), "=r"(value.words.y), "=r"(value.words.z), "=r"(value.words.w)
               : "l"(address));
  return value.pack;
#else
  return load<N>(address);
#endif
}
template <int N, class T>
__device__ __forceinline__ void store(T* address, const Pack<T, N>& value) {
#ifndef __CUDACC__
  CHECK(reinterpret_cast<uintptr_t>(address) % (sizeof(T) * N) == 0)
      << "a store of " << N << " numbers is not aligned";
#endif
  *reinterpret_cast<Pack<T, N>*>(address) = value;
}
// The same to global memory, for sure as one word: the compiler takes a Pack apart whose numbers
// were computed one by one, and stores of single numbers that are 16 bytes apart cost several times
// as much (rows of 28672 numbers to bf16: 493 us where their bytes take 280).
template <int N, class T>
__device__ __forceinline__ void store_out(T* address, const Pack<T, N>& value) {
#ifdef __CUDA_ARCH__
  constexpr int kWords = static_cast<int>(sizeof(value)) / 4;
  if constexpr (sizeof(value) % 4 == 0 && (kWords == 1 || kWords == 2 || kWords == 4)) {
    unsigned words[kWords];
    memcpy(words, &value, sizeof words);
    if constexpr (kWords == 1) {
      asm volatile("st.global.b32 [%0], %1;" ::"l"(address), "r"(words[0]) : "memory");
    } else if constexpr (kWords == 2) {
      asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(address), "r"(words[0]), "r"(words[1])
                   : "memory");
    } else {
      asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(address), "r"(words[0]),
                   "r"(words[1]), "r"(words[2]), "r"(words[3])
                   : "memory");
    }
    return;
  }
#endif
  store<N>(address, value);
}

// Two numbers rounded to T, Bf16 or F16: the first in the lower half.
template <class T>
__device__ __forceinline__ unsigned pack(float low, float high);
#ifdef __CUDACC__
template <>
__device__ __forceinline__ unsigned pack<Bf16>(float low, float high) {
  unsigned both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}
template <>
__device__ __forceinline__ unsigned pack<F16>(float low, float high) {
  unsigned both;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}
#else
template <class T>
unsigned pack(float low, float high) {
  return from_float<T>(low).bits | static_cast<unsigned>(from_float<T>(high).bits) << 16;
}
#endif

template <class T, int N>
__device__ __forceinline__ Pack<T, N> rounded(const float (&x)[N]) {
  Pack<T, N> result;
  if constexpr (sizeof(T) == 2 && N % 2 == 0) {
#pragma unroll
    for (int i = 0; i < N; i += 2) {
      const unsigned both = pack<T>(x[i], x[i + 1]);
      memcpy(&result.at[i], &both, sizeof both);
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) result.at[i] = from_float<T>(x[i]);
  }
  return result;
}

// Leaves numbers of a row in bf16 as well, where they are wanted (left_rows.h).
template <int N>
__device__ __forceinline__ void leave(const LeftOut& out, int64_t row, int64_t col,
                                      const Pack<float, N>& value) {
  if (out.data != nullptr) store_out<N>(out.data + row * out.stride + col, rounded<Bf16>(value.at));
}

}  // namespace trireme::cuda

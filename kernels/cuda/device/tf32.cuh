// Products of f32 on tensor cores, by numbers of tf32: f32 of which the upper 19 bits count
// (mma.m16n8k8, sm_80; PTX ISA). An f32 is the sum of two of them, and the sum of the products
//   low high + high low + high high
// is one of f32's to 2^-23 or so of each term: what is left out, low low, is at most 2^-24 of it.
//
// With g = lane / 4 and t = lane % 4, a number in each register:
//   A (16 x 8):  at[0] = A[g][t]    at[1] = A[g+8][t]    at[2] = A[g][t+4]    at[3] = A[g+8][t+4]
//   B (8 x 8):   at[0] = B[t][g]    at[1] = B[t+4][g]
//   C (16 x 8):  as in mma.cuh: at[0..1] = C[g][2t, 2t+1], at[2..3] = C[g+8][2t, 2t+1]
// A sum over k may run in any order. In the order 0, 2, 4, 6, 1, 3, 5, 7 lane t of A has columns 2t
// and 2t + 1, which is what it has of a C: results are operands as they are.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/mma.cuh"

namespace trireme::cuda {

// The nearest number of tf32. What it lacks to x is at most 2^-12 of x, and exact.
__device__ __forceinline__ float tf32_high(float x) {
  return __uint_as_float((__float_as_uint(x) + 0x1000u) & 0xffffe000u);
}

// An A whose inner index runs in that order, from the registers of a C.
struct SplitA {
  FragmentA high, low;
};
__device__ __forceinline__ SplitA split(const FragmentC& c) {
  SplitA y;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float x = c.at[i % 2 * 2 + i / 2], high = tf32_high(x);
    y.high.at[i] = __float_as_uint(high);
    y.low.at[i] = __float_as_uint(x - high);
  }
  return y;
}

// Two numbers of a B, as they lie in memory: high parts, low parts.
__device__ __forceinline__ Pack<float, 4> split(float x0, float x1) {
  const float high0 = tf32_high(x0), high1 = tf32_high(x1);
  return {{high0, high1, x0 - high0, x1 - high1}};
}
struct SplitB {
  FragmentB high, low;
};
__device__ __forceinline__ SplitB load_split(const float* address) {
  const Pack<float, 4> x = load<4>(address);
  return {{{__float_as_uint(x.at[0]), __float_as_uint(x.at[1])}},
          {{__float_as_uint(x.at[2]), __float_as_uint(x.at[3])}}};
}

// c += a b of tf32. REQUIRES: the whole warp calls it.
__device__ __forceinline__ void multiply_add_tf32(const FragmentA& a, const FragmentB& b,
                                                  FragmentC& c) {
#ifdef __CUDACC__
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c.at[0]), "+f"(c.at[1]), "+f"(c.at[2]), "+f"(c.at[3])
      : "r"(a.at[0]), "r"(a.at[1]), "r"(a.at[2]), "r"(a.at[3]), "r"(b.at[0]), "r"(b.at[1]));
#else
  emulator::warp_product_tf32(a.at, b.at, c.at);
#endif
}

// A sum of products of f32. Its three kinds of products are added up apart, so that none waits for
// the one before.
struct SplitSum {
  FragmentC parts[3]{};

  __device__ __forceinline__ void add_product(const SplitA& a, const SplitB& b) {
    multiply_add_tf32(a.high, b.high, parts[0]);
    multiply_add_tf32(a.high, b.low, parts[1]);
    multiply_add_tf32(a.low, b.high, parts[2]);
  }
  __device__ __forceinline__ FragmentC total() const {
    FragmentC c;
#pragma unroll
    for (int i = 0; i < 4; ++i) c.at[i] = parts[0].at[i] + (parts[1].at[i] + parts[2].at[i]);
    return c;
  }
};

// c[j] += a b[j] of f32, for all j at a time: products of one c, which wait for each other, are
// far apart.
template <int kCount>
__device__ __forceinline__ void multiply_add(const SplitA& a, const SplitB (&b)[kCount],
                                             FragmentC* c) {
#pragma unroll
  for (int j = 0; j < kCount; ++j) multiply_add_tf32(a.low, b[j].high, c[j]);
#pragma unroll
  for (int j = 0; j < kCount; ++j) multiply_add_tf32(a.high, b[j].low, c[j]);
#pragma unroll
  for (int j = 0; j < kCount; ++j) multiply_add_tf32(a.high, b[j].high, c[j]);
}

}  // namespace trireme::cuda

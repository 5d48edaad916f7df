// Tensor cores, and what feeds them: products of a warp, loads of their fragments from shared
// memory, and copies from global to shared memory that go on while the warp computes.
//
// Instructions of sm_80 (PTX ISA, "Warp-level matrix instructions" and "cp.async"); the same code
// serves Hopper. On the emulator they are collectives of the warp with the layouts that the PTX ISA
// documents, and tests/kernels/cuda/mma_test.cc holds them against plain products.
//
// With g = lane / 4 and t = lane % 4, and two 16-bit numbers in each register, the lower first:
//   A (16 x 16): at[0] = A[g][2t, 2t+1]    at[1] = A[g+8][2t..]    at[2] = A[g][2t+8..]
//                at[3] = A[g+8][2t+8..]
//   B (16 x 8):  at[0] = B[2t, 2t+1][g]    at[1] = B[2t+8, 2t+9][g]
//   C (16 x 8):  at[0..1] = C[g][2t, 2t+1] at[2..3] = C[g+8][2t, 2t+1]
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/cuda/device/floats.cuh"

namespace trireme::cuda {

struct FragmentA {
  unsigned at[4];
};
struct FragmentB {
  unsigned at[2];
};
struct FragmentC {
  float at[4];
};

// c += a b. REQUIRES (as of all functions here that are not copies): the whole warp calls it.
template <class T>
__device__ __forceinline__ void multiply_add(const FragmentA& a, const FragmentB& b, FragmentC& c);

// Four 8 x 8 matrices of 16-bit numbers. Lane 8 i + r brings the address of row r of matrix i, 16
// bytes in shared memory, aligned to 16. to[i] = M_i[g][2t, 2t+1]; transposed: M_i[2t, 2t+1][g].
__device__ __forceinline__ void load_matrices(const void* row, unsigned (&to)[4]);
__device__ __forceinline__ void load_matrices_transposed(const void* row, unsigned (&to)[4]);

// 16 bytes, both addresses aligned to 16; zeros, and nothing is read, where `read` is false. What
// is copied may be looked at by this thread after copies_wait, by others after a barrier as well.
__device__ __forceinline__ void copy_16_bytes(void* to_shared, const void* from_global, bool read);
// The same of what is read in order and once: asks the L2 cache for the 256 bytes around, so that
// memory is read in long pieces though copies of many rows alternate.
__device__ __forceinline__ void copy_16_bytes_ahead(void* to_shared, const void* from_global,
                                                    bool read = true);
// The same, always, of what nobody reads again while it could still be in L2, which gives it up
// before all else then: activations, keys and values stay (4 % of a step of one row, 8B parameters,
// H200). Who uses it looks at its machine code: of an address with a uniform part ptxas 13.0 makes
// LDGSTS [R33+UR0], desc[UR1], which is an illegal instruction (seen with quantized products, on
// sm_90a).
__device__ __forceinline__ void copy_16_bytes_once(void* to_shared, const void* from_global);
// 4 bytes, aligned to 4.
__device__ __forceinline__ void copy_4_bytes(void* to_shared, const void* from_global);
// Ends a group of copies, perhaps an empty one.
__device__ __forceinline__ void copies_commit();
// Waits until all groups of this thread but the newest `kPending` have arrived.
template <int kPending>
__device__ __forceinline__ void copies_wait();

// 2^x, to 2^-22 of it; 0 for -INFINITY.
__device__ __forceinline__ float exp2_fast(float x);

#ifdef __CUDACC__

template <>
__device__ __forceinline__ void multiply_add<Bf16>(const FragmentA& a, const FragmentB& b,
                                                   FragmentC& c) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c.at[0]), "+f"(c.at[1]), "+f"(c.at[2]), "+f"(c.at[3])
      : "r"(a.at[0]), "r"(a.at[1]), "r"(a.at[2]), "r"(a.at[3]), "r"(b.at[0]), "r"(b.at[1]));
}
template <>
__device__ __forceinline__ void multiply_add<F16>(const FragmentA& a, const FragmentB& b,
                                                  FragmentC& c) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c.at[0]), "+f"(c.at[1]), "+f"(c.at[2]), "+f"(c.at[3])
      : "r"(a.at[0]), "r"(a.at[1]), "r"(a.at[2]), "r"(a.at[3]), "r"(b.at[0]), "r"(b.at[1]));
}

__device__ __forceinline__ unsigned shared_address(const void* pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}
__device__ __forceinline__ void load_matrices(const void* row, unsigned (&to)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(const void* row, unsigned (&to)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(row))
               : "memory");
}

__device__ __forceinline__ void copy_16_bytes(void* to_shared, const void* from_global, bool read) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to_shared)),
               "l"(__cvta_generic_to_global(from_global)), "r"(read ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void copy_16_bytes_ahead(void* to_shared, const void* from_global,
                                                    bool read) {
  asm volatile(
      "cp.async.cg.shared.global.L2::256B [%0], [%1], 16, %2;" ::"r"(shared_address(to_shared)),
      "l"(__cvta_generic_to_global(from_global)), "r"(read ? 16 : 0)
      : "memory");
}
__device__ __forceinline__ void copy_16_bytes_once(void* to_shared, const void* from_global) {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  asm volatile("cp.async.cg.shared.global.L2::cache_hint.L2::256B [%0], [%1], 16, %2;" ::"r"(
                   shared_address(to_shared)),
               "l"(__cvta_generic_to_global(from_global)), "l"(policy)
               : "memory");
}
__device__ __forceinline__ void copy_4_bytes(void* to_shared, const void* from_global) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(to_shared)),
               "l"(__cvta_generic_to_global(from_global))
               : "memory");
}
__device__ __forceinline__ void copies_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int kPending>
__device__ __forceinline__ void copies_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

#else

template <class T>
void multiply_add(const FragmentA& a, const FragmentB& b, FragmentC& c) {
  emulator::warp_product(a.at, b.at, c.at, [](uint16_t bits) { return to_float(T{bits}); });
}
inline void load_matrices(const void* row, unsigned (&to)[4]) {
  emulator::warp_load_matrices(row, to, false);
}
inline void load_matrices_transposed(const void* row, unsigned (&to)[4]) {
  emulator::warp_load_matrices(row, to, true);
}
inline void copy_16_bytes(void* to_shared, const void* from_global, bool read) {
  emulator::async_copy(to_shared, read ? from_global : nullptr, 16);
}
inline void copy_16_bytes_ahead(void* to_shared, const void* from_global, bool read) {
  emulator::async_copy(to_shared, read ? from_global : nullptr, 16);
}
inline void copy_16_bytes_once(void* to_shared, const void* from_global) {
  emulator::async_copy(to_shared, from_global, 16);
}
inline void copy_4_bytes(void* to_shared, const void* from_global) {
  emulator::async_copy(to_shared, from_global, 4);
}
inline void copies_commit() { emulator::async_commit(); }
template <int kPending>
void copies_wait() {
  emulator::async_wait(kPending);
}
inline float exp2_fast(float x) { return std::exp2(x); }

#endif

}  // namespace trireme::cuda

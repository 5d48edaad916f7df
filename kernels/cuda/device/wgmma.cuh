// Products of a warp group, four warps, whose operands tensor cores read from shared memory, and
// which go on while the warps do something else (PTX ISA, "Asynchronous warpgroup level matrix
// multiply-accumulate"; sm_90a).
//
// A product has 64 rows; warp w of the group holds rows [16 w, 16 w + 16) of its sums, columns by
// eights, each of them as the FragmentC of mma.cuh; an A in registers is its FragmentA.
//
// Operands in shared memory lie in panels of 64 numbers, 128 bytes a row, of which eight make a
// pattern: piece p (16 bytes) of row r lies in place p ^ (r & 7). So eight lanes that copy a row,
// and tensor cores that read eight rows' pieces, meet all banks. Panels begin at multiples of 1024
// bytes. Rows may be rows or columns of the product with their depth side by side (queries, keys),
// or the depth itself (values).
//
//   Emulated like mma.cuh; tests/kernels/cuda/wgmma_test.cc holds it against plain products.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/mma.cuh"

namespace trireme::cuda {

// Whether this compilation's architecture has them: of those that a library is compiled for one
// does.
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
inline constexpr bool kHasWarpGroups = true;
#else
inline constexpr bool kHasWarpGroups = false;
#endif

inline constexpr int kGroupThreads = 128;
inline constexpr int kPanel = 64;              // numbers of a row
inline constexpr int kPanelAlignment = 1024;   // bytes
inline constexpr int kPanelPattern = 8 * 128;  // bytes of eight rows

// Where number `col` of row `row` lies in an operand of `rows` rows, in numbers.
__device__ __forceinline__ int panel_at(int row, int col, int rows) {
  return (col / kPanel * rows + row) * kPanel + ((col / 8 ^ row) & 7) * 8 + col % 8;
}

// An operand for a product: 16 numbers of depth.
struct Described {
  uint64_t bits;
};
// Depth along rows. panel: where 16 numbers of the first row begin, were no pieces exchanged.
__device__ __forceinline__ Described described_along(const void* panel);
// Depth down rows. panel: the first of 16 rows, a multiple of eight. panel_bytes: to the next 64
// columns.
__device__ __forceinline__ Described described_down(const void* panel, int panel_bytes);

// c = a b^T, or c += where `adds`: 64 rows, kN columns, 16, 32, 48, 64 or 128. Begins when this is
// called, ends when it is waited for. REQUIRES (as of all functions here): all warps of the group
// call it.
template <class T, int kN>
__device__ __forceinline__ void group_multiply(Described a, Described b, bool adds,
                                               FragmentC (&c)[kN / 8]);
// c += a b, with a in registers and b's depth down its rows.
template <class T, int kN>
__device__ __forceinline__ void group_multiply_add(const FragmentA& a, Described b,
                                                   FragmentC (&c)[kN / 8]);

// Before the first product after registers that it uses were written.
__device__ __forceinline__ void group_begin();
// Ends a batch of products.
__device__ __forceinline__ void group_commit();
// Waits until all batches but the newest kPending have ended.
template <int kPending>
__device__ __forceinline__ void group_wait();
// Registers that products wrote, or read, are looked at or written again only after this.
template <int kN>
__device__ __forceinline__ void settled(FragmentC (&c)[kN]);
template <int kN>
__device__ __forceinline__ void settled(FragmentA (&a)[kN]);

// What this thread, or another before a barrier, has written to shared memory is what products
// read.
__device__ __forceinline__ void seen_by_products();

// How many registers each thread of the warp group has from now on: a multiple of 8.
template <int kRegisters>
__device__ __forceinline__ void give_registers_up();
template <int kRegisters>
__device__ __forceinline__ void take_registers();

// `from`, or the next place where panels may begin: at most kPanelAlignment - 1 bytes further.
__device__ __forceinline__ unsigned char* panels_from(unsigned char* from);

#ifdef __CUDACC__

#define TRIREME_4(c, i) "+f"(c[i].at[0]), "+f"(c[i].at[1]), "+f"(c[i].at[2]), "+f"(c[i].at[3])
#define TRIREME_16(c, i) \
  TRIREME_4(c, i), TRIREME_4(c, i + 1), TRIREME_4(c, i + 2), TRIREME_4(c, i + 3)
#define TRIREME_SUMS_16(c) TRIREME_4(c, 0), TRIREME_4(c, 1)
#define TRIREME_SUMS_32(c) TRIREME_16(c, 0)
#define TRIREME_SUMS_48(c) TRIREME_16(c, 0), TRIREME_4(c, 4), TRIREME_4(c, 5)
#define TRIREME_SUMS_64(c) TRIREME_16(c, 0), TRIREME_16(c, 4)
#define TRIREME_SUMS_128(c) TRIREME_SUMS_64(c), TRIREME_16(c, 8), TRIREME_16(c, 12)
#define TRIREME_NAMES_16 "%0, %1, %2, %3, %4, %5, %6, %7"
#define TRIREME_NAMES_32 TRIREME_NAMES_16 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define TRIREME_NAMES_48 TRIREME_NAMES_32 ", %16, %17, %18, %19, %20, %21, %22, %23"
#define TRIREME_NAMES_64 TRIREME_NAMES_48 ", %24, %25, %26, %27, %28, %29, %30, %31"
#define TRIREME_NAMES_128                                                                        \
  TRIREME_NAMES_64                                                                               \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, " \
  "%50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

// Both operands described, neither transposed.
#define TRIREME_GROUP_MULTIPLY(T, type, n, a_name, b_name, p_name)                          \
  template <>                                                                               \
  __device__ __forceinline__ void group_multiply<T, n>(Described a, Described b, bool adds, \
                                                       FragmentC(&c)[n / 8]) {              \
    asm volatile("{\n.reg .pred adds;\nsetp.ne.b32 adds, " p_name                           \
                 ", 0;\n"                                                                   \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type            \
                 " {" TRIREME_NAMES_##n "}, " a_name ", " b_name ", adds, 1, 1, 0, 0;\n}"   \
                 : TRIREME_SUMS_##n(c)                                                      \
                 : "l"(a.bits), "l"(b.bits), "r"(adds ? 1 : 0));                            \
  }
// a in registers, b transposed.
#define TRIREME_GROUP_MULTIPLY_ADD(T, type, n, a_names, b_name, p_name)                          \
  template <>                                                                                    \
  __device__ __forceinline__ void group_multiply_add<T, n>(const FragmentA& a, Described b,      \
                                                           FragmentC(&c)[n / 8]) {               \
    asm volatile("{\n.reg .pred adds;\nsetp.ne.b32 adds, " p_name                                \
                 ", 0;\n"                                                                        \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type                 \
                 " {" TRIREME_NAMES_##n "}, {" a_names "}, " b_name ", adds, 1, 1, 1;\n}"        \
                 : TRIREME_SUMS_##n(c)                                                           \
                 : "r"(a.at[0]), "r"(a.at[1]), "r"(a.at[2]), "r"(a.at[3]), "l"(b.bits), "r"(1)); \
  }
TRIREME_GROUP_MULTIPLY(Bf16, "bf16", 16, "%8", "%9", "%10")
TRIREME_GROUP_MULTIPLY(F16, "f16", 16, "%8", "%9", "%10")
TRIREME_GROUP_MULTIPLY(Bf16, "bf16", 32, "%16", "%17", "%18")
TRIREME_GROUP_MULTIPLY(F16, "f16", 32, "%16", "%17", "%18")
TRIREME_GROUP_MULTIPLY(Bf16, "bf16", 48, "%24", "%25", "%26")
TRIREME_GROUP_MULTIPLY(F16, "f16", 48, "%24", "%25", "%26")
TRIREME_GROUP_MULTIPLY(Bf16, "bf16", 64, "%32", "%33", "%34")
TRIREME_GROUP_MULTIPLY(F16, "f16", 64, "%32", "%33", "%34")
TRIREME_GROUP_MULTIPLY(Bf16, "bf16", 128, "%64", "%65", "%66")
TRIREME_GROUP_MULTIPLY(F16, "f16", 128, "%64", "%65", "%66")
TRIREME_GROUP_MULTIPLY_ADD(Bf16, "bf16", 64, "%32, %33, %34, %35", "%36", "%37")
TRIREME_GROUP_MULTIPLY_ADD(F16, "f16", 64, "%32, %33, %34, %35", "%36", "%37")
TRIREME_GROUP_MULTIPLY_ADD(Bf16, "bf16", 128, "%64, %65, %66, %67", "%68", "%69")
TRIREME_GROUP_MULTIPLY_ADD(F16, "f16", 128, "%64, %65, %66, %67", "%68", "%69")
#undef TRIREME_4
#undef TRIREME_16
#undef TRIREME_SUMS_16
#undef TRIREME_SUMS_32
#undef TRIREME_SUMS_48
#undef TRIREME_SUMS_64
#undef TRIREME_SUMS_128
#undef TRIREME_NAMES_16
#undef TRIREME_NAMES_32
#undef TRIREME_NAMES_48
#undef TRIREME_NAMES_64
#undef TRIREME_NAMES_128
#undef TRIREME_GROUP_MULTIPLY
#undef TRIREME_GROUP_MULTIPLY_ADD

__device__ __forceinline__ void group_begin() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void group_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kPending>
__device__ __forceinline__ void group_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
template <int kN>
__device__ __forceinline__ void settled(FragmentC (&c)[kN]) {
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(c[n].at[i])::"memory");
  }
}
template <int kN>
__device__ __forceinline__ void settled(FragmentA (&a)[kN]) {
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+r"(a[n].at[i])::"memory");
  }
}
__device__ __forceinline__ void seen_by_products() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
template <int kRegisters>
__device__ __forceinline__ void give_registers_up() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
#else

inline unsigned shared_address(const void* pointer) {
  return emulator::kSharedBegin + emulator::shared_offset(pointer);
}
template <class T, int kN>
void group_multiply(Described a, Described b, bool adds, FragmentC (&c)[kN / 8]) {
  emulator::group_product({nullptr, a.bits, b.bits, false, adds, kN, c[0].at,
                           [](uint16_t bits) { return to_float(T{bits}); }});
}
template <class T, int kN>
void group_multiply_add(const FragmentA& a, Described b, FragmentC (&c)[kN / 8]) {
  emulator::group_product(
      {a.at, 0, b.bits, true, true, kN, c[0].at, [](uint16_t bits) { return to_float(T{bits}); }});
}
inline void group_begin() {}
inline void group_commit() { emulator::group_commit(); }
template <int kPending>
void group_wait() {
  emulator::group_wait(kPending);
}
template <int kN>
void settled(FragmentC (&)[kN]) {}
template <int kN>
void settled(FragmentA (&)[kN]) {}
inline void seen_by_products() {}
template <int kRegisters>
void give_registers_up() {}
template <int kRegisters>
void take_registers() {}

#endif

// "Matrix-descriptor": where the operand begins, its strides, in units of 16 bytes, and its
// swizzling.
__device__ __forceinline__ Described described_along(const void* panel) {
  return {uint64_t{shared_address(panel) >> 4} | uint64_t{kPanelPattern >> 4} << 32 |
          uint64_t{1} << 62};
}
__device__ __forceinline__ Described described_down(const void* panel, int panel_bytes) {
  return {described_along(panel).bits | static_cast<uint64_t>(panel_bytes >> 4) << 16};
}
__device__ __forceinline__ unsigned char* panels_from(unsigned char* from) {
  return from + (-shared_address(from) & (kPanelAlignment - 1));
}

}  // namespace trireme::cuda

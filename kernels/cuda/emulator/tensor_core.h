// The matrix instructions on the host, with the layouts of the PTX ISA: of sm_80 those of a warp
// (mma.m16n8k16, mma.m16n8k8, ldmatrix.m8n8.x4) and cp.async, called by device/mma.cuh alone; of
// sm_90a wgmma.m64nNk16, called by device/wgmma.cuh alone.
#pragma once

#include <cstdint>

#include "kernels/cuda/emulator/async_work.h"

namespace trireme::emulator {

// c += a b for one warp; a, b, c are this lane's registers, `value` what 16 bits stand for. Sums
// are of f32 in order of k. A tensor core sums in an order of its own and cuts off low bits, so
// that tests must not ask for the last one.
void warp_product(const unsigned* a, const unsigned* b, float* c, float (*value)(uint16_t));

// The same for mma.m16n8k8 of tf32: a register is one f32, whose 13 lowest bits are not looked at.
void warp_product_tf32(const unsigned* a, const unsigned* b, float* c);

// to: four registers.
void warp_load_matrices(const void* row, unsigned* to, bool transposed);

// The copy takes place when its group is waited for; it reads at once in a block that runs ahead of
// the kernels before it. Until then the bytes, 4 or 16, are NaN: a reader that comes too early sees
// it, and so does one that still needed what was there. `from` null: zeros.
void async_copy(void* to, const void* from, int bytes);
void async_commit();
void async_wait(int pending);
void carry_out(const AsyncCopies::Group& copies);

// What shared memory's addresses begin with: tiles of 1024 bytes lie where shared_offset() says.
inline constexpr unsigned kSharedBegin = 1024;

// One warp's sixteen rows of a product of a warp group: a is in registers, or null where
// `a_described` describes it. c: columns / 2 numbers. The product takes place when its group is
// waited for and no other warp can go on; until then its sums are NaN, and then its operands are
// what they were at first, or the program ends.
struct GroupProduct {
  const unsigned* a;
  uint64_t a_described, b_described;
  bool b_in_rows;  // of the depth: a row has all columns of one k
  bool adds;       // to c, which is zero otherwise
  int columns;
  float* c;
  float (*value)(uint16_t);
};
void group_product(const GroupProduct& product);
void group_commit();
void group_wait(int pending);

}  // namespace trireme::emulator

// The warp-level matrix instructions of sm_80 on the host, with the fragment layouts of the PTX ISA
// (mma.m16n8k16, mma.m16n8k8, ldmatrix.m8n8.x4), and cp.async. device/mma.cuh is their only caller.
#pragma once

#include <cstdint>

namespace trireme::emulator {

// c += a b for one warp; a, b, c are this lane's registers, `value` what 16 bits stand for. Sums
// are of f32 in order of k. A tensor core sums in an order of its own and cuts off low bits, so
// that tests must not ask for the last one.
void warp_product(const unsigned* a, const unsigned* b, float* c, float (*value)(uint16_t));

// The same for mma.m16n8k8 of tf32: a register is one f32, whose 13 lowest bits are not looked at.
void warp_product_tf32(const unsigned* a, const unsigned* b, float* c);

// to: four registers.
void warp_load_matrices(const void* row, unsigned* to, bool transposed);

// The copy takes place when its group is waited for. Until then the bytes, 4 or 16, are NaN: a
// reader that comes too early sees it, and so does one that still needed what was there. `from`
// null: zeros.
void async_copy(void* to, const void* from, int bytes);
void async_commit();
void async_wait(int pending);

}  // namespace trireme::emulator

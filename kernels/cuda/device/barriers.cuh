// Barriers of some of a block's threads: warps that copy hand tiles to warps that multiply, and
// take them back, while nobody waits for the whole block.
//
// PhaseBarrier is the PTX ISA's mbarrier: a phase ends when so many arrivals as it was made for
// have come, and the next one begins. Phases have the parities 0, 1, 0, ...
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/cuda/device/mma.cuh"

namespace trireme::cuda {

struct alignas(8) PhaseBarrier {  // in shared memory
  uint64_t state;
};

// Others may use it after a barrier of the block.
__device__ __forceinline__ void make_barrier(PhaseBarrier* barrier, int arrivals);
// What this thread has written and read before is done for those who wait for the phase.
__device__ __forceinline__ void arrive(PhaseBarrier* barrier);
// Arrives when all copies that this thread has begun are there; the thread goes on at once.
__device__ __forceinline__ void arrive_when_copied(PhaseBarrier* barrier);
// Until the phase of that parity has ended: at once where it is the one before the current phase.
__device__ __forceinline__ void wait_for_phase(PhaseBarrier* barrier, int parity);

// The block's barriers by number, 1 to 15. It opens when `threads` threads, whole warps, have come;
// who only arrives goes on at once.
__device__ __forceinline__ void named_wait(int id, int threads);
__device__ __forceinline__ void named_arrive(int id, int threads);

#ifdef __CUDACC__

__device__ __forceinline__ void make_barrier(PhaseBarrier* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(arrivals)
               : "memory");
}
__device__ __forceinline__ void arrive(PhaseBarrier* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
               : "memory");
}
__device__ __forceinline__ void arrive_when_copied(PhaseBarrier* barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_address(barrier))
               : "memory");
}
__device__ __forceinline__ void wait_for_phase(PhaseBarrier* barrier, int parity) {
  // One try waits for a while that the hardware chooses.
  asm volatile(
      "{\n"
      ".reg .pred ended;\n"
      "AGAIN:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 ended, [%0], %1;\n"
      "@ended bra ENDED;\n"
      "bra AGAIN;\n"
      "ENDED:\n"
      "}" ::"r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
}

__device__ __forceinline__ void named_wait(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void named_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

#else

inline void make_barrier(PhaseBarrier* barrier, int arrivals) {
  emulator::make_barrier(&barrier->state, arrivals);
}
inline void arrive(PhaseBarrier* barrier) { emulator::arrive(&barrier->state); }
inline void arrive_when_copied(PhaseBarrier* barrier) {
  emulator::arrive_when_copied(&barrier->state);
}
inline void wait_for_phase(PhaseBarrier* barrier, int parity) {
  emulator::wait_for_phase(&barrier->state, parity);
}
inline void named_wait(int id, int threads) { emulator::named_barrier(id, threads, true); }
inline void named_arrive(int id, int threads) { emulator::named_barrier(id, threads, false); }

#endif

}  // namespace trireme::cuda

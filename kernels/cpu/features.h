// What the processor can do and how much of it this process may use. Any thread may call; the
// answers are facts of the process, taken once.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "kernels/base/status.h"

namespace trireme {

// The instruction sets that the inner loops of kernels/cpu/isa are compiled for. All give the same
// bits.
enum class Isa : uint8_t {
  kScalar,  // C++ alone
  kAvx2,    // AVX2, FMA, F16C
  kAvx512,  // AVX-512 F, BW, DQ, VL
};

std::string_view isa_name(Isa isa);  // "scalar", "avx2", "avx512"
bool isa_supported(Isa isa);         // by this processor and its operating system
Isa best_isa();                      // the widest that is supported

// kInvalidArgument names an unknown instruction set, or one that this machine lacks.
Result<Isa> parse_isa(std::string_view name);

// The cores that this process may run on, ascending: its affinity mask at the first call (later
// pinning of single threads does not change the answer).
const std::vector<int>& allowed_core_ids();

// How many threads can run at once: the affinity mask, and the cgroup's CPU quota where there is
// one (rounded up). At least 1.
int allowed_cores();

// Cores granted by a cgroup v2 cpu.max ("200000 100000"; "max 100000": no limit), rounded up;
// 0: no limit, or the text is not one of these.
int cores_of_cpu_max(std::string_view text);

}  // namespace trireme

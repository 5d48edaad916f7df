#include "kernels/cpu/features.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>
#include <string>

#include <sched.h>
#include <unistd.h>

#ifdef TRIREME_X86
#include <cpuid.h>
#endif

namespace trireme {
namespace {

bool has_f16c() {
#ifdef TRIREME_X86
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
#else
  return false;
#endif
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

int64_t number_in(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? value : 0;
}

int cores_of_quota(int64_t quota_us, int64_t period_us) {
  if (quota_us <= 0 || period_us <= 0) return 0;
  return static_cast<int>((quota_us + period_us - 1) / period_us);
}

// The smallest quota on the way from this process's group to the root of the hierarchy.
// `group`: "/a/b"; `cores_at`: the quota of one folder, 0: none.
template <class F>
int smallest_quota(std::string group, F cores_at) {
  int smallest = 0;
  for (;;) {
    const int cores = cores_at(group);
    if (cores > 0 && (smallest == 0 || cores < smallest)) smallest = cores;
    const size_t slash = group.rfind('/');
    if (slash == std::string::npos || group.size() <= 1) return smallest;
    group.resize(slash);
  }
}

// Cores granted by the cgroup, v2 or v1; 0: no limit.
int cgroup_cores() {
  std::ifstream file("/proc/self/cgroup");  // lines "0::/a/b" (v2), "4:cpu,cpuacct:/a/b" (v1)
  int smallest = 0;
  std::string line;
  while (std::getline(file, line)) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const std::string group = line.substr(second + 1);
    int cores = 0;
    if (controllers == ",,") {
      cores = smallest_quota(group, [](const std::string& path) {
        return cores_of_cpu_max(first_line("/sys/fs/cgroup" + path + "/cpu.max"));
      });
    } else if (controllers.find(",cpu,") != std::string::npos) {
      cores = smallest_quota(group, [](const std::string& path) {
        const std::string folder = "/sys/fs/cgroup/cpu" + path;
        return cores_of_quota(number_in(first_line(folder + "/cpu.cfs_quota_us")),
                              number_in(first_line(folder + "/cpu.cfs_period_us")));
      });
    }
    if (cores > 0 && (smallest == 0 || cores < smallest)) smallest = cores;
  }
  return smallest;
}

std::vector<int> affinity_of_process() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> ids;
  if (sched_getaffinity(getpid(), sizeof(set), &set) == 0) {
    for (int id = 0; id < CPU_SETSIZE; ++id) {
      if (CPU_ISSET(id, &set)) ids.push_back(id);
    }
  }
  if (ids.empty()) ids.push_back(0);
  return ids;
}

}  // namespace

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
  }
  return "unknown";
}

bool isa_supported(Isa isa) {
#ifdef TRIREME_X86
  switch (isa) {
    case Isa::kScalar:
      return true;
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    case Isa::kAvx512:
      return isa_supported(Isa::kAvx2) && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl");
  }
  return false;
#else
  return isa == Isa::kScalar;
#endif
}

Isa best_isa() {
  if (isa_supported(Isa::kAvx512)) return Isa::kAvx512;
  if (isa_supported(Isa::kAvx2)) return Isa::kAvx2;
  return Isa::kScalar;
}

Result<Isa> parse_isa(std::string_view name) {
  for (Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
    if (name != isa_name(isa)) continue;
    if (isa_supported(isa)) return isa;
    return invalid_argument("this machine does not support the instruction set \"" +
                            std::string(name) + "\"; the best it has is \"" +
                            std::string(isa_name(best_isa())) + "\".");
  }
  return invalid_argument("unknown instruction set \"" + std::string(name) +
                          "\"; use scalar, avx2 or avx512, or leave it empty for the best.");
}

const std::vector<int>& allowed_core_ids() {
  static const std::vector<int> ids = affinity_of_process();
  return ids;
}

int allowed_cores() {
  static const int quota = cgroup_cores();
  const int cores = static_cast<int>(allowed_core_ids().size());
  return quota > 0 ? std::min(quota, cores) : cores;
}

int cores_of_cpu_max(std::string_view text) {
  const size_t space = text.find(' ');
  if (space == std::string_view::npos) return 0;
  return cores_of_quota(number_in(text.substr(0, space)), number_in(text.substr(space + 1)));
}

}  // namespace trireme

// What this machine has for Trireme, and what it would make of it: gathered, then written as text
// or JSON.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/base/json.h"
#include "launcher/device_choice.h"

namespace trireme {

struct MachineReport {
  std::string version, compiler, isa, mpi;
  int cores = 0;
  DeviceMemory memory;  // of the host
  CudaFound cuda;
  DeviceChoice alone;  // what one rank with engine.device: auto takes
};

// `folders`: where the CUDA library is looked for first.
MachineReport examine_machine(std::span<const std::string> folders);

// What `alone` is, in words: "cuda, GPU 0 of 2" or "cpu: no GPU was found".
std::string choice_text(const MachineReport& report);

std::string report_text(const MachineReport& report);
Json report_json(const MachineReport& report);

// MemTotal and MemAvailable of /proc/meminfo; zeros where `text` is something else.
DeviceMemory parse_meminfo(std::string_view text);

}  // namespace trireme

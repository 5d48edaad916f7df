// What libtrireme_cuda.so offers the main program, which links no CUDA library: the devices of this
// host, and a Device on one of them. The same types on both sides of the door, so both must come
// from one build: `abi` says so.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/device.h"

namespace trireme {

struct GpuInfo {
  int ordinal = 0;   // as the CUDA runtime counts those this process may see
  std::string name;  // "NVIDIA H200"
  int capability_major = 0, capability_minor = 0;
  // All of it. What is free is told by a Device: asking here would begin to use the GPU.
  uint64_t memory_bytes = 0;
  int multiprocessors = 0;
};

struct CudaOptions {
  int ordinal = 0;
  // Kernels whose products are of warp groups (device/wgmma.cuh), where the GPU is a Hopper. False:
  // those of older GPUs, to measure and test them there.
  bool warp_groups = true;
  // With them, products of 2 to 64 rows by one kernel (ops/skinny_hopper.cu). False until a GPU has
  // said that they are faster so.
  bool skinny_groups = false;
  // How many warp groups share a tile of it, 2 or 4; 0: what fits the products best.
  int skinny_tile_groups = 0;
};

class CudaPlugin {
 public:
  virtual ~CudaPlugin() = default;

  // Of the libraries it was built with and of the driver it finds, one line: "CUDA 13.0, cuBLAS
  // 13.0.2, driver 13.0".
  virtual std::string versions() const = 0;

  // At least one. kUnavailable: one sentence that says why there is none (no driver, no GPU, or
  // none that this build has kernels for).
  virtual Result<std::vector<GpuInfo>> gpus() const = 0;

  // kInvalidArgument: no such ordinal. kUnavailable: the GPU does not answer, or is too old.
  virtual Result<std::unique_ptr<Device>> make_device(const CudaOptions& options) const = 0;
};

// What is behind the door. INVARIANT: `abi` comes first and stays a C string, so that a library of
// another build can still be asked for it.
struct CudaPluginEntry {
  const char* abi = nullptr;
  const CudaPlugin* plugin = nullptr;  // lives as long as the library
};

// The library exports one function with C linkage, under this name. A function, not an object: what
// it returns may be made when it is first asked for, so that opening the library runs no code of
// ours.
inline constexpr const char* kCudaPluginSymbol = "trireme_cuda_plugin";
using CudaPluginFunction = const CudaPluginEntry*();

// The build that this side comes from: the version, and a hash over the headers that both sides
// share. What the library puts into its entry.
const char* cuda_plugin_abi();

}  // namespace trireme

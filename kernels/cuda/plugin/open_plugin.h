// Opens libtrireme_cuda.so: where the program learns whether this machine can use CUDA.
//
// Who calls it: the launcher, once per process, before it makes devices.
#pragma once

#include <span>
#include <string>

#include "kernels/cuda/plugin/plugin.h"

namespace trireme {

inline constexpr const char* kCudaLibraryName = "libtrireme_cuda.so";

// INVARIANT: once open, the library stays in memory until the process ends, so that whatever came
// out of it (devices, buffers, communicators) may be kept anywhere and let go in any order.
struct CudaLibrary {
  std::string path;
  const CudaPlugin* plugin = nullptr;

  // Another symbol of the library, or nullptr.
  void* symbol(const char* name) const;

  void* handle = nullptr;  // of dlopen
};

// The first library of the folders, else what the system finds under the plain name. The error is
// one sentence:
//   kNotFound          there is no such file: where it was looked for
//   kUnavailable       there is one that cannot be used: a library that it needs is missing
//   (which),
//                      it is not ours, or it belongs to another build
Result<CudaLibrary> open_cuda_library(std::span<const std::string> folders);

}  // namespace trireme

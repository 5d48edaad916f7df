#include "kernels/cuda/plugin/open_plugin.h"

#include <cstring>
#include <filesystem>
#include <string_view>

#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace trireme {
namespace {

// What the dynamic linker says about a library that is not there, after its name.
constexpr std::string_view kNoSuchFile =
    ": cannot open shared object file: No such file or directory";

// The library that the linker did not find, or "".
std::string_view missing_library(std::string_view linker_error) {
  const size_t at = linker_error.find(kNoSuchFile);
  return at == std::string_view::npos ? std::string_view() : linker_error.substr(0, at);
}

Status cannot_open(const std::string& path, std::string_view linker_error) {
  const std::string_view missing = missing_library(linker_error);
  if (missing.empty())
    return unavailable(fmt::format("the CUDA library cannot be opened: {}", linker_error));
  return unavailable(
      fmt::format("{} needs {}, which is not on this machine: install CUDA's libraries, or add "
                  "their folder to LD_LIBRARY_PATH",
                  path, missing));
}

Status nowhere(std::span<const std::string> folders) {
  return not_found(fmt::format(
      "there is no {} in {}{} on the linker's path: build it with "
      "-DTRIREME_CUDA=ON, and keep it beside the program",
      kCudaLibraryName, fmt::join(folders, ", "), folders.empty() ? "any folder" : " or"));
}

// A library that dlopen has opened, as ours.
Result<CudaLibrary> enter(void* handle, std::string path) {
  void* symbol = dlsym(handle, kCudaPluginSymbol);
  if (symbol == nullptr)
    return unavailable(
        fmt::format("{} is not Trireme's: it has no symbol {}", path, kCudaPluginSymbol));
  // Where the system found it, if that was left to the system.
  Dl_info found{};
  if (path == kCudaLibraryName && dladdr(symbol, &found) != 0) path = found.dli_fname;
  const CudaPluginEntry* entry = reinterpret_cast<CudaPluginFunction*>(symbol)();
  if (std::strcmp(entry->abi, cuda_plugin_abi()) != 0)
    return unavailable(
        fmt::format("{} belongs to another build, {}, and this program is of {}: install the two "
                    "of one build",
                    path, entry->abi, cuda_plugin_abi()));
  CHECK(entry->plugin != nullptr);
  return CudaLibrary{path, entry->plugin, handle};
}

}  // namespace

void* CudaLibrary::symbol(const char* name) const { return dlsym(handle, name); }

Result<CudaLibrary> open_cuda_library(std::span<const std::string> folders) {
  std::string path = kCudaLibraryName;
  for (const std::string& folder : folders) {
    const std::string here = folder + "/" + kCudaLibraryName;
    std::error_code ignored;
    if (!std::filesystem::exists(here, ignored)) continue;
    path = here;
    break;
  }
  // Now, so that a missing symbol is a sentence here and not a crash in a step; locally, so that
  // its copies of our functions do not stand in for those of the program.
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle != nullptr) return enter(handle, path);
  const std::string error = dlerror();
  if (path == kCudaLibraryName && missing_library(error) == kCudaLibraryName)
    return nowhere(folders);
  return cannot_open(path, error);
}

}  // namespace trireme

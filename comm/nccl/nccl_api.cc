#include "comm/nccl/nccl_api.h"

#include <dlfcn.h>
#include <fmt/format.h>

namespace trireme {
namespace {

constexpr const char* kName = "libnccl.so.2";

// The library, or null and the loader's words.
void* open_library(std::span<const std::string> paths, std::string& why) {
  for (const std::string& path : paths) {
    if (void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
  }
  if (void* library = dlopen(kName, RTLD_NOW | RTLD_LOCAL)) return library;
  const char* error = dlerror();
  why = error == nullptr ? "no reason given" : error;
  return nullptr;
}

// Fills one entry of the table; remembers the first name that the library has not.
template <class Function>
void find(void* library, const char* name, Function*& function, const char*& missing) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  if (function == nullptr && missing == nullptr) missing = name;
}

}  // namespace

Result<NcclApi> load_nccl(std::span<const std::string> paths) {
  std::string why;
  void* library = open_library(paths, why);
  if (library == nullptr)
    return unavailable(fmt::format("NCCL cannot be opened: {}; install {}", why, kName));
  NcclApi api;
  const char* missing = nullptr;
  find(library, "ncclGetVersion", api.get_version, missing);
  find(library, "ncclGetUniqueId", api.get_unique_id, missing);
  find(library, "ncclCommInitRankConfig", api.comm_init_rank_config, missing);
  find(library, "ncclCommFinalize", api.comm_finalize, missing);
  find(library, "ncclCommDestroy", api.comm_destroy, missing);
  find(library, "ncclCommAbort", api.comm_abort, missing);
  find(library, "ncclCommGetAsyncError", api.comm_get_async_error, missing);
  find(library, "ncclGetErrorString", api.get_error_string, missing);
  find(library, "ncclGetLastError", api.get_last_error, missing);
  find(library, "ncclCommRegister", api.comm_register, missing);
  find(library, "ncclCommDeregister", api.comm_deregister, missing);
  find(library, "ncclAllReduce", api.all_reduce, missing);
  find(library, "ncclAllGather", api.all_gather, missing);
  find(library, "ncclBroadcast", api.broadcast, missing);
  find(library, "ncclSend", api.send, missing);
  find(library, "ncclRecv", api.receive, missing);
  int version = 0;
  if (api.get_version != nullptr) (void)api.get_version(&version);
  if (missing != nullptr || version < kNcclVersionMin) {
    return unavailable(
        fmt::format("NCCL {} is too old{}: {} or newer is needed", nccl_version_text(version),
                    missing == nullptr ? "" : fmt::format(" (it has no {})", missing),
                    nccl_version_text(kNcclVersionMin)));
  }
  return api;
}

std::string nccl_version_text(int version) {
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

}  // namespace trireme

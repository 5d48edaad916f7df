// The part of NCCL's C interface that comm/nccl uses, declared by ourselves, and the table of its
// functions that is filled when a program starts. So neither the build nor a program that was built
// needs NCCL; where nccl.h is found, nccl_api_agrees.cc holds it against these declarations.
//
// A table may also be filled by hand: tests put a NCCL of threads behind it.
#pragma once

#include <climits>
#include <cstddef>
#include <span>
#include <string>

#include "kernels/base/status.h"

struct CUstream_st;  // a cudaStream_t points to one

namespace trireme {

struct NcclComm;  // what NCCL calls ncclComm; never looked into

enum NcclResult : int {
  kNcclSuccess = 0,
  kNcclUnhandledCudaError = 1,
  kNcclSystemError = 2,
  kNcclInternalError = 3,
  kNcclInvalidArgument = 4,
  kNcclInvalidUsage = 5,
  kNcclRemoteError = 6,
  kNcclInProgress = 7,  // a nonblocking communicator is not done with the call yet
};

enum NcclDataType : int { kNcclUint8 = 1, kNcclFloat32 = 7 };
enum NcclReduction : int { kNcclSum = 0 };

struct NcclUniqueId {
  char bytes[128];
};

// How a communicator is made. The fields of NCCL 2.18, with its version: newer libraries know from
// `size` and `version` that no more follows, and older ones are not used.
struct NcclConfig {
  size_t size = sizeof(NcclConfig);
  unsigned int magic = 0xcafebeef;
  unsigned int version = 21800;
  int blocking = INT_MIN;  // INT_MIN: as the library likes it
  int cga_cluster_size = INT_MIN;
  int ctas_min = INT_MIN;
  int ctas_max = INT_MIN;
  const char* net_name = nullptr;
  int split_share = INT_MIN;
};

struct NcclApi {
  using Stream = CUstream_st*;

  NcclResult (*get_version)(int* version) = nullptr;
  NcclResult (*get_unique_id)(NcclUniqueId* id) = nullptr;
  NcclResult (*comm_init_rank_config)(NcclComm** comm, int ranks, NcclUniqueId id, int rank,
                                      NcclConfig* config) = nullptr;
  NcclResult (*comm_finalize)(NcclComm* comm) = nullptr;
  NcclResult (*comm_destroy)(NcclComm* comm) = nullptr;
  NcclResult (*comm_abort)(NcclComm* comm) = nullptr;
  NcclResult (*comm_get_async_error)(NcclComm* comm, NcclResult* error) = nullptr;
  const char* (*get_error_string)(NcclResult result) = nullptr;
  const char* (*get_last_error)(NcclComm* comm) = nullptr;
  NcclResult (*comm_register)(NcclComm* comm, void* buffer, size_t bytes, void** handle) = nullptr;
  NcclResult (*comm_deregister)(NcclComm* comm, void* handle) = nullptr;
  NcclResult (*all_reduce)(const void* from, void* to, size_t count, NcclDataType type,
                           NcclReduction reduction, NcclComm* comm, Stream stream) = nullptr;
  NcclResult (*all_gather)(const void* from, void* to, size_t count, NcclDataType type,
                           NcclComm* comm, Stream stream) = nullptr;
  NcclResult (*broadcast)(const void* from, void* to, size_t count, NcclDataType type, int root,
                          NcclComm* comm, Stream stream) = nullptr;
  NcclResult (*send)(const void* from, size_t count, NcclDataType type, int peer, NcclComm* comm,
                     Stream stream) = nullptr;
  NcclResult (*receive)(void* to, size_t count, NcclDataType type, int peer, NcclComm* comm,
                        Stream stream) = nullptr;
};

// The library's version, as NCCL counts: 22809 is 2.28.9.
inline constexpr int kNcclVersionMin = 21900;  // the first with comm_register

// Opens the first of `paths` that is there, or else "libnccl.so.2" where the loader looks for it,
// and fills the table. The library is never closed: it has threads. kUnavailable: one sentence that
// says why there is no NCCL.
Result<NcclApi> load_nccl(std::span<const std::string> paths = {});

// "2.28.9"
std::string nccl_version_text(int version);

}  // namespace trireme

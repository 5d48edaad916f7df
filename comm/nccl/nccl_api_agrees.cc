// Our declarations of NCCL's interface against NCCL's own header: compiled where both nccl.h and a
// CUDA toolkit are found, and never linked. Names, values and layout must agree, or the build
// stops.
#include <cstddef>
#include <type_traits>

#include <nccl.h>

#include "comm/nccl/nccl_api.h"

namespace trireme {
namespace {

static_assert(int{kNcclSuccess} == ncclSuccess);
static_assert(int{kNcclUnhandledCudaError} == ncclUnhandledCudaError);
static_assert(int{kNcclSystemError} == ncclSystemError);
static_assert(int{kNcclInternalError} == ncclInternalError);
static_assert(int{kNcclInvalidArgument} == ncclInvalidArgument);
static_assert(int{kNcclInvalidUsage} == ncclInvalidUsage);
static_assert(int{kNcclRemoteError} == ncclRemoteError);
static_assert(int{kNcclInProgress} == ncclInProgress);
static_assert(int{kNcclUint8} == ncclUint8);
static_assert(int{kNcclFloat32} == ncclFloat32);
static_assert(int{kNcclSum} == ncclSum);
static_assert(sizeof(NcclResult) == sizeof(ncclResult_t));
static_assert(sizeof(NcclDataType) == sizeof(ncclDataType_t));
static_assert(sizeof(NcclReduction) == sizeof(ncclRedOp_t));

static_assert(sizeof(NcclUniqueId) == sizeof(ncclUniqueId));
static_assert(alignof(NcclUniqueId) == alignof(ncclUniqueId));
static_assert(std::is_same_v<NcclApi::Stream, cudaStream_t>);

// Ours is the beginning of theirs.
static_assert(sizeof(NcclConfig) <= sizeof(ncclConfig_t));
static_assert(offsetof(NcclConfig, size) == offsetof(ncclConfig_t, size));
static_assert(offsetof(NcclConfig, magic) == offsetof(ncclConfig_t, magic));
static_assert(offsetof(NcclConfig, version) == offsetof(ncclConfig_t, version));
static_assert(offsetof(NcclConfig, blocking) == offsetof(ncclConfig_t, blocking));
static_assert(offsetof(NcclConfig, cga_cluster_size) == offsetof(ncclConfig_t, cgaClusterSize));
static_assert(offsetof(NcclConfig, ctas_min) == offsetof(ncclConfig_t, minCTAs));
static_assert(offsetof(NcclConfig, ctas_max) == offsetof(ncclConfig_t, maxCTAs));
static_assert(offsetof(NcclConfig, net_name) == offsetof(ncclConfig_t, netName));
static_assert(offsetof(NcclConfig, split_share) == offsetof(ncclConfig_t, splitShare));
constexpr ncclConfig_t kTheirs = NCCL_CONFIG_INITIALIZER;
static_assert(NcclConfig().magic == kTheirs.magic && NcclConfig().blocking == kTheirs.blocking &&
              NcclConfig().version == NCCL_VERSION(2, 18, 0));

// Each function takes what ours takes, in the same order, up to the names of types.
template <class T>
struct Ours {
  using type = T;
};
template <>
struct Ours<ncclResult_t> {
  using type = NcclResult;
};
template <>
struct Ours<ncclDataType_t> {
  using type = NcclDataType;
};
template <>
struct Ours<ncclRedOp_t> {
  using type = NcclReduction;
};
template <>
struct Ours<ncclUniqueId> {
  using type = NcclUniqueId;
};
template <>
struct Ours<ncclConfig_t> {
  using type = NcclConfig;
};
template <>
struct Ours<ncclComm> {
  using type = NcclComm;
};
template <class T>
struct Ours<T*> {
  using type = typename Ours<T>::type*;
};
template <class R, class... A>
struct Ours<R (*)(A...)> {
  using type = typename Ours<R>::type (*)(typename Ours<A>::type...);
};
template <auto NcclApi::*Entry, class Theirs>
constexpr bool agree(Theirs*) {
  using Mine = std::remove_cvref_t<decltype(std::declval<NcclApi>().*Entry)>;
  return std::is_same_v<Mine, typename Ours<Theirs*>::type>;
}

static_assert(agree<&NcclApi::get_version>(&ncclGetVersion));
static_assert(agree<&NcclApi::get_unique_id>(&ncclGetUniqueId));
static_assert(agree<&NcclApi::comm_init_rank_config>(&ncclCommInitRankConfig));
static_assert(agree<&NcclApi::comm_finalize>(&ncclCommFinalize));
static_assert(agree<&NcclApi::comm_destroy>(&ncclCommDestroy));
static_assert(agree<&NcclApi::comm_abort>(&ncclCommAbort));
static_assert(agree<&NcclApi::comm_get_async_error>(&ncclCommGetAsyncError));
static_assert(agree<&NcclApi::get_error_string>(&ncclGetErrorString));
static_assert(agree<&NcclApi::get_last_error>(&ncclGetLastError));
static_assert(agree<&NcclApi::comm_register>(&ncclCommRegister));
static_assert(agree<&NcclApi::comm_deregister>(&ncclCommDeregister));
static_assert(agree<&NcclApi::all_reduce>(&ncclAllReduce));
static_assert(agree<&NcclApi::all_gather>(&ncclAllGather));
static_assert(agree<&NcclApi::broadcast>(&ncclBroadcast));
static_assert(agree<&NcclApi::send>(&ncclSend));
static_assert(agree<&NcclApi::receive>(&ncclRecv));

}  // namespace
}  // namespace trireme

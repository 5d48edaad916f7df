#include "tests/support/emulated_plugin/process_nccl.h"

#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <cuda_runtime.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include "comm/nccl/nccl_rank.h"
#include "kernels/base/check.h"

namespace trireme {
namespace {

constexpr int kRanksMax = 8;
constexpr size_t kSlotBytes = size_t{256} << 10;

enum class What : int32_t { kAllReduce, kAllGather, kBroadcast, kSend, kReceive };

// What a rank is about to do, for the others to compare with theirs.
struct Said {
  What what;
  NcclDataType type;
  uint64_t count;
  int32_t root;  // or the peer
};

// What the ranks of one communicator share. A new file is full of zeros, which is how it begins.
struct Shared {
  std::atomic<int32_t> size, joined, first_calls;
  struct Rank {
    alignas(64) std::atomic<uint64_t> steps;  // that it has come to the end of
    Said said;
  } ranks[kRanksMax];
  alignas(64) std::byte slots[kRanksMax][kSlotBytes];
};
static_assert(std::atomic<uint64_t>::is_always_lock_free);

std::string file_of(const NcclUniqueId& id) { return "/" + std::string(id.bytes); }

Shared* map(const std::string& file, bool create) {
  const int fd = shm_open(file.c_str(), O_RDWR | (create ? O_CREAT | O_EXCL : 0), 0600);
  if (fd < 0) return nullptr;
  void* memory = MAP_FAILED;
  if (!create || ftruncate(fd, sizeof(Shared)) == 0)
    memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  (void)close(fd);
  return memory == MAP_FAILED ? nullptr : static_cast<Shared*>(memory);
}

}  // namespace

// A call, and the work that it becomes. A graph may run it again and again.
struct Work {
  Said said;
  const void* from;
  void* to;
  NcclComm* comm;
  size_t bytes() const { return said.count * (said.type == kNcclFloat32 ? 4 : 1); }
};

struct NcclComm {
  Shared* shared = nullptr;
  std::string file;
  int rank = 0, size = 0;
  bool connecting = true, finalizing = false;
  std::atomic<bool> aborted{false};
  uint64_t steps = 0;  // of this rank, on the stream
  int polls = 0;
  std::unique_ptr<Work> going_on;  // called, not queued yet
  cudaStream_t stream = nullptr;   // of it
  std::vector<std::unique_ptr<Work>> queued;
  std::atomic<int64_t> running{0};

  // Waits until every rank has come to the end of as many steps. False: this rank has aborted.
  bool meet() {
    shared->ranks[rank].steps.store(++steps);
    for (int r = 0; r < size; ++r) {
      for (Pause pause; shared->ranks[r].steps.load() < steps; pause()) {
        if (aborted.load()) return false;
      }
    }
    return true;
  }

  void check_that_all_do_the_same(const Said& mine) const {
    for (int r = 0; r < size; ++r) {
      const Said& other = shared->ranks[r].said;
      const bool pair = size == 2 && ((mine.what == What::kSend && other.what == What::kReceive) ||
                                      (mine.what == What::kReceive && other.what == What::kSend));
      CHECK(r == rank || pair || (other.what == mine.what && other.root == mine.root))
          << "NCCL: ranks " << rank << " and " << r << " do not do the same";
      CHECK(other.count == mine.count && other.type == mine.type)
          << "NCCL: " << mine.count << " elements on rank " << rank << ", " << other.count
          << " on rank " << r;
    }
  }

  // Whether this rank's part of the data goes to the others.
  bool gives(const Said& said) const {
    return said.what == What::kAllReduce || said.what == What::kAllGather ||
           said.what == What::kSend || (said.what == What::kBroadcast && said.root == rank);
  }

  void take(const Work& work, size_t first, size_t bytes) const {
    auto* to = static_cast<std::byte*>(work.to);
    switch (work.said.what) {
      case What::kSend:
        return;
      case What::kReceive:
        std::memcpy(to + first, shared->slots[1 - rank], bytes);
        return;
      case What::kBroadcast:
        std::memcpy(to + first, shared->slots[work.said.root], bytes);
        return;
      case What::kAllGather:
        for (int r = 0; r < size; ++r)
          std::memcpy(to + static_cast<size_t>(r) * work.bytes() + first, shared->slots[r], bytes);
        return;
      case What::kAllReduce:
        for (size_t i = 0; i < bytes; i += sizeof(float)) {
          float sum = 0;
          for (int r = 0; r < size; ++r) {
            float part = 0;
            std::memcpy(&part, shared->slots[r] + i, sizeof part);
            sum += part;
          }
          std::memcpy(to + first + i, &sum, sizeof sum);
        }
        return;
    }
  }

  // On the stream.
  void run(const Work& work) {
    shared->ranks[rank].said = work.said;
    for (size_t first = 0; first < work.bytes(); first += kSlotBytes) {
      const size_t bytes = std::min(kSlotBytes, work.bytes() - first);
      if (gives(work.said))
        std::memcpy(shared->slots[rank], static_cast<const std::byte*>(work.from) + first, bytes);
      if (!meet()) return;
      if (first == 0) check_that_all_do_the_same(work.said);
      take(work, first, bytes);
      if (!meet()) return;
    }
  }
};

namespace {

NcclResult get_version(int* version) {
  *version = 22809;
  return kNcclSuccess;
}

NcclResult get_unique_id(NcclUniqueId* id) {
  static std::atomic<int> count{0};
  *id = {};
  const std::string name = fmt::format("trireme-nccl-{}-{}", getpid(), count++);
  std::memcpy(id->bytes, name.data(), name.size());
  Shared* shared = map(file_of(*id), true);
  if (shared == nullptr) return kNcclSystemError;
  (void)munmap(shared, sizeof(Shared));
  return kNcclSuccess;
}

NcclResult init(NcclComm** out, int size, NcclUniqueId id, int rank, NcclConfig* config) {
  *out = nullptr;
  if (size > kRanksMax || config->magic != 0xcafebeef || config->blocking != 0)
    return kNcclInvalidArgument;
  auto comm = std::make_unique<NcclComm>();
  comm->file = file_of(id);
  comm->shared = map(comm->file, false);
  if (comm->shared == nullptr) return kNcclSystemError;
  comm->rank = rank;
  comm->size = size;
  comm->shared->size.store(size);
  comm->shared->joined.fetch_add(1);
  *out = comm.release();
  return kNcclInProgress;
}

NcclResult state_of(NcclComm& comm) {
  if (comm.connecting) {
    if (comm.shared->joined.load() < comm.size) return kNcclInProgress;
    comm.connecting = false;
    (void)shm_unlink(comm.file.c_str());  // all have it; the first to see that takes the name away
  }
  if (comm.finalizing) return comm.running.load() > 0 ? kNcclInProgress : kNcclSuccess;
  if (comm.going_on == nullptr) return kNcclSuccess;
  const bool first = comm.queued.empty();
  if (++comm.polls < 2 || (first && comm.shared->first_calls.load() < comm.size))
    return kNcclInProgress;
  comm.queued.push_back(std::move(comm.going_on));
  const cudaError_t error = cudaLaunchHostFunc(
      comm.stream,
      [](void* data) {
        const Work& work = *static_cast<Work*>(data);
        work.comm->running.fetch_add(1);
        work.comm->run(work);
        work.comm->running.fetch_sub(1);
      },
      comm.queued.back().get());
  return error == cudaSuccess ? kNcclSuccess : kNcclUnhandledCudaError;
}

NcclResult get_async_error(NcclComm* comm, NcclResult* error) {
  *error = state_of(*comm);
  return kNcclSuccess;
}

NcclResult call(NcclComm* comm, const Said& said, const void* from, void* to, cudaStream_t stream) {
  if (comm->connecting || comm->finalizing || comm->going_on != nullptr)
    return kNcclInvalidUsage;  // the call before is not over
  if (comm->queued.empty()) comm->shared->first_calls.fetch_add(1);
  comm->going_on = std::make_unique<Work>(Work{said, from, to, comm});
  comm->stream = stream;
  comm->polls = 0;
  return kNcclInProgress;
}

NcclResult finalize(NcclComm* comm) {
  comm->finalizing = true;
  return kNcclInProgress;
}
// Recorded work may still name it, in a graph that nobody launches again: it stays.
NcclResult destroy(NcclComm* comm) {
  (void)munmap(comm->shared, sizeof(Shared));
  comm->shared = nullptr;
  return kNcclSuccess;
}
NcclResult abort(NcclComm* comm) {
  comm->aborted.store(true);
  (void)shm_unlink(comm->file.c_str());
  return kNcclSuccess;
}
const char* error_string(NcclResult result) {
  return result == kNcclSystemError ? "a system call failed" : "an error";
}
const char* last_error(NcclComm*) { return ""; }

NcclResult register_buffer(NcclComm*, void* buffer, size_t, void** handle) {
  *handle = buffer;
  return kNcclSuccess;
}
NcclResult deregister_buffer(NcclComm*, void*) { return kNcclSuccess; }

NcclResult all_reduce(const void* from, void* to, size_t count, NcclDataType type, NcclReduction,
                      NcclComm* comm, cudaStream_t stream) {
  if (type != kNcclFloat32) return kNcclInvalidArgument;
  return call(comm, {What::kAllReduce, type, count, 0}, from, to, stream);
}
NcclResult all_gather(const void* from, void* to, size_t count, NcclDataType type, NcclComm* comm,
                      cudaStream_t stream) {
  return call(comm, {What::kAllGather, type, count, 0}, from, to, stream);
}
NcclResult broadcast(const void* from, void* to, size_t count, NcclDataType type, int root,
                     NcclComm* comm, cudaStream_t stream) {
  return call(comm, {What::kBroadcast, type, count, root}, from, to, stream);
}
NcclResult send(const void* from, size_t count, NcclDataType type, int peer, NcclComm* comm,
                cudaStream_t stream) {
  return call(comm, {What::kSend, type, count, peer}, from, nullptr, stream);
}
NcclResult receive(void* to, size_t count, NcclDataType type, int peer, NcclComm* comm,
                   cudaStream_t stream) {
  return call(comm, {What::kReceive, type, count, peer}, nullptr, to, stream);
}

}  // namespace

NcclApi test::process_nccl() {
  return {
      get_version,     get_unique_id, init,       finalize,        destroy,           abort,
      get_async_error, error_string,  last_error, register_buffer, deregister_buffer, all_reduce,
      all_gather,      broadcast,     send,       receive};
}

}  // namespace trireme

#include "tests/comm/nccl/fake_nccl.h"

#include <cstring>
#include <map>
#include <utility>

#include <cuda_runtime.h>
#include <fmt/format.h>

#include "kernels/base/check.h"

namespace trireme {

// A call, and the work that it becomes. A graph may run it again and again.
struct FakeNccl::Work {
  std::string function;
  const void* from = nullptr;
  void* to = nullptr;
  size_t count = 0;
  NcclDataType type = kNcclUint8;
  int root = 0;  // or the peer
  cudaStream_t stream = nullptr;
  NcclComm* comm = nullptr;
  bool hangs = false;

  size_t bytes() const { return count * (type == kNcclFloat32 ? 4 : 1); }
};

// What ranks do together: one meeting for each piece of work, in the order of the streams.
struct FakeNccl::Clique {
  struct Meeting {
    std::vector<Work*> parts;  // by rank
    int arrived = 0, left = 0;
    bool hangs = false, done = false;
  };
  int size = 0;  // 0: nobody has joined
  int joined = 0, first_calls = 0;
  std::vector<NcclComm*> members;  // by rank
  std::map<int, Meeting> meetings;
};

struct NcclComm {
  enum class State { kOpen, kFinalizing, kDestroyed, kAborted };
  FakeNccl::Clique* clique = nullptr;
  int rank = 0;
  State state = State::kOpen;
  NcclResult error = kNcclSuccess;
  bool connecting = true, never_connects = false;
  int calls = 0, polls = 0;
  std::unique_ptr<FakeNccl::Work> going_on;  // called, not queued yet
  std::vector<std::unique_ptr<FakeNccl::Work>> queued;
  int begun = 0, ended = 0;                   // pieces of work
  bool hung = false;                          // the piece that runs will never end
  std::vector<std::unique_ptr<int>> buffers;  // what handles point to

  bool gone() const { return state == State::kDestroyed || state == State::kAborted; }
};

FakeNccl* FakeNccl::current = nullptr;

// The functions of the table.
struct FakeNccl::Functions {
  static NcclResult get_version(int* version) {
    *version = 22809;
    return kNcclSuccess;
  }
  static NcclResult get_unique_id(NcclUniqueId* id) {
    FakeNccl& f = *current;
    const std::scoped_lock lock(f.mutex_);
    f.cliques_.push_back(std::make_unique<Clique>());
    *id = {};
    std::snprintf(id->bytes, sizeof id->bytes, "%zu", f.cliques_.size() - 1);
    return kNcclSuccess;
  }
  static NcclResult init(NcclComm** out, int size, NcclUniqueId id, int rank, NcclConfig* config) {
    FakeNccl& f = *current;
    const Fault fault = f.faults_ ? f.faults_({"init", size, rank, 0}) : Fault::kNone;
    const std::scoped_lock lock(f.mutex_);
    *out = nullptr;
    if (fault == Fault::kFail) return kNcclSystemError;
    const auto index = static_cast<size_t>(std::stoul(id.bytes));
    if (config->magic != 0xcafebeef || config->size != sizeof(NcclConfig) ||
        config->blocking != 0 || index >= f.cliques_.size()) {
      f.violation("init: the configuration or the id is none");
      return kNcclInvalidArgument;
    }
    Clique& clique = *f.cliques_[index];
    if (clique.size == 0) {
      clique.size = size;
      clique.members.resize(static_cast<size_t>(size));
    }
    if (clique.size != size || clique.members[static_cast<size_t>(rank)] != nullptr) {
      f.violation(fmt::format("init: rank {} of {} does not fit", rank, size));
      return kNcclInvalidArgument;
    }
    auto comm = std::make_unique<NcclComm>();
    comm->clique = &clique;
    comm->rank = rank;
    comm->never_connects = fault == Fault::kHang;
    if (fault == Fault::kAsyncError) comm->error = kNcclSystemError;
    clique.members[static_cast<size_t>(rank)] = comm.get();
    if (fault == Fault::kNone) ++clique.joined;
    *out = comm.get();
    f.comms_.push_back(std::move(comm));
    f.changed_.notify_all();
    return kNcclInProgress;
  }
  static NcclResult get_async_error(NcclComm* comm, NcclResult* error) {
    FakeNccl& f = *current;
    const std::scoped_lock lock(f.mutex_);
    if (!f.usable(comm, "get_async_error")) return kNcclInvalidArgument;
    *error = f.poll(comm);
    return kNcclSuccess;
  }
  static NcclResult finalize(NcclComm* comm) {
    FakeNccl& f = *current;
    const std::scoped_lock lock(f.mutex_);
    if (!f.usable(comm, "finalize")) return kNcclInvalidArgument;
    if (f.poll(comm) != kNcclSuccess) return kNcclInvalidArgument;
    comm->state = NcclComm::State::kFinalizing;
    return kNcclInProgress;
  }
  static NcclResult destroy(NcclComm* comm) {
    FakeNccl& f = *current;
    const std::scoped_lock lock(f.mutex_);
    if (!f.usable(comm, "destroy")) return kNcclInvalidArgument;
    if (comm->state != NcclComm::State::kFinalizing || comm->begun != comm->ended)
      f.violation("destroy: the communicator is not finalized");
    if (!comm->buffers.empty()) f.violation("destroy: a buffer is still registered");
    comm->state = NcclComm::State::kDestroyed;
    f.changed_.notify_all();
    return kNcclSuccess;
  }
  static NcclResult abort(NcclComm* comm) {
    FakeNccl& f = *current;
    const std::scoped_lock lock(f.mutex_);
    if (!f.usable(comm, "abort")) return kNcclInvalidArgument;
    comm->state = NcclComm::State::kAborted;
    comm->going_on.reset();
    for (NcclComm* other : comm->clique->members) {
      if (f.tell_others_ && other != nullptr && !other->gone()) other->error = kNcclRemoteError;
    }
    f.changed_.notify_all();
    return kNcclInProgress;
  }
  static const char* error_string(NcclResult result) {
    switch (result) {
      case kNcclSystemError:
        return "a system call failed";
      case kNcclRemoteError:
        return "a remote process is gone";
      case kNcclInvalidArgument:
        return "an argument is invalid";
      default:
        return "an error";
    }
  }
  static const char* last_error(NcclComm*) { return ""; }
  static NcclResult register_buffer(NcclComm* comm, void* buffer, size_t bytes, void** handle) {
    FakeNccl& f = *current;
    const std::scoped_lock lock(f.mutex_);
    if (!f.usable(comm, "register")) return kNcclInvalidArgument;
    if (buffer == nullptr || bytes == 0) f.violation("register: no memory");
    comm->buffers.push_back(std::make_unique<int>(0));
    *handle = comm->buffers.back().get();
    ++f.registered_;
    return kNcclSuccess;
  }
  static NcclResult deregister_buffer(NcclComm* comm, void* handle) {
    FakeNccl& f = *current;
    const std::scoped_lock lock(f.mutex_);
    if (!f.usable(comm, "deregister")) return kNcclInvalidArgument;
    if (std::erase_if(comm->buffers, [&](const auto& b) { return b.get() == handle; }) != 1)
      f.violation("deregister: no such handle");
    return kNcclSuccess;
  }
  static NcclResult all_reduce(const void* from, void* to, size_t count, NcclDataType type,
                               NcclReduction, NcclComm* comm, cudaStream_t stream) {
    return call(comm, {"all_reduce", from, to, count, type, 0, stream});
  }
  static NcclResult all_gather(const void* from, void* to, size_t count, NcclDataType type,
                               NcclComm* comm, cudaStream_t stream) {
    return call(comm, {"all_gather", from, to, count, type, 0, stream});
  }
  static NcclResult broadcast(const void* from, void* to, size_t count, NcclDataType type, int root,
                              NcclComm* comm, cudaStream_t stream) {
    return call(comm, {"broadcast", from, to, count, type, root, stream});
  }
  static NcclResult send(const void* from, size_t count, NcclDataType type, int peer,
                         NcclComm* comm, cudaStream_t stream) {
    return call(comm, {"send", from, nullptr, count, type, peer, stream});
  }
  static NcclResult receive(void* to, size_t count, NcclDataType type, int peer, NcclComm* comm,
                            cudaStream_t stream) {
    return call(comm, {"receive", nullptr, to, count, type, peer, stream});
  }
  static NcclResult call(NcclComm* comm, Work work) {
    return current->queue(comm, std::make_unique<Work>(std::move(work)));
  }
};

FakeNccl::FakeNccl(Faults faults) : faults_(std::move(faults)) {
  CHECK(current == nullptr);
  current = this;
  using F = Functions;
  api_ = {F::get_version,     F::get_unique_id,     F::init,
          F::finalize,        F::destroy,           F::abort,
          F::get_async_error, F::error_string,      F::last_error,
          F::register_buffer, F::deregister_buffer, F::all_reduce,
          F::all_gather,      F::broadcast,         F::send,
          F::receive};
}
FakeNccl::~FakeNccl() { current = nullptr; }

void FakeNccl::violation(std::string text) { violations_.push_back(std::move(text)); }

bool FakeNccl::usable(NcclComm* comm, const char* function) {
  if (comm != nullptr && !comm->gone()) return true;
  violation(fmt::format("{}: the communicator is gone", function));
  return false;
}

NcclResult FakeNccl::queue(NcclComm* comm, std::unique_ptr<Work> work) {
  Call call{work->function, 0, 0, 0};
  {
    const std::scoped_lock lock(mutex_);
    if (!usable(comm, work->function.c_str())) return kNcclInvalidArgument;
    if (comm->going_on != nullptr || comm->connecting || comm->state != NcclComm::State::kOpen) {
      violation(fmt::format("{}: the call before is not over", work->function));
      return kNcclInvalidArgument;
    }
    call.size = comm->clique->size;
    call.rank = comm->rank;
    call.number = comm->calls++;
  }
  const Fault fault = faults_ ? faults_(call) : Fault::kNone;
  const std::scoped_lock lock(mutex_);
  if (fault == Fault::kFail) return kNcclSystemError;
  if (comm->gone()) return kNcclInvalidArgument;
  if (fault == Fault::kAsyncError) comm->error = kNcclSystemError;
  work->hangs = fault == Fault::kHang || fault == Fault::kAsyncError;
  work->comm = comm;
  if (call.number == 0) ++comm->clique->first_calls;
  comm->polls = 0;
  comm->going_on = std::move(work);
  return kNcclInProgress;
}

// Under the lock. Ends what goes on if its time has come.
NcclResult FakeNccl::poll(NcclComm* comm) {
  if (comm->error != kNcclSuccess) return comm->error;
  Clique& clique = *comm->clique;
  if (comm->connecting) {
    comm->connecting = clique.joined < clique.size || comm->never_connects;
    return comm->connecting ? kNcclInProgress : kNcclSuccess;
  }
  if (comm->state == NcclComm::State::kFinalizing)
    return comm->ended < static_cast<int>(comm->queued.size()) || comm->begun != comm->ended
               ? kNcclInProgress
               : kNcclSuccess;
  if (comm->going_on == nullptr) return kNcclSuccess;
  const bool first = comm->queued.empty();
  if (++comm->polls < 3 || (first && clique.first_calls < clique.size)) return kNcclInProgress;
  comm->queued.push_back(std::move(comm->going_on));
  Work* work = comm->queued.back().get();
  const cudaError_t error = cudaLaunchHostFunc(
      work->stream, [](void* data) { current->run(*static_cast<Work*>(data)); }, work);
  return error == cudaSuccess ? kNcclSuccess : kNcclUnhandledCudaError;
}

// On the stream: meets the other ranks, waits until the work is done or this rank aborts.
void FakeNccl::run(Work& work) {
  std::unique_lock lock(mutex_);
  NcclComm& comm = *work.comm;
  if (comm.state == NcclComm::State::kAborted) return;
  if (comm.gone()) return violation(work.function + ": its work outlived the communicator");
  Clique& clique = *comm.clique;
  const int number = comm.begun++;
  Clique::Meeting& meeting = clique.meetings[number];
  meeting.parts.resize(static_cast<size_t>(clique.size));
  meeting.parts[static_cast<size_t>(comm.rank)] = &work;
  meeting.hangs = meeting.hangs || work.hangs;
  if (++meeting.arrived == clique.size) {
    for (const Work* part : meeting.parts) meeting.hangs = meeting.hangs || part->comm->gone();
    if (!meeting.hangs) perform(meeting.parts);
    meeting.done = !meeting.hangs;
    for (const Work* part : meeting.parts) part->comm->hung = meeting.hangs;
  }
  changed_.notify_all();
  changed_.wait(lock, [&] { return meeting.done || comm.state == NcclComm::State::kAborted; });
  comm.hung = false;
  ++comm.ended;
  if (++meeting.left == clique.size) clique.meetings.erase(number);
}

void FakeNccl::perform(const std::vector<Work*>& parts) {
  const Work& a = *parts[0];
  for (const Work* b : parts) {
    const bool pair = a.function == "send" && b->function == "receive";
    if ((b->function != a.function && !pair) || b->count != a.count || b->type != a.type ||
        (!pair && b->root != a.root))
      return violation(fmt::format("ranks do not do the same: {} of {} and {} of {}", a.function,
                                   a.count, b->function, b->count));
  }
  const size_t n = parts.size();
  if (a.function == "send") {
    if (n != 2 || a.root != 1 || parts[1]->root != 0) return violation("send: not between two");
    std::memcpy(parts[1]->to, a.from, a.bytes());
  } else if (a.function == "broadcast") {
    for (Work* part : parts) {
      const void* from = parts[static_cast<size_t>(a.root)]->from;
      if (part->to != from) std::memcpy(part->to, from, a.bytes());
    }
  } else if (a.function == "all_gather") {
    for (Work* to : parts) {
      for (size_t r = 0; r < n; ++r)
        std::memmove(static_cast<std::byte*>(to->to) + r * a.bytes(), parts[r]->from, a.bytes());
    }
  } else if (a.function == "all_reduce") {
    if (a.type != kNcclFloat32) return violation("all_reduce: not of floats");
    for (size_t i = 0; i < a.count; ++i) {
      const auto part = [&](size_t r) {
        return static_cast<const float*>(parts[(r + i / 16) % n]->from)[i];
      };
      float sum = part(0);
      for (size_t r = 1; r < n; ++r) sum += part(r);
      for (Work* to : parts) static_cast<float*>(to->to)[i] = sum;
    }
  } else {
    violation(a.function + " without its other half");
  }
}

std::vector<std::string> FakeNccl::violations() const {
  const std::scoped_lock lock(mutex_);
  return violations_;
}
int FakeNccl::made() const {
  const std::scoped_lock lock(mutex_);
  return static_cast<int>(comms_.size());
}
int FakeNccl::count_gone() const {
  int count = 0;
  for (const auto& comm : comms_) count += comm->gone() ? 1 : 0;
  return count;
}
int FakeNccl::open() const {
  const std::scoped_lock lock(mutex_);
  return static_cast<int>(comms_.size()) - count_gone();
}
int FakeNccl::aborted() const {
  const std::scoped_lock lock(mutex_);
  int count = 0;
  for (const auto& comm : comms_) count += comm->state == NcclComm::State::kAborted ? 1 : 0;
  return count;
}
int FakeNccl::registered() const {
  const std::scoped_lock lock(mutex_);
  return registered_;
}
void FakeNccl::wait_until_hung(int count) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] {
    int hung = 0;
    for (const auto& comm : comms_) hung += comm->hung ? 1 : 0;
    return hung >= count;
  });
}
void FakeNccl::wait_until_made(int count) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return static_cast<int>(comms_.size()) >= count; });
}
void FakeNccl::wait_until_gone(int count) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return count_gone() >= count; });
}

}  // namespace trireme

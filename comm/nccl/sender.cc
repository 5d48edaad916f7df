#include "comm/nccl/sender.h"

#include <algorithm>
#include <bit>

#include "comm/nccl/device_memory.h"
#include "comm/tensor_bytes.h"

namespace trireme {
namespace {

constexpr int64_t kUnderWayBytesMax = int64_t{64} << 20;
constexpr size_t kSlotBytesMin = size_t{64} << 10;

}  // namespace

Result<std::unique_ptr<NcclSender>> NcclSender::make(NcclRank& rank, const NcclUniqueId& id,
                                                     const NcclWork& work) {
  auto sender = std::make_unique<NcclSender>(rank, work);
  if (const cudaError_t error = cudaStreamCreateWithFlags(&sender->stream_, cudaStreamNonBlocking);
      error != cudaSuccess)
    return sender->cuda(error);
  if (Status s = rank.open(sender->link_, 2, id, 0); !s.ok()) return s;
  rank.attach(sender.get());
  return sender;
}

NcclSender::~NcclSender() {
  const auto start = rank_.now();
  bool idle = false;
  for (Pause pause; !idle && rank_.now() - start < rank_.options().finish_deadline; pause()) {
    const auto lock = rank_.lock();
    idle = !rank_.failure(lock).ok() || !advance(rank_.now()).ok() || oldest_ == nullptr;
  }
  rank_.detach(this);
  rank_.close(link_, oldest_ == nullptr);
  if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
  for (const auto& slot : slots_) {
    (void)cudaEventDestroy(slot->ready);
    (void)cudaEventDestroy(slot->done);
  }
}

Status NcclSender::send(const ConstTensorView& x) {
  const int64_t bytes = tensor_bytes(x);
  if (Status s = make_room(bytes); !s.ok()) return s;
  Result<Slot*> found = free_slot(bytes);
  if (!found.ok()) return found.status();
  Slot* slot = *found;
  const TensorView packed = tensor(slot->memory.data(), x.rows, x.cols, x.dtype, x.place);
  cudaError_t error = queue_copy(x, packed, rank_.queue());
  if (error == cudaSuccess) error = cudaEventRecord(slot->ready, rank_.queue());
  if (error != cudaSuccess) return rank_.fail(cuda(error));

  const NcclRank::Clock::time_point now = rank_.now();
  auto lock = rank_.lock();
  if (!rank_.failure(lock).ok()) return rank_.failure(lock);
  slot->bytes = bytes;
  slot->stand = Stand::kStaged;
  slot->newer = nullptr;
  bytes_under_way_ += bytes;
  if (oldest_ == nullptr) {
    oldest_ = slot;
    oldest_since_ = now;
  } else {
    newest_->newer = slot;
  }
  newest_ = slot;
  if (next_ == nullptr) next_ = slot;
  Status status = advance(now);
  const bool not_yet = waiting();
  lock.unlock();
  if (not_yet) rank_.look_soon();
  return status.ok() ? status : rank_.fail(status);
}

// Waits until the message may be under way with those that are.
Status NcclSender::make_room(int64_t bytes) {
  for (Pause pause;; pause()) {
    auto lock = rank_.lock();
    if (!rank_.failure(lock).ok()) return rank_.failure(lock);
    const Status status = advance(rank_.now());
    const bool room = oldest_ == nullptr || bytes_under_way_ + bytes <= kUnderWayBytesMax;
    lock.unlock();
    if (!status.ok()) return rank_.fail(status);
    if (room) return {};
  }
}

// The smallest free slot that is large enough, or a new one. Sizes are powers of two, so that
// messages of many lengths share slots.
Result<NcclSender::Slot*> NcclSender::free_slot(int64_t bytes) {
  const auto wanted = static_cast<size_t>(bytes);
  Slot* best = nullptr;
  {
    const auto lock = rank_.lock();
    for (const auto& slot : slots_) {
      if (slot->stand != Stand::kFree || slot->memory.bytes() < wanted) continue;
      if (best == nullptr || slot->memory.bytes() < best->memory.bytes()) best = slot.get();
    }
  }
  if (best != nullptr) return best;
  auto memory = rank_.device().allocate(std::max(std::bit_ceil(wanted), kSlotBytesMin));
  if (!memory.ok()) return memory.status();
  auto slot = std::make_unique<Slot>();
  slot->memory = memory.take();
  cudaError_t error = cudaEventCreateWithFlags(&slot->ready, cudaEventDisableTiming);
  if (error == cudaSuccess) error = cudaEventCreateWithFlags(&slot->done, cudaEventDisableTiming);
  if (error != cudaSuccess) return rank_.fail(cuda(error));
  slots_.push_back(std::move(slot));
  return slots_.back().get();
}

Status NcclSender::advance(NcclRank::Clock::time_point now) {
  if (link_.comm == nullptr) return {};  // aborted
  if (Status s = release_ended(now); !s.ok()) return s;
  if (Status s = make_calls(); !s.ok()) return s;
  const auto deadline = rank_.options().work_deadline;
  if (oldest_ != nullptr && now - oldest_since_ > deadline)
    return rank_.overdue_status(work_, deadline);
  return {};
}

Status NcclSender::release_ended(NcclRank::Clock::time_point now) {
  while (oldest_ != nullptr && oldest_->stand == Stand::kQueued) {
    const cudaError_t error = cudaEventQuery(oldest_->done);
    if (error == cudaErrorNotReady) return {};
    if (error != cudaSuccess) return cuda(error);
    bytes_under_way_ -= oldest_->bytes;
    oldest_->stand = Stand::kFree;
    oldest_ = oldest_->newer;
    oldest_since_ = now;
  }
  if (oldest_ == nullptr) newest_ = nullptr;
  return {};
}

// One call after the other: NCCL takes the next when it is done with the one before.
Status NcclSender::make_calls() {
  const NcclApi& api = rank_.api();
  while (next_ != nullptr) {
    NcclResult state = kNcclSuccess;
    const NcclResult asked = api.comm_get_async_error(link_.comm, &state);
    if (asked != kNcclSuccess) state = asked;
    if (state == kNcclInProgress) return {};
    if (state != kNcclSuccess) return rank_.result_status(work_, link_.comm, state);
    if (next_->stand == Stand::kSending) {
      if (const cudaError_t error = cudaEventRecord(next_->done, stream_); error != cudaSuccess)
        return cuda(error);
      next_->stand = Stand::kQueued;
      next_ = next_->newer;
      continue;
    }
    if (const cudaError_t error = cudaStreamWaitEvent(stream_, next_->ready, 0);
        error != cudaSuccess)
      return cuda(error);
    state = api.send(next_->memory.data(), static_cast<size_t>(next_->bytes), kNcclUint8, 1,
                     link_.comm, stream_);
    if (state != kNcclSuccess && state != kNcclInProgress)
      return rank_.result_status(work_, link_.comm, state);
    next_->stand = Stand::kSending;
  }
  return {};
}

Status NcclSender::cuda(cudaError_t error) const { return rank_.cuda_error_status(work_, error); }

}  // namespace trireme

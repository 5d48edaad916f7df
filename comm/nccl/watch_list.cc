#include "comm/nccl/watch_list.h"

#include "kernels/base/check.h"

namespace trireme {

WatchList::~WatchList() {
  for (const Entry& entry : entries_) {
    if (entry.event != nullptr) (void)cudaEventDestroy(entry.event);
  }
}

cudaError_t WatchList::add(cudaStream_t stream, const NcclWork& work, Clock::time_point now) {
  CHECK(!full());
  Entry& entry = entries_[(first_ + count_) % kEntries];
  if (entry.event == nullptr) {
    const cudaError_t error = cudaEventCreateWithFlags(&entry.event, cudaEventDisableTiming);
    if (error != cudaSuccess) return error;
  }
  const cudaError_t error = cudaEventRecord(entry.event, stream);
  if (error != cudaSuccess) return error;
  entry.work = work;
  if (count_++ == 0) head_since_ = now;
  return cudaSuccess;
}

cudaError_t WatchList::look(Clock::time_point now) {
  while (count_ > 0) {
    const cudaError_t error = cudaEventQuery(entries_[first_].event);
    if (error == cudaErrorNotReady) return cudaSuccess;
    if (error != cudaSuccess) return error;
    first_ = (first_ + 1) % kEntries;
    --count_;
    head_since_ = now;
  }
  return cudaSuccess;
}

}  // namespace trireme

#include "kernels/cuda/cuda_copy_queue.h"

namespace trireme::cuda {

CudaCopyQueue::~CudaCopyQueue() {
  if (stream_ == nullptr) return;
  (void)cudaStreamSynchronize(stream_);
  (void)cudaStreamDestroy(stream_);
  if (ops_done_ != nullptr) (void)cudaEventDestroy(ops_done_);
  for (cudaEvent_t event : marks_) {
    if (event != nullptr) (void)cudaEventDestroy(event);
  }
}

cudaStream_t CudaCopyQueue::stream() {
  if (stream_ == nullptr)
    context_.note(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
  return stream_;
}

cudaEvent_t CudaCopyQueue::event(cudaEvent_t& event) {
  if (event == nullptr)
    context_.note(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
  return event;
}

void CudaCopyQueue::copy(void* target, const void* source, size_t bytes) {
  if (bytes == 0) return;
  context_.note(cudaMemcpyAsync(target, source, bytes, cudaMemcpyDefault, stream()),
                "copying memory beside ops");
}

void CudaCopyQueue::follow_ops() {
  context_.note(cudaEventRecord(event(ops_done_), context_.stream()), "marking the stream");
  context_.note(cudaStreamWaitEvent(stream(), ops_done_, 0), "ordering copies after ops");
}

uint64_t CudaCopyQueue::mark() {
  context_.note(cudaEventRecord(event(marks_[mark_ % kMarksKept]), stream()), "marking copies");
  return mark_++;
}

// An event that was recorded again since is a later point: copies in between are in the queue
// already, and follow no op that is yet to come.
void CudaCopyQueue::ops_follow(uint64_t mark) {
  context_.note(cudaStreamWaitEvent(context_.stream(), marks_[mark % kMarksKept], 0),
                "ordering ops after copies");
}

Status CudaCopyQueue::synchronize() {
  context_.note(cudaStreamSynchronize(stream()), "waiting for copies");
  return context_.status();
}

}  // namespace trireme::cuda

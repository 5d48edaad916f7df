// A second stream of a CUDA device: copies beside its ops.
#pragma once

#include <array>

#include <cuda_runtime.h>

#include "kernels/cuda/context.h"
#include "kernels/device.h"

namespace trireme::cuda {

class CudaCopyQueue final : public CopyQueue {
 public:
  // `context` outlives it. Errors go there. The stream is made when it is first used.
  explicit CudaCopyQueue(Context& context) : context_(context) {}
  ~CudaCopyQueue() override;
  CudaCopyQueue(const CudaCopyQueue&) = delete;
  CudaCopyQueue& operator=(const CudaCopyQueue&) = delete;

  void copy(void* target, const void* source, size_t bytes) override;
  void follow_ops() override;
  uint64_t mark() override;
  void ops_follow(uint64_t mark) override;
  Status synchronize() override;

 private:
  cudaStream_t stream();
  cudaEvent_t event(cudaEvent_t& event);

  static constexpr size_t kMarksKept = 16;
  Context& context_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t ops_done_ = nullptr;
  std::array<cudaEvent_t, kMarksKept> marks_{};
  uint64_t mark_ = 0;  // the next
};

}  // namespace trireme::cuda

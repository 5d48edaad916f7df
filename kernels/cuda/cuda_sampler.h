// Choosing tokens on a GPU: moves what the choice needs there and the tokens back.
#pragma once

#include <vector>

#include "kernels/base/tensor.h"
#include "kernels/cuda/context.h"
#include "kernels/device_sampler.h"

namespace trireme {

class Device;

namespace cuda {

class CudaSampler final : public DeviceSampler {
 public:
  // `device` and `context`, which are one device's, outlive it.
  CudaSampler(Device& device, Context& context) : device_(device), context_(context) {}

  Status sample(ConstTensorView logits, const SampleBatch& batch) override;
  Status best(ConstTensorView logits, int32_t first_token, BestLogit* best) override;
  std::span<const int32_t> tokens() const override {
    return {static_cast<const int32_t*>(tokens_.data()), count_};
  }

 private:
  // Host memory that a copy reads, and where it puts it.
  struct Staged {
    Buffer host, device;
  };
  Status stage(Staged& area, const void* from, size_t bytes);
  Status reserve(Buffer& buffer, size_t bytes, bool pinned);

  Device& device_;
  Context& context_;
  // Two of each: the host writes one step's while the device may still read the last one's.
  Staged rows_[2], edits_[2], masks_[2];
  int turn_ = 0;
  // The kernels' own, and the tokens, in memory of the host that they write to.
  Buffer edited_, parts_, states_, weights_, counts_, lists_, tokens_;
  size_t count_ = 0;
};

}  // namespace cuda
}  // namespace trireme

#include "kernels/cuda/cuda_sampler.h"

#include <algorithm>
#include <cstring>

#include "kernels/cuda/ops/sample.h"
#include "kernels/device.h"

namespace trireme::cuda {

// Grows by halves, so that a slowly growing batch allocates seldom. Memory that queued work may
// still use is given back after it: cudaFree waits.
Status CudaSampler::reserve(Buffer& buffer, size_t bytes, bool pinned) {
  if (bytes <= buffer.bytes()) return {};
  const size_t grown = std::max(bytes, buffer.bytes() + buffer.bytes() / 2);
  Result<Buffer> larger = pinned ? device_.allocate_pinned(grown) : device_.allocate(grown);
  if (!larger.ok()) return larger.status();
  buffer = larger.take();
  return {};
}

Status CudaSampler::stage(Staged& area, const void* from, size_t bytes) {
  if (bytes == 0) return {};
  if (Status s = reserve(area.host, bytes, true); !s.ok()) return s;
  if (Status s = reserve(area.device, bytes, false); !s.ok()) return s;
  std::memcpy(area.host.data(), from, bytes);
  device_.copy(area.device.data(), area.host.data(), bytes);
  return {};
}

Status CudaSampler::sample(ConstTensorView logits, const SampleBatch& batch) {
  count_ = batch.rows.size();
  if (count_ == 0) return {};
  turn_ = 1 - turn_;
  Staged &rows = rows_[turn_], &edits = edits_[turn_], &masks = masks_[turn_];
  const bool few = count_ <= size_t{kSampleRowsInCall};
  for (Status s : {stage(rows, batch.rows.data(), few ? 0 : batch.rows.size_bytes()),
                   stage(edits, batch.edits.data(), batch.edits.size_bytes()),
                   stage(masks, batch.masks.data(), batch.masks.size_bytes())}) {
    if (!s.ok()) return s;
  }
  const auto vocab = static_cast<size_t>(logits.cols);
  const size_t parts = (vocab + kSamplePart - 1) / kSamplePart;
  const bool edited = std::any_of(batch.rows.begin(), batch.rows.end(), is_edited);
  for (Status s : {reserve(edited_, edited ? count_ * vocab * sizeof(float) : 0, false),
                   reserve(parts_, count_ * parts * sizeof(SamplePart), false),
                   reserve(states_, count_ * sizeof(SampleState), false),
                   reserve(weights_, count_ * kSampleBins * sizeof(unsigned long long), false),
                   reserve(counts_, count_ * kSampleBins * sizeof(unsigned), false),
                   reserve(lists_, count_ * kSampleListMax * sizeof(int32_t), false),
                   reserve(tokens_, count_ * sizeof(int32_t), true)}) {
    if (!s.ok()) return s;
  }
  SampleCall call{};
  call.logits = static_cast<const float*>(logits.data);
  call.stride = logits.row_stride;
  call.vocab = static_cast<int32_t>(logits.cols);
  call.parts = static_cast<int32_t>(parts);
  call.rows = few ? nullptr : static_cast<const SampleRow*>(rows.device.data());
  call.count = static_cast<int32_t>(count_);
  call.edits = static_cast<const LogitEdit*>(edits.device.data());
  call.masks = static_cast<const uint32_t*>(masks.device.data());
  call.edited = static_cast<float*>(edited_.data());
  call.part = static_cast<SamplePart*>(parts_.data());
  call.state = static_cast<SampleState*>(states_.data());
  call.weights = static_cast<unsigned long long*>(weights_.data());
  call.counts = static_cast<unsigned*>(counts_.data());
  call.lists = static_cast<int32_t*>(lists_.data());
  call.tokens = static_cast<int32_t*>(tokens_.data());
  queue_sample(context_, call, batch.rows);
  return context_.status();
}

Status CudaSampler::best(ConstTensorView logits, int32_t first_token, BestLogit* best) {
  if (logits.rows == 0) return {};
  BestCall call{};
  call.logits = static_cast<const float*>(logits.data);
  call.stride = logits.row_stride;
  call.count = static_cast<int32_t>(logits.rows);
  call.vocab = static_cast<int32_t>(logits.cols);
  call.parts = std::max((call.vocab + kSamplePart - 1) / kSamplePart, 1);
  call.first_token = first_token;
  call.best = best;
  const size_t bytes = static_cast<size_t>(call.count) * static_cast<size_t>(call.parts);
  if (Status s = reserve(parts_, bytes * sizeof(SamplePart), false); !s.ok()) return s;
  call.part = static_cast<SamplePart*>(parts_.data());
  queue_best(context_, call);
  return context_.status();
}

}  // namespace trireme::cuda

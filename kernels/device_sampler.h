// Choosing tokens where the logits are, so that rows of a whole vocabulary need not travel to the
// host. A device may offer it: Device::sampler(). The rule is runtime/sample/sampler.h's; what is
// left out here (log-probabilities, errors with a sentence) is done on the host, from the row.
//
// Who calls it: the thread that runs a rank's steps.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/base/status.h"
#include "kernels/base/tensor.h"

namespace trireme {

// What one token of a row becomes before anything is chosen, in this order; each token at most once
// in a row:
//   l = -inf if forbidden, else l + bias;   l = l > 0 ? min(l / repetition, FLT_MAX) : l *
//   repetition l = (l - frequency) - presence
struct LogitEdit {
  int32_t token = 0;
  bool forbidden = false;
  float bias = 0.0f;
  float repetition = 1.0f;
  float frequency = 0.0f;  // the penalty times the count
  float presence = 0.0f;
};

// How one row is chosen from. The fields are those of SamplingParams.
struct SampleRow {
  int32_t row = 0;  // of the logits
  float temperature = 1.0f;
  float min_p = 0.0f;
  float top_p = 1.0f;
  int32_t top_k = 0;  // <= 0: off
  double u = 0.0;     // the number in (0, 1) that decides: uniform(seed, choice, position)
  int32_t first_edit = 0, edits = 0;
  int32_t mask = -1;  // which of the masks says what may come; -1: everything
};

struct SampleBatch {
  std::span<const SampleRow> rows;
  std::span<const LogitEdit> edits;
  // Masks one after the other, ceil(vocab / 32) words each: bit t % 32 of word t / 32.
  std::span<const uint32_t> masks;
};

// The largest logit of a row, or of a part of the vocabulary: what shards tell each other of a row
// that gets its likeliest token.
struct BestLogit {
  // Instead of a token: none may come; there is a NaN or +inf.
  static constexpr int32_t kNone = -1, kBroken = -2;
  float logit = 0.0f;
  int32_t token = kNone;  // of the whole vocabulary; of equal logits the lowest

  // That of both parts together.
  friend BestLogit best_of(const BestLogit& a, const BestLogit& b) {
    if (a.token == kBroken || b.token == kNone) return a;
    if (b.token == kBroken || a.token == kNone) return b;
    if (a.logit != b.logit) return a.logit > b.logit ? a : b;
    return a.token < b.token ? a : b;
  }
};

class DeviceSampler {
 public:
  virtual ~DeviceSampler() = default;

  // Queues the choice of a token for each of batch.rows from logits [*, vocab] f32 on the device,
  // which stay as they are. The batch's memory is read before it returns.
  // kResourceExhausted: no memory for a batch larger than all before.
  virtual Status sample(ConstTensorView logits, const SampleBatch& batch) = 0;

  // Queues the largest logit of each row of `logits` [rows, cols] f32 on the device, whose columns
  // are tokens first_token, first_token + 1, ... of the vocabulary; maybe none. `best`: [rows], on
  // the device. kResourceExhausted: as above.
  virtual Status best(ConstTensorView logits, int32_t first_token, BestLogit* best) = 0;

  // The tokens of the newest batch, in its order; -1: the row is one that the host must look at
  // (a NaN or +inf in it, or nothing that may come). REQUIRES: the device has synchronised since.
  virtual std::span<const int32_t> tokens() const = 0;
};

}  // namespace trireme

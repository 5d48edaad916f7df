// One pipeline stage of a model on one shard: the only forward loop there is.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "runtime/model/sublayers/sublayer.h"

namespace trireme {

// A norm's parameters on the device.
struct Norm {
  NormArgs args;
  Buffer gain, bias;
};

// One step's rows: all of them, and those that want logits as a batch of their own.
struct DecoderBatch {
  StepBatch all;
  StepBatch logits;
  const int32_t* logit_rows =
      nullptr;          // [logits.rows.rows] indices into all rows, ascending; on the device
  int32_t padding = 0;  // rows of both at their ends, and runs, that belong to no sequence (ops.h)
};

// Told of each sublayer before its ops are queued: whoever moves cached states meanwhile lets that
// sublayer's through.
class CacheGate {
 public:
  virtual ~CacheGate() = default;
  virtual void before(uint32_t sublayer) = 0;
};

class Decoder {
 public:
  struct Step {
    uint32_t index = 0;  // in ModelSpec::sublayers
    std::unique_ptr<Sublayer> sublayer;
    bool normed = true;
    Norm norm;
  };
  struct Workspace {
    Buffer input, delta;  // [rows_max, dim]
    Buffer scratch;
  };

  // `begin`, `end`: the stage's part of ModelSpec::sublayers.
  static Result<std::unique_ptr<Decoder>> make(Device& device, const ModelSpec& spec,
                                               uint32_t begin, uint32_t end,
                                               std::vector<Step> steps, int64_t rows_max);

  // Advances `carry` through this stage. Where the stage passes spec.logits_only_from, carry.x
  // shrinks to the rows that want logits. states[i] belongs to sublayer i of the whole model. A
  // Status that is not ok came from the communicator: this worker can no longer serve.
  // `gate` may be null.
  Status forward(const DecoderBatch& batch, std::span<const StateView> states, Carry& carry,
                 CacheGate* gate);

  // Of what steps compute in.
  uint64_t workspace_bytes() const {
    return workspace_.input.bytes() + workspace_.delta.bytes() + workspace_.scratch.bytes();
  }

  // Rows that have passed sublayers before and from spec.logits_only_from on: YOCO's early exit
  // shows as one late row per request in prefill.
  struct Counters {
    uint64_t rows_before_exit = 0;
    uint64_t rows_after_exit = 0;
  };
  const Counters& counters() const { return counters_; }
  // What forward() counts: for a step that is replayed and does not come through it.
  void count_step(int64_t rows, int64_t logit_rows) {
    if (begin_ < exit_) counters_.rows_before_exit += static_cast<uint64_t>(rows);
    if (end_ > exit_ || begin_ >= exit_)
      counters_.rows_after_exit += static_cast<uint64_t>(logit_rows);
  }

 private:
  Decoder() = default;
  Status run(Step& step, const StepBatch& batch, const StateView& state, Carry& carry);
  // Adds what the last sublayer has left to the residual stream, unless the next one has.
  void add_delta(Carry& carry);

  Ops* ops_ = nullptr;
  int64_t dim_ = 0;
  uint32_t begin_ = 0, end_ = 0, exit_ = 0;
  std::vector<Step> steps_;
  Workspace workspace_;
  int64_t delta_rows_ = 0;  // of workspace_.delta, which are still to be added
  Counters counters_;
};

}  // namespace trireme

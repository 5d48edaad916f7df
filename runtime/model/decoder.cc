#include "runtime/model/decoder.h"

#include <algorithm>

namespace trireme {

Result<std::unique_ptr<Decoder>> Decoder::make(Device& device, const ModelSpec& spec,
                                               uint32_t begin, uint32_t end,
                                               std::vector<Step> steps, int64_t rows_max) {
  std::unique_ptr<Decoder> decoder(new Decoder());
  decoder->ops_ = &device.ops();
  decoder->dim_ = spec.dim;
  decoder->begin_ = begin;
  decoder->end_ = end;
  decoder->exit_ = spec.logits_only_from;
  int64_t scratch_cols = 0;
  for (const Step& step : steps)
    scratch_cols = std::max(scratch_cols, step.sublayer->scratch_cols());
  decoder->steps_ = std::move(steps);
  constexpr int64_t kPiecesMax = 32;  // of scratch, each rounded up to a cache line
  const size_t floats[] = {static_cast<size_t>(rows_max * spec.dim),
                           static_cast<size_t>(rows_max * spec.dim),
                           static_cast<size_t>(rows_max * scratch_cols + 16 * kPiecesMax)};
  Buffer* buffers[] = {&decoder->workspace_.input, &decoder->workspace_.delta,
                       &decoder->workspace_.scratch};
  for (int i = 0; i < 3; ++i) {
    Result<Buffer> buffer = device.allocate(floats[i] * sizeof(float));
    if (!buffer.ok()) return buffer.status();
    *buffers[i] = buffer.take();
  }
  return decoder;
}

Status Decoder::forward(const DecoderBatch& batch, std::span<const StateView> states, Carry& carry,
                        CacheGate* gate) {
  // A stage that begins at or beyond the exit receives only the rows that want logits.
  bool left = begin_ >= exit_;
  delta_rows_ = 0;
  for (Step& step : steps_) {
    if (!left && step.index >= exit_) {
      add_delta(carry);
      ops_->gather_rows(carry.x, batch.logit_rows, batch.logits.rows.rows, carry.x);
      carry.x.rows = batch.logits.rows.rows;
      left = true;
    }
    if (gate != nullptr) gate->before(step.index);
    const bool late = step.index >= exit_;
    if (Status s = run(step, late ? batch.logits : batch.all, states[step.index], carry); !s.ok())
      return s;
  }
  add_delta(carry);
  if (!left && end_ >= exit_) {
    ops_->gather_rows(carry.x, batch.logit_rows, batch.logits.rows.rows, carry.x);
    carry.x.rows = batch.logits.rows.rows;
  }
  count_step(batch.all.rows.rows - batch.padding, batch.logits.rows.rows - batch.padding);
  return Status::ok_status();
}

Status Decoder::run(Step& step, const StepBatch& batch, const StateView& state, Carry& carry) {
  const int64_t rows = batch.rows.rows;
  if (rows == 0) return Status::ok_status();  // all shards have the same rows: nobody waits for us
  if (!step.normed) add_delta(carry);
  const TensorView delta = float_rows(workspace_.delta, rows, dim_);
  ResidualNorm input;
  if (delta_rows_ > 0) input.delta = delta;
  input.x = carry.x;
  input.norm = step.norm.args;
  input.y = float_rows(workspace_.input, rows, dim_);
  delta_rows_ = 0;
  SublayerStep call{batch, state, carry,
                    Scratch(static_cast<float*>(workspace_.scratch.data()),
                            static_cast<int64_t>(workspace_.scratch.bytes() / sizeof(float)),
                            workspace_.scratch.place())};
  if (Status s = step.sublayer->forward(input, call, delta); !s.ok()) return s;
  if (step.sublayer->adds() && !call.added) delta_rows_ = rows;
  return Status::ok_status();
}

void Decoder::add_delta(Carry& carry) {
  if (delta_rows_ > 0) ops_->add(float_rows(workspace_.delta, delta_rows_, dim_), carry.x);
  delta_rows_ = 0;
}

}  // namespace trireme

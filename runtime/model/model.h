// One rank's part of a model: its stage's decoder, and the embedding and head where the stage has
// them.
//
// Who calls it: the engine's executor, from the thread that runs the rank's steps.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "parallel/groups.h"
#include "parallel/sharded_vocab.h"
#include "runtime/cache/layout.h"
#include "runtime/model/decoder.h"
#include "runtime/model/stage_plan.h"
#include "runtime/model/sublayers/loading_reader.h"

namespace trireme {

struct ModelLoad {
  LoadingOptions weights;
  std::optional<DType> cache_dtype;  // none: f32 for f32 weights, else bf16
  int64_t rows_max = 512;            // of one step
  int64_t logit_rows_max = 64;       // of one call of the head
  uint32_t block_tokens = 32;
};

class Model {
 public:
  // Every rank of `groups` calls it with the same spec. Errors of the checkpoint name file and
  // tensor. `spec`, `device`, `groups` outlive the model.
  static Result<std::unique_ptr<Model>> load(const ModelSpec& spec, const Checkpoint& checkpoint,
                                             Device& device, const Groups& groups,
                                             const ModelLoad& options);

  const ModelSpec& spec() const { return spec_; }
  const StagePlan& stage() const { return stage_; }
  const CacheLayout& layout() const { return layout_; }
  DType cache_dtype() const { return cache_dtype_; }
  int64_t rows_max() const { return rows_max_; }
  int64_t logit_rows_max() const { return logit_rows_max_; }

  // First stage: carry.x = the embedded tokens. REQUIRES: 0 <= ids[t] < vocab, count <= rows_max().
  Status embed(const int32_t* ids, int32_t count, Carry& carry);

  // A carry over this stage's buffers for a step of `rows` rows, of which x has `x_rows`.
  Carry carry(int64_t rows, int64_t x_rows) const;

  // Decoder::count_step.
  void count_step(int64_t rows, int64_t logit_rows) { decoder_->count_step(rows, logit_rows); }

  // This stage's sublayers. states: by sublayer of the whole model.
  Status forward(const DecoderBatch& batch, std::span<const StateView> states, Carry& carry,
                 CacheGate* gate) {
    return decoder_->forward(batch, states, carry, gate);
  }

  // Last stage: this shard's part of the logits of rows of the carry, or `logits` [x.rows, vocab]
  // f32 where there is one shard; vocab_head() makes them whole or finds the largest. REQUIRES:
  // x.rows <= logit_rows_max(); called after forward(), once for each part of carry.x.
  void head(TensorView x, TensorView logits);
  VocabParallelHead& vocab_head() { return *head_; }

  // Whether Carry::side is live between sublayer boundary - 1 and boundary.
  bool side_crosses(uint32_t boundary) const { return boundary > side_producer_ && side_cols_ > 0; }

  // Of what steps compute in, besides weights and cache.
  uint64_t workspace_bytes() const;

  const Decoder::Counters& counters() const { return decoder_->counters(); }

 private:
  Model(const ModelSpec& spec, Device& device) : spec_(spec), device_(device) {}
  Status load_ends(WeightReader& weights, const Groups& groups);
  Status load_stage(WeightReader& weights, const Groups& groups);

  const ModelSpec& spec_;
  Device& device_;
  StagePlan stage_;
  CacheLayout layout_;
  DType cache_dtype_ = DType::kF32;
  int64_t rows_max_ = 0;
  int64_t logit_rows_max_ = 0;
  int64_t side_cols_ = 0;
  uint32_t side_producer_ = 0;
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<VocabParallelEmbedding> embedding_;
  std::unique_ptr<VocabParallelHead> head_;
  std::optional<Norm> embedding_norm_, final_norm_;
  Buffer x_, side_, head_input_;
};

// What the weights that are not quantized are in memory: the override, else what the checkpoint's
// embedding is.
DType weights_dtype(const ModelSpec& spec, const Checkpoint& checkpoint,
                    std::optional<DType> dtype);

// The layout of the whole model's cache as one shard holds it; bytes of sublayers that `stage` does
// not run are 0.
CacheLayout cache_layout(const ModelSpec& spec, const StagePlan& stage, int shard, int shard_count,
                         DType cache_dtype, uint32_t block_tokens);

// Every tensor the model needs, with its shape, as the spec alone says (load_format dummy makes
// them; a real checkpoint is checked against them before anything is loaded).
Result<std::map<std::string, std::vector<int64_t>>> tensor_shapes(const ModelSpec& spec);

// What one rank would hold: bytes of weights, by the same code that loads them.
Result<uint64_t> weight_bytes(const ModelSpec& spec, const Checkpoint* checkpoint,
                              const WeightChoice& choice, Mesh mesh, Coordinate here);

}  // namespace trireme

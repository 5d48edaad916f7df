#include "runtime/model/model.h"

#include <algorithm>

#include <fmt/format.h>

#include "comm/in_process/in_process.h"
#include "runtime/model/sublayers/measuring_reader.h"

namespace trireme {
namespace {

Result<Norm> load_norm(const ModelSpec& spec, WeightReader& weights, const std::string& name) {
  Norm norm;
  norm.args.kind = spec.norm_kind;
  norm.args.epsilon = spec.norm_epsilon;
  Result<Buffer> gain = weights.vector(whole_vector(name + ".weight", spec.dim));
  if (!gain.ok()) return gain.status();
  norm.gain = gain.take();
  norm.args.gain = float_rows(norm.gain, 1, spec.dim);
  if (spec.norm_has_bias()) {
    Result<Buffer> bias = weights.vector(whole_vector(name + ".bias", spec.dim));
    if (!bias.ok()) return bias.status();
    norm.bias = bias.take();
    norm.args.bias = float_rows(norm.bias, 1, spec.dim);
  }
  return norm;
}

Result<std::shared_ptr<const VocabTable>> load_table(const ModelSpec& spec, WeightReader& weights,
                                                     const std::string& name, int shard,
                                                     int shard_count) {
  const Range mine = vocab_range(spec.vocab, shard, shard_count);
  Result<Matrix> rows = weights.matrix(WeightSlice{name, spec.vocab, spec.dim, mine, {0, spec.dim}},
                                       MatrixRole::kVocabulary);
  if (!rows.ok()) return rows.status();
  auto table = std::make_shared<VocabTable>();
  table->rows = rows.take();
  table->vocab = spec.vocab;
  return std::shared_ptr<const VocabTable>(std::move(table));
}

Result<std::vector<Decoder::Step>> load_steps(const ModelSpec& spec, const StagePlan& stage,
                                              Device& device, Communicator& shards, Coordinate here,
                                              int shard_count, WeightReader& weights) {
  std::vector<Decoder::Step> steps;
  for (uint32_t index : stage.sublayers) {
    const SublayerSpec& sub = spec.sublayers[index];
    Decoder::Step step;
    step.index = index;
    step.normed = !sub.norm.empty();
    if (step.normed) {
      Result<Norm> norm = load_norm(spec, weights, sub.norm);
      if (!norm.ok()) return norm.status();
      step.norm = norm.take();
    }
    Result<std::unique_ptr<Sublayer>> made =
        make_sublayer({spec, sub, device, shards, here.shard, shard_count, weights});
    if (!made.ok()) return made.status();
    step.sublayer = made.take();
    steps.push_back(std::move(step));
  }
  return steps;
}

// All that is wrong with the checkpoint at once, before minutes of loading.
Status check_tensors(const ModelSpec& spec, const WeightSource& source) {
  const Checkpoint& checkpoint = *source.checkpoint;
  const auto shapes = tensor_shapes(spec);
  if (!shapes.ok()) return shapes.status();
  std::string missing;
  int count = 0;
  for (const auto& [name, shape] : *shapes) {
    if (checkpoint.find(name) != nullptr || source.holds_quantized(name)) continue;
    if (++count <= 3) missing += fmt::format("{}'{}'", count == 1 ? "" : ", ", name);
  }
  if (count == 0) return Status::ok_status();
  return not_found(fmt::format("{}: {} of {} tensors that a {} model needs are missing: {}{}",
                               checkpoint.path(), count, shapes->size(), spec.model_type, missing,
                               count > 3 ? ", ..." : ""));
}

}  // namespace

DType weights_dtype(const ModelSpec& spec, const Checkpoint& checkpoint,
                    std::optional<DType> dtype) {
  if (dtype) return *dtype;
  const TensorInfo* info = checkpoint.find(spec.embedding);
  return info != nullptr && info->dtype ? *info->dtype : DType::kF32;
}

CacheLayout cache_layout(const ModelSpec& spec, const StagePlan& stage, int shard, int shard_count,
                         DType cache_dtype, uint32_t block_tokens) {
  std::vector<StateSpec> states;
  for (uint32_t i = 0; i < spec.sublayers.size(); ++i) {
    StateSpec state = state_spec(spec, spec.sublayers[i], shard, shard_count, cache_dtype);
    const bool here =
        std::find(stage.sublayers.begin(), stage.sublayers.end(), i) != stage.sublayers.end();
    if (!here) state.bytes = 0;
    states.push_back(state);
  }
  return make_layout(states, block_tokens);
}

Result<std::map<std::string, std::vector<int64_t>>> tensor_shapes(const ModelSpec& spec) {
  MeasuringReader weights(WeightSource{}, WeightChoice{});
  const std::unique_ptr<Device> device = make_ref_device();
  const auto world = make_in_process_world(1);
  const Result<std::vector<StagePlan>> plans = plan_stages(spec, 1);
  if (!plans.ok()) return plans.status();
  const auto steps = load_steps(spec, plans->front(), *device, *world[0], {}, 1, weights);
  if (!steps.ok()) return steps.status();
  for (const std::string& norm : {spec.embedding_norm, spec.final_norm}) {
    if (norm.empty()) continue;
    if (const auto loaded = load_norm(spec, weights, norm); !loaded.ok()) return loaded.status();
  }
  for (const std::string& table : {spec.embedding, spec.head}) {
    if (const auto loaded = load_table(spec, weights, table, 0, 1); !loaded.ok())
      return loaded.status();
  }
  return weights.shapes();
}

Result<uint64_t> weight_bytes(const ModelSpec& spec, const Checkpoint* checkpoint,
                              const WeightChoice& choice, Mesh mesh, Coordinate here) {
  MeasuringReader weights({checkpoint, spec.quantized.get()}, choice);
  const std::unique_ptr<Device> device = make_ref_device();
  const auto world = make_in_process_world(1);
  const Result<std::vector<StagePlan>> plans = plan_stages(spec, mesh.stages);
  if (!plans.ok()) return plans.status();
  const StagePlan& stage = (*plans)[here.stage];
  const auto steps = load_steps(spec, stage, *device, *world[0], here, mesh.shards, weights);
  if (!steps.ok()) return steps.status();
  const bool first = here.stage == 0;
  const bool last = here.stage == mesh.stages - 1;
  if (first) {
    if (const auto table = load_table(spec, weights, spec.embedding, here.shard, mesh.shards);
        !table.ok())
      return table.status();
    if (!spec.embedding_norm.empty()) {
      if (const auto norm = load_norm(spec, weights, spec.embedding_norm); !norm.ok())
        return norm.status();
    }
  }
  if (last) {
    if (const auto norm = load_norm(spec, weights, spec.final_norm); !norm.ok())
      return norm.status();
    if (!(spec.tied && first)) {
      if (const auto table = load_table(spec, weights, spec.head, here.shard, mesh.shards);
          !table.ok())
        return table.status();
    }
  }
  return weights.bytes();
}

Result<std::unique_ptr<Model>> Model::load(const ModelSpec& spec, const Checkpoint& checkpoint,
                                           Device& device, const Groups& groups,
                                           const ModelLoad& options) {
  if (Status s = check_mesh(spec, groups.mesh); !s.ok()) return s;
  const WeightSource source{&checkpoint, spec.quantized.get()};
  if (Status s = check_tensors(spec, source); !s.ok()) return s;
  Result<std::vector<StagePlan>> plans = plan_stages(spec, groups.mesh.stages);
  if (!plans.ok()) return plans.status();

  std::unique_ptr<Model> model(new Model(spec, device));
  model->stage_ = (*plans)[groups.here.stage];
  model->rows_max_ = options.rows_max;
  model->logit_rows_max_ = options.logit_rows_max;
  const bool full_precision =
      weights_dtype(spec, checkpoint, options.weights.choice.dtype) == DType::kF32;
  model->cache_dtype_ = options.cache_dtype.value_or(full_precision ? DType::kF32 : DType::kBF16);
  model->layout_ = cache_layout(spec, model->stage_, groups.here.shard, groups.mesh.shards,
                                model->cache_dtype_, options.block_tokens);
  model->side_cols_ = side_cols(spec, groups.here.shard, groups.mesh.shards);
  model->side_producer_ = side_producer(spec);

  LoadingReader weights(device, source, options.weights);
  if (Status s = model->load_stage(weights, groups); !s.ok()) return s;
  if (Status s = model->load_ends(weights, groups); !s.ok()) return s;

  struct Need {
    Buffer* buffer;
    int64_t floats;
  };
  for (const Need& need : {Need{&model->x_, model->rows_max_ * spec.dim},
                           Need{&model->side_, model->rows_max_ * model->side_cols_},
                           Need{&model->head_input_, model->logit_rows_max_ * spec.dim}}) {
    Result<Buffer> buffer = device.allocate(static_cast<size_t>(need.floats) * sizeof(float));
    if (!buffer.ok()) return buffer.status();
    *need.buffer = buffer.take();
  }
  return model;
}

Status Model::load_stage(WeightReader& weights, const Groups& groups) {
  Result<std::vector<Decoder::Step>> steps =
      load_steps(spec_, stage_, device_, *groups.shards, groups.here, groups.mesh.shards, weights);
  if (!steps.ok()) return steps.status();
  Result<std::unique_ptr<Decoder>> decoder =
      Decoder::make(device_, spec_, stage_.begin, stage_.end, steps.take(), rows_max_);
  if (!decoder.ok()) return decoder.status();
  decoder_ = decoder.take();
  return Status::ok_status();
}

Status Model::load_ends(WeightReader& weights, const Groups& groups) {
  std::shared_ptr<const VocabTable> embedding;
  const int shard = groups.here.shard;
  const int shards = groups.mesh.shards;
  if (groups.first_stage()) {
    auto table = load_table(spec_, weights, spec_.embedding, shard, shards);
    if (!table.ok()) return table.status();
    embedding = table.take();
    embedding_ = std::make_unique<VocabParallelEmbedding>(device_.ops(), *groups.shards, embedding,
                                                          spec_.embedding_scale);
    if (!spec_.embedding_norm.empty()) {
      Result<Norm> norm = load_norm(spec_, weights, spec_.embedding_norm);
      if (!norm.ok()) return norm.status();
      embedding_norm_ = norm.take();
    }
  }
  if (!groups.last_stage()) return Status::ok_status();
  Result<Norm> norm = load_norm(spec_, weights, spec_.final_norm);
  if (!norm.ok()) return norm.status();
  final_norm_ = norm.take();
  std::shared_ptr<const VocabTable> head = spec_.tied ? embedding : nullptr;
  if (head == nullptr) {
    auto table = load_table(spec_, weights, spec_.head, shard, shards);
    if (!table.ok()) return table.status();
    head = table.take();
  }
  auto made = VocabParallelHead::make(device_, *groups.shards, head, logit_rows_max_);
  if (!made.ok()) return made.status();
  head_ = made.take();
  return Status::ok_status();
}

uint64_t Model::workspace_bytes() const {
  return decoder_->workspace_bytes() + x_.bytes() + side_.bytes() + head_input_.bytes() +
         (head_ != nullptr ? head_->workspace_bytes() : 0);
}

Carry Model::carry(int64_t rows, int64_t x_rows) const {
  CHECK(rows <= rows_max_ && x_rows <= rows);
  return {float_rows(x_, x_rows, spec_.dim), float_rows(side_, rows, side_cols_)};
}

Status Model::embed(const int32_t* ids, int32_t count, Carry& carry) {
  CHECK(embedding_ != nullptr && carry.x.rows == count);
  if (Status s = embedding_->forward(ids, count, carry.x); !s.ok()) return s;
  if (embedding_norm_) device_.ops().norm(carry.x, embedding_norm_->args, carry.x);
  return Status::ok_status();
}

void Model::head(TensorView x, TensorView logits) {
  CHECK(head_ != nullptr && x.rows <= logit_rows_max_);
  head_->multiply({{}, x, final_norm_->args, float_rows(head_input_, x.rows, spec_.dim)}, logits);
}

}  // namespace trireme

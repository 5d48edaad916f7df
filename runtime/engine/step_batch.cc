#include "runtime/engine/step_batch.h"

#include <algorithm>

#include "parallel/plan.h"

namespace trireme {

Result<std::unique_ptr<BatchBuilder>> BatchBuilder::make(Device& device, const ModelSpec& spec,
                                                         const CacheLayout& layout,
                                                         const BlockStore& store, DType cache_dtype,
                                                         std::vector<uint32_t> table_blocks_max,
                                                         int64_t rows_max, int64_t sequences_max,
                                                         int shard, int shard_count) {
  std::unique_ptr<BatchBuilder> builder(new BatchBuilder(device, spec, layout, store));
  builder->rows_max_ = rows_max;
  builder->sequences_max_ = sequences_max;
  if (Status s = builder->allocate(rows_max, sequences_max, table_blocks_max); !s.ok()) return s;
  builder->make_states(cache_dtype, shard, shard_count);
  return builder;
}

Status BatchBuilder::allocate(int64_t rows_max, int64_t sequences_max,
                              std::span<const uint32_t> table_blocks_max) {
  CHECK(table_blocks_max.size() == layout_.classes.size());
  for (Rows* rows : {&all_, &logits_}) {
    if (Status s = rows->offsets.reserve(device_, sequences_max + 1); !s.ok()) return s;
    if (Status s = rows->positions.reserve(device_, rows_max); !s.ok()) return s;
    for (const RopeSpec& rope : spec_.ropes) {
      const size_t cols = 2 * rope.inverse_frequencies.size();
      Result<Buffer> buffer =
          device_.allocate(static_cast<size_t>(rows_max) * cols * sizeof(float));
      if (!buffer.ok()) return buffer.status();
      rows->rope_buffers.push_back(buffer.take());
      rows->ropes.emplace_back();
    }
  }
  for (const RopeSpec& rope : spec_.ropes) {
    const size_t bytes = rope.inverse_frequencies.size() * sizeof(float);
    Result<Buffer> buffer = device_.allocate(bytes);
    if (!buffer.ok()) return buffer.status();
    device_.copy(buffer->data(), rope.inverse_frequencies.data(), bytes);
    frequencies_.push_back(buffer.take());
  }
  if (Status s = ids_.reserve(device_, rows_max); !s.ok()) return s;
  if (Status s = logit_rows_.reserve(device_, rows_max); !s.ok()) return s;
  classes_.resize(layout_.classes.size());
  for (size_t c = 0; c < classes_.size(); ++c) {
    ClassTables& t = classes_[c];
    t.stride = table_blocks_max[c];
    if (Status s = t.table.reserve(device_, sequences_max * t.stride); !s.ok()) return s;
    if (Status s = t.first_block.reserve(device_, sequences_max); !s.ok()) return s;
    if (Status s = t.bases.reserve(device_, sequences_max); !s.ok()) return s;
  }
  return device_.synchronize();
}

void BatchBuilder::make_states(DType cache_dtype, int shard, int shard_count) {
  states_.resize(spec_.sublayers.size());
  slot_classes_.resize(spec_.sublayers.size());
  size_t store = 0;
  for (size_t i = 0; i < states_.size(); ++i) {
    const SublayerSpec& sub = spec_.sublayers[i];
    if (sub.kind == SublayerKind::kStoreSharedKv) store = i;
    // Shared attention reads what its stage's store_shared_kv wrote.
    const Slot& slot = layout_.slots[sub.kind == SublayerKind::kSharedAttention ? store : i];
    slot_classes_[i] = slot.slot_class;
    if (slot.slot_class < 0) continue;
    const SlotClass& c = layout_.classes[slot.slot_class];
    StateView& state = states_[i];
    if (c.growth == StateSpec::Growth::kFixed) {
      state.fixed.offset = static_cast<int64_t>(slot.offset);
      continue;
    }
    const HeadSpec& h = sub.heads;
    state.kv.blocks = store_.arena(slot.slot_class) + slot.offset;
    state.kv.block_stride = static_cast<int64_t>(store_.block_stride(slot.slot_class));
    state.kv.block_tokens = static_cast<int32_t>(c.block_tokens);
    state.kv.kv_heads =
        static_cast<int32_t>(split_heads(h.heads, h.kv_heads, shard, shard_count).kv.count);
    state.kv.head_dim = h.head_dim;
    state.kv.window_tokens = static_cast<int32_t>(c.window_tokens);
    state.kv.dtype = cache_dtype;
  }
}

void BatchBuilder::build(std::span<const SequenceRun> runs) {
  const auto sequences = static_cast<int32_t>(runs.size());
  int64_t rows = 0;
  for (const SequenceRun& run : runs) rows += static_cast<int64_t>(run.tokens.size());
  CHECK(rows <= rows_max_ && sequences <= sequences_max_)
      << rows << " rows of " << sequences << " sequences in a batch made for " << rows_max_
      << " of " << sequences_max_;
  for (Rows* part : {&all_, &logits_}) {
    part->offsets.host().assign(1, 0);
    part->positions.host().clear();
  }
  ids_.host().clear();
  logit_rows_.host().clear();
  for (const SequenceRun& run : runs) {
    for (size_t i = 0; i < run.tokens.size(); ++i) {
      const auto position = static_cast<int32_t>(run.first + i);
      const bool last = i + 1 == run.tokens.size();
      if (run.logits == SequenceRun::Logits::kAll ||
          (run.logits == SequenceRun::Logits::kLast && last)) {
        logit_rows_.host().push_back(static_cast<int32_t>(ids_.host().size()));
        logits_.positions.host().push_back(position);
      }
      ids_.host().push_back(run.tokens[i]);
      all_.positions.host().push_back(position);
    }
    all_.offsets.host().push_back(static_cast<int32_t>(ids_.host().size()));
    logits_.offsets.host().push_back(static_cast<int32_t>(logit_rows_.host().size()));
  }
  ids_on_device_ = ids_.upload(device_);
  batch_.logit_rows = logit_rows_.upload(device_);
  batch_.all = finish(all_, sequences);
  batch_.logits = finish(logits_, sequences);
  build_tables(runs);
}

StepBatch BatchBuilder::finish(Rows& rows, int32_t sequences) {
  const auto count = static_cast<int32_t>(rows.positions.host().size());
  StepBatch step;
  step.rows = {rows.offsets.upload(device_), rows.positions.upload(device_), sequences, count};
  for (size_t i = 0; i < spec_.ropes.size(); ++i) {
    const auto n = static_cast<int64_t>(spec_.ropes[i].inverse_frequencies.size());
    rows.ropes[i] = tensor(rows.rope_buffers[i].data(), count, 2 * n, DType::kF32, device_.place());
    device_.ops().rope_table(
        step.rows.positions, count,
        ConstTensorView(frequencies_[i].data(), 1, n, DType::kF32, device_.place()),
        spec_.ropes[i].scale, rows.ropes[i]);
  }
  step.rope_tables = rows.ropes;
  return step;
}

void BatchBuilder::build_tables(std::span<const SequenceRun> runs) {
  for (size_t c = 0; c < classes_.size(); ++c) {
    ClassTables& t = classes_[c];
    const bool fixed = layout_.classes[c].growth == StateSpec::Growth::kFixed;
    t.table.host().assign(fixed ? 0 : runs.size() * t.stride, 0);
    t.first_block.host().clear();
    t.bases.host().clear();
    for (size_t s = 0; s < runs.size(); ++s) {
      const SequenceBlocks::Table& blocks = runs[s].blocks->table(c);
      if (fixed) {
        CHECK(blocks.ids.size() == 1);
        t.bases.host().push_back(store_.block(c, blocks.ids[0]));
        continue;
      }
      CHECK(blocks.ids.size() <= t.stride) << "a sequence holds more blocks than planned";
      std::copy(blocks.ids.begin(), blocks.ids.end(),
                t.table.host().begin() + static_cast<std::ptrdiff_t>(s * t.stride));
      t.first_block.host().push_back(static_cast<int32_t>(blocks.first_block));
    }
    const int32_t* table = t.table.upload(device_);
    const int32_t* first = t.first_block.upload(device_);
    std::byte* const* bases = t.bases.upload(device_);
    for (size_t i = 0; i < states_.size(); ++i) {
      if (slot_classes_[i] != static_cast<int32_t>(c)) continue;
      states_[i].kv.block_table = table;
      states_[i].kv.first_block = first;
      states_[i].kv.table_stride = static_cast<int32_t>(t.stride);
      states_[i].fixed.base = bases;
    }
  }
}

}  // namespace trireme

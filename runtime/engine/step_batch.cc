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
  builder->lay_out(table_blocks_max);
  if (Status s = builder->area_.allocate(device); !s.ok()) return s;
  if (Status s = builder->allocate_ropes(); !s.ok()) return s;
  builder->make_states(cache_dtype, shard, shard_count);
  return builder;
}

void BatchBuilder::lay_out(std::span<const uint32_t> table_blocks_max) {
  CHECK(table_blocks_max.size() == layout_.classes.size());
  const auto rows = static_cast<size_t>(rows_max_);
  const auto sequences = static_cast<size_t>(sequences_max_);
  for (Rows* part : {&all_, &logits_}) {
    part->offsets = area_.add<int32_t>(sequences + 1);
    part->positions = area_.add<int32_t>(rows);
  }
  ids_ = area_.add<int32_t>(rows);
  logit_rows_ = area_.add<int32_t>(rows);
  for (size_t c = 0; c < layout_.classes.size(); ++c) {
    ClassParts parts;
    if (layout_.classes[c].growth == StateSpec::Growth::kFixed) {
      parts.bases = area_.add<std::byte*>(sequences);
    } else {
      parts.first_block = area_.add<int32_t>(sequences);
      parts.table_first = table_stride_;
      parts.table_blocks = table_blocks_max[c];
      table_stride_ += table_blocks_max[c];
    }
    classes_.push_back(parts);
  }
  tables_ = area_.add<int32_t>(sequences * table_stride_);
}

Status BatchBuilder::allocate_ropes() {
  for (Rows* rows : {&all_, &logits_}) {
    for (const RopeSpec& rope : spec_.ropes) {
      const size_t cols = 2 * rope.inverse_frequencies.size();
      Result<Buffer> buffer =
          device_.allocate(static_cast<size_t>(rows_max_) * cols * sizeof(float));
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
  return device_.synchronize();
}

uint64_t BatchBuilder::workspace_bytes() const {
  uint64_t bytes = area_.bytes();
  for (const Rows* rows : {&all_, &logits_}) {
    for (const Buffer& buffer : rows->rope_buffers) bytes += buffer.bytes();
  }
  for (const Buffer& buffer : frequencies_) bytes += buffer.bytes();
  return bytes;
}

void BatchBuilder::make_states(DType cache_dtype, int shard, int shard_count) {
  states_.resize(spec_.sublayers.size());
  size_t store = 0;
  for (size_t i = 0; i < states_.size(); ++i) {
    const SublayerSpec& sub = spec_.sublayers[i];
    if (sub.kind == SublayerKind::kStoreSharedKv) store = i;
    // Shared attention reads what its stage's store_shared_kv wrote.
    const Slot& slot = layout_.slots[sub.kind == SublayerKind::kSharedAttention ? store : i];
    if (slot.slot_class < 0) continue;
    const SlotClass& c = layout_.classes[slot.slot_class];
    const ClassParts& parts = classes_[slot.slot_class];
    StateView& state = states_[i];
    if (c.growth == StateSpec::Growth::kFixed) {
      state.fixed.base = area_.device(parts.bases);
      state.fixed.offset = static_cast<int64_t>(slot.offset);
      continue;
    }
    state.kv.block_table = area_.device(tables_) + parts.table_first;
    state.kv.table_stride = static_cast<int32_t>(table_stride_);
    state.kv.first_block = area_.device(parts.first_block);
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

Status BatchBuilder::build(std::span<const SequenceRun> runs, int32_t sequences) {
  int64_t rows = 0;
  for (const SequenceRun& run : runs) rows += static_cast<int64_t>(run.tokens.size());
  const auto count = std::max(static_cast<int32_t>(runs.size()), sequences);
  CHECK(rows <= rows_max_ && count <= sequences_max_)
      << rows << " rows of " << count << " sequences in a batch made for " << rows_max_ << " of "
      << sequences_max_;
  if (Status s = area_.begin(); !s.ok()) return s;
  write_rows(runs);
  batch_.padding = count - static_cast<int32_t>(runs.size());
  if (batch_.padding > 0) write_padding(count);
  write_tables(runs, count);
  area_.upload(tables_.offset + static_cast<size_t>(count) * table_stride_ * sizeof(int32_t));
  batch_.logit_rows = area_.device(logit_rows_);
  batch_.all = finish(all_);
  batch_.logits = finish(logits_);
  return Status::ok_status();
}

void BatchBuilder::write_rows(std::span<const SequenceRun> runs) {
  int32_t* const ids = area_.host(ids_);
  int32_t* const logit_rows = area_.host(logit_rows_);
  int32_t* const positions = area_.host(all_.positions);
  int32_t* const logit_positions = area_.host(logits_.positions);
  int32_t row = 0, logit_row = 0;
  int32_t* offset = area_.host(all_.offsets);
  int32_t* logit_offset = area_.host(logits_.offsets);
  *offset++ = *logit_offset++ = 0;
  for (const SequenceRun& run : runs) {
    for (size_t i = 0; i < run.tokens.size(); ++i, ++row) {
      const bool last = i + 1 == run.tokens.size();
      ids[row] = run.tokens[i];
      positions[row] = static_cast<int32_t>(run.first + i);
      if (run.logits == SequenceRun::Logits::kAll ||
          (run.logits == SequenceRun::Logits::kLast && last)) {
        logit_rows[logit_row] = row;
        logit_positions[logit_row++] = positions[row];
      }
    }
    *offset++ = row;
    *logit_offset++ = logit_row;
  }
  all_.sequences = logits_.sequences = static_cast<int32_t>(runs.size());
  all_.count = row;
  logits_.count = logit_row;
}

// Empty runs, and for each a row behind those of all runs (ops.h: padding).
void BatchBuilder::write_padding(int32_t sequences) {
  CHECK(all_.count == all_.sequences && logits_.count == all_.count)
      << "only steps of one row a run, each with logits, are padded";
  for (Rows* part : {&all_, &logits_}) {
    for (int32_t i = part->count; i < sequences; ++i) {
      area_.host(part->offsets)[i + 1] = part->count;
      area_.host(part->positions)[i] = 0;
    }
  }
  for (int32_t i = all_.count; i < sequences; ++i) {
    area_.host(ids_)[i] = 0;
    area_.host(logit_rows_)[i] = i;
  }
  all_.sequences = logits_.sequences = sequences;
  all_.count = logits_.count = sequences;
}

void BatchBuilder::write_tables(std::span<const SequenceRun> runs, int32_t sequences) {
  const auto count = static_cast<size_t>(sequences);
  for (size_t c = 0; c < classes_.size(); ++c) {
    const ClassParts& parts = classes_[c];
    const bool fixed = layout_.classes[c].growth == StateSpec::Growth::kFixed;
    for (size_t s = 0; s < runs.size(); ++s) {
      const SequenceBlocks::Table& blocks = runs[s].blocks->table(c);
      if (fixed) {
        CHECK(blocks.ids.size() == 1);
        area_.host(parts.bases)[s] = store_.block(c, blocks.ids[0]);
        continue;
      }
      CHECK(blocks.ids.size() <= parts.table_blocks) << "a sequence holds more blocks than planned";
      int32_t* const table = area_.host(tables_) + s * table_stride_ + parts.table_first;
      std::copy(blocks.ids.begin(), blocks.ids.end(), table);
      area_.host(parts.first_block)[s] = static_cast<int32_t>(blocks.first_block);
    }
    for (size_t s = runs.size(); s < count; ++s) {  // of no sequence
      if (fixed) {
        area_.host(parts.bases)[s] = nullptr;
      } else {
        area_.host(parts.first_block)[s] = 0;
      }
    }
  }
}

StepBatch BatchBuilder::finish(Rows& rows) {
  StepBatch step;
  step.rows = {area_.device(rows.offsets), area_.device(rows.positions), rows.sequences,
               rows.count};
  for (size_t i = 0; i < spec_.ropes.size(); ++i) {
    const auto n = static_cast<int64_t>(spec_.ropes[i].inverse_frequencies.size());
    rows.ropes[i] = float_rows(rows.rope_buffers[i], rows.count, 2 * n);
  }
  step.rope_tables = rows.ropes;
  return step;
}

void BatchBuilder::compute_ropes() {
  for (const Rows* rows : {&all_, &logits_}) {
    for (size_t i = 0; i < spec_.ropes.size(); ++i) {
      const auto n = static_cast<int64_t>(spec_.ropes[i].inverse_frequencies.size());
      device_.ops().rope_table(area_.device(rows->positions), rows->count,
                               float_rows(frequencies_[i], 1, n), spec_.ropes[i].scale,
                               rows->ropes[i]);
    }
  }
}

}  // namespace trireme

// A step's rows count down for the device: offsets, positions, token ids, block tables. Made
// once, sized for the largest step; building a batch allocates nothing and costs the device one
// copy, of what the step has of tables and of all the rest.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/device.h"
#include "runtime/cache/block_store.h"
#include "runtime/cache/sequence_blocks.h"
#include "runtime/engine/staged_area.h"
#include "runtime/model/decoder.h"
#include "runtime/model/spec.h"

namespace trireme {

// Tokens [first, first + tokens.size()) of one sequence.
struct SequenceRun {
  enum class Logits : uint8_t { kNone, kLast, kAll };
  const SequenceBlocks* blocks = nullptr;  // advanced to cover the run
  uint32_t first = 0;
  std::span<const int32_t> tokens;
  Logits logits = Logits::kLast;
  // Of the last row nothing but the likeliest token is wanted (LogitsUser::take_likeliest): then no
  // shard needs to see it whole. All ranks say the same.
  bool likeliest_only = false;
};

class BatchBuilder {
 public:
  // `spec`, `layout`, `store` outlive it. table_blocks_max[c]: the most blocks of class c that a
  // sequence holds.
  static Result<std::unique_ptr<BatchBuilder>> make(Device& device, const ModelSpec& spec,
                                                    const CacheLayout& layout,
                                                    const BlockStore& store, DType cache_dtype,
                                                    std::vector<uint32_t> table_blocks_max,
                                                    int64_t rows_max, int64_t sequences_max,
                                                    int shard, int shard_count);

  // Writes the runs down and brings them to the device. Where `sequences` is not 0, the batch is
  // padded to so many runs of one row each, which belong to no sequence. A Status that is not ok is
  // the device's. REQUIRES: at most rows_max tokens in at most sequences_max runs; to be padded,
  // each of them has one token and wants its logits.
  Status build(std::span<const SequenceRun> runs, int32_t sequences = 0);
  // Queues what all sublayers need of the positions: before them.
  void compute_ropes();

  // Of the device's memory.
  uint64_t workspace_bytes() const;

  // At the same addresses for every step, and of the same shape where padded alike.
  const DecoderBatch& batch() const { return batch_; }
  std::span<const StateView> states() const { return states_; }  // by sublayer of the whole model
  const int32_t* ids() const { return area_.device(ids_); }
  // Without padding.
  int32_t rows() const { return batch_.all.rows.rows - batch_.padding; }
  int32_t logit_rows() const { return batch_.logits.rows.rows - batch_.padding; }

 private:
  // Of one class. Its table is a part of each row of tables_.
  struct ClassParts {
    StagedArea::Part<int32_t> first_block;  // [sequences], where blocks are many
    StagedArea::Part<std::byte*> bases;     // [sequences], kFixed
    uint32_t table_first = 0, table_blocks = 0;
  };
  // Offsets and positions of all rows, or of those that want logits.
  struct Rows {
    StagedArea::Part<int32_t> offsets, positions;
    int32_t sequences = 0, count = 0;  // of this step, padding included
    std::vector<TensorView> ropes;
    std::vector<Buffer> rope_buffers;
  };

  BatchBuilder(Device& device, const ModelSpec& spec, const CacheLayout& layout,
               const BlockStore& store)
      : device_(device), spec_(spec), layout_(layout), store_(store) {}
  void lay_out(std::span<const uint32_t> table_blocks_max);
  Status allocate_ropes();
  void make_states(DType cache_dtype, int shard, int shard_count);
  void write_rows(std::span<const SequenceRun> runs);
  void write_padding(int32_t sequences);
  void write_tables(std::span<const SequenceRun> runs, int32_t sequences);
  StepBatch finish(Rows& rows);

  Device& device_;
  const ModelSpec& spec_;
  const CacheLayout& layout_;
  const BlockStore& store_;
  int64_t rows_max_ = 0;
  int64_t sequences_max_ = 0;
  std::vector<Buffer> frequencies_;  // by rope, on the device
  StagedArea area_;
  Rows all_, logits_;
  StagedArea::Part<int32_t> ids_, logit_rows_;
  std::vector<ClassParts> classes_;
  // [sequences, table_stride_]: of each sequence its tables, class after class, so that the tables
  // of the sequences of a step are the beginning of the last part of the area.
  StagedArea::Part<int32_t> tables_;
  uint32_t table_stride_ = 0;
  std::vector<StateView> states_;
  DecoderBatch batch_;
};

}  // namespace trireme

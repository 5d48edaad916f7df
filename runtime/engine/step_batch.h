// A step's rows written down for the device: offsets, positions, token ids, block tables. Made
// once, sized for the largest step; building a batch allocates nothing.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/device.h"
#include "runtime/cache/block_store.h"
#include "runtime/cache/sequence_blocks.h"
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
};

// Numbers that the host writes and the device reads: the host's own memory where the device is the
// CPU.
template <class T>
class StagedArray {
 public:
  Status reserve(Device& device, size_t count) {
    host_.reserve(count);
    if (device.place() == Place::kHost) return Status::ok_status();
    Result<Buffer> buffer = device.allocate(count * sizeof(T));
    if (!buffer.ok()) return buffer.status();
    device_ = buffer.take();
    return Status::ok_status();
  }
  std::vector<T>& host() { return host_; }
  const T* upload(Device& device) {
    if (device.place() == Place::kHost) return host_.data();
    device.copy(device_.data(), host_.data(), host_.size() * sizeof(T));
    return static_cast<const T*>(device_.data());
  }

 private:
  std::vector<T> host_;
  Buffer device_;
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

  // REQUIRES: at most rows_max tokens in at most sequences_max runs.
  void build(std::span<const SequenceRun> runs);

  const DecoderBatch& batch() const { return batch_; }
  std::span<const StateView> states() const { return states_; }  // by sublayer of the whole model
  const int32_t* ids() const { return ids_on_device_; }
  int32_t rows() const { return batch_.all.rows.rows; }
  int32_t logit_rows() const { return batch_.logits.rows.rows; }

 private:
  struct ClassTables {
    StagedArray<int32_t> table;        // [sequences, stride]
    StagedArray<int32_t> first_block;  // [sequences]
    StagedArray<std::byte*> bases;     // [sequences], kFixed
    uint32_t stride = 0;
  };
  // Offsets and positions of all rows, or of those that want logits.
  struct Rows {
    StagedArray<int32_t> offsets, positions;
    std::vector<TensorView> ropes;
    std::vector<Buffer> rope_buffers;
  };

  BatchBuilder(Device& device, const ModelSpec& spec, const CacheLayout& layout,
               const BlockStore& store)
      : device_(device), spec_(spec), layout_(layout), store_(store) {}
  Status allocate(int64_t rows_max, int64_t sequences_max,
                  std::span<const uint32_t> table_blocks_max);
  void make_states(DType cache_dtype, int shard, int shard_count);
  void build_tables(std::span<const SequenceRun> runs);
  StepBatch finish(Rows& rows, int32_t sequences);

  Device& device_;
  const ModelSpec& spec_;
  const CacheLayout& layout_;
  const BlockStore& store_;
  int64_t rows_max_ = 0;
  int64_t sequences_max_ = 0;
  std::vector<Buffer> frequencies_;  // by rope, on the device
  Rows all_, logits_;
  StagedArray<int32_t> ids_, logit_rows_;
  const int32_t* ids_on_device_ = nullptr;
  std::vector<ClassTables> classes_;
  std::vector<StateView> states_;
  std::vector<int32_t> slot_classes_;  // by sublayer: the class whose blocks it uses; -1: none
  DecoderBatch batch_;
};

}  // namespace trireme

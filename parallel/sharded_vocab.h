// The embedding and the head, cut by vocabulary: shard i holds rows [i * part, (i + 1) * part) of
// the table, part = ceil(vocab / shards). A vocabulary that the shards do not divide is padded;
// padding never reaches a caller.
#pragma once

#include <memory>
#include <vector>

#include "comm/communicator.h"
#include "kernels/device.h"
#include "kernels/device_sampler.h"
#include "parallel/mesh.h"

namespace trireme {

// This shard's rows of a vocabulary table; the embedding and the head of a tied model share one.
struct VocabTable {
  Matrix rows;  // [vocab_range().count, dim]; rows at or beyond the vocabulary are zeros
  int64_t vocab = 0;
};

class VocabParallelEmbedding {
 public:
  VocabParallelEmbedding(Ops& ops, Communicator& shards, std::shared_ptr<const VocabTable> table,
                         float scale)
      : ops_(ops), shards_(shards), table_(std::move(table)), scale_(scale) {}

  // y[t] = scale * table[ids[t]]; one all-reduce where there are several shards (exact: all but one
  // summand are zero). REQUIRES: y is [count, dim], 0 <= ids[t] < vocab.
  Status forward(const int32_t* ids, int32_t count, TensorView y) const;

 private:
  Ops& ops_;
  Communicator& shards_;
  std::shared_ptr<const VocabTable> table_;
  float scale_;
};

class VocabParallelHead {
 public:
  // Computes at most rows_max rows a call.
  static Result<std::unique_ptr<VocabParallelHead>> make(Device& device, Communicator& shards,
                                                         std::shared_ptr<const VocabTable> table,
                                                         int64_t rows_max);

  int64_t rows_max() const { return rows_max_; }
  // Of what it computes in, besides the table.
  uint64_t workspace_bytes() const {
    return mine_.bytes() + all_.bytes() + row_numbers_.bytes() + best_.bytes();
  }

  // logits = norm(x) table^T, whole on every shard. REQUIRES: in.x is [rows <= rows_max, dim],
  // logits is [rows, vocab] f32, all on the device.
  Status forward(const ResidualNorm& in, TensorView logits) {
    multiply(in, logits);
    return gather(logits);
  }
  // The same in two halves: this shard's part of each row, without communication, and what it takes
  // to make the first logits.rows rows whole.
  void multiply(const ResidualNorm& in, TensorView logits);
  Status gather(TensorView logits);
  // Or, instead of the second, where tokens() is all that is wanted of the first `rows` rows: some
  // bytes a row travel, not the vocabulary. REQUIRES: can_gather_best().
  Status gather_best(int64_t rows);
  // Several shards, on a device that finds the best of a part.
  bool can_gather_best() const { return best_on_host_.data() != nullptr; }
  // Of each row the token of its largest logit, or what BestLogit has instead of one. REQUIRES: the
  // device has synchronised since.
  void tokens(std::vector<int32_t>& tokens) const;

 private:
  VocabParallelHead(Device& device, Communicator& shards, std::shared_ptr<const VocabTable> table,
                    int64_t rows_max)
      : device_(device), shards_(shards), table_(std::move(table)), rows_max_(rows_max) {}
  Status prepare_best();
  void place(ConstTensorView from, TensorView to);
  // The tokens of a shard's part.
  Range tokens_of(int shard) const;

  Device& device_;
  Communicator& shards_;
  std::shared_ptr<const VocabTable> table_;
  int64_t rows_max_;
  Buffer mine_;         // [rows_max, part], several shards
  Buffer all_;          // [shards * rows_max, part], several shards
  Buffer row_numbers_;  // 0, 1, 2, ... rows_max - 1, i32: likewise, several shards
  // [1 + shards, rows_max] BestLogit: this shard's, then those of all; on the host, all.
  Buffer best_, best_on_host_;
  int64_t best_rows_ = 0;
};

}  // namespace trireme
